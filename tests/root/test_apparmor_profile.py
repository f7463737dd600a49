"""The profile that the shim brings, compiled by this machine's parser: what it allows, and what no parser's may."""

import itertools
import shutil
from pathlib import Path

import pytest

from pouchrich.node import apparmor
from tests.root.apparmor_policy import Profile

SOURCE = Path(__file__).parents[2] / "pouchrich/node/pouchrich.apparmor"
VIEWS = ("/run/systemd/unit-root", "/run/systemd/mount-rootfs")
VIEW = VIEWS[0]
BIND, RBIND, MOVE = ("bind",), ("bind", "rec"), ("move",)
USUAL = ("nosuid", "nodev", "noexec")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(shutil.which("apparmor_parser") is None, reason="apparmor is not installed"),
]


@pytest.fixture(scope="module")
def profile() -> Profile:
    return Profile(str(SOURCE), apparmor.ABI)


def test_what_systemd_makes_a_sandboxed_unit_of_is_allowed(profile: Profile):
    wanted = [
        ("/", "", "", ("slave", "rec")),
        ("/", "", "", ("shared", "rec")),
        ("/dev/", "", "", ("slave", "rec")),
        ("/run/systemd/incoming/", "", "", ("slave",)),
        ("/tmp/namespace-dev-A/dev/", "tmpfs", "tmpfs", ("nosuid", "noexec", "strictatime")),
        ("/tmp/namespace-dev-A/dev/null", "/dev/null", "", BIND),
        ("/tmp/namespace-dev-A/dev/pts/", "/dev/pts/", "", BIND),
        ("/dev/shm/", "ramfs", "ramfs", USUAL),
        ("/dev/shm/", "", "", ("remount", "bind", "ro", *USUAL)),
        ("/mnt/", "", "", ("remount", "bind", "ro", "relatime")),
        ("/run/credentials/a.service/", "/dev/shm/", "", MOVE),
        ("/dev/mqueue/", "mqueue", "mqueue", USUAL),
        ("/dev/hugepages/", "hugetlbfs", "hugetlbfs", ()),
        ("/sys/fs/fuse/connections/", "fusectl", "fusectl", USUAL),
        ("/run/user/1000/", "tmpfs", "tmpfs", ("nosuid", "nodev")),
        ("/mnt/", "none", "tmpfs", ()),
        ("/srv/", "/opt/", "", RBIND),
    ]
    for view in VIEWS:
        wanted += [
            (f"{view}/", "/", "", RBIND),
            (f"{view}/proc/", "proc", "proc", USUAL),
            (f"{view}/proc/", "/proc/", "", RBIND),
            (f"{view}/tmp/", "/tmp/systemd-private-1/tmp/", "", RBIND),
            (f"{view}/usr/", f"{view}/usr/", "", RBIND),
            (f"{view}/run/systemd/incoming/", "/run/systemd/propagate/a.service/", "", BIND),
            (f"{view}/dev/", "/tmp/namespace-dev-A/dev/", "", MOVE),
            (f"{view}/dev/", "/run/systemd/namespace-A/dev/", "", MOVE),
            (f"{view}/proc/kcore", "/run/systemd/inaccessible/reg", "", RBIND),
            (f"{view}/home/", "/run/systemd/inaccessible/dir/", "", RBIND),
            (f"{view}/proc/sys/", f"{view}/proc/sys/", "", RBIND),
            (f"{view}/sys/kernel/debug/", f"{view}/sys/kernel/debug/", "", RBIND),
            (f"{view}/proc/sys/kernel/hostname", f"{view}/proc/sys/kernel/hostname", "", RBIND),
            *((f"{view}{path}", "", "", ("remount", "bind", "ro")) for path in ("/", "/usr/", "/sys/", "/proc/sys/")),
            ("/", f"{view}/", "", MOVE),
        ]
        assert profile.pivots(f"{view}/", f"{view}/")
    assert [one for one in wanted if not profile.mounts(*one)] == []


def test_no_file_system_of_the_kernels_is_mounted_but_a_views_procfs(profile: Profile):
    kinds = ("proc", "sysfs", "cgroup", "cgroup2", "securityfs", "debugfs", "tracefs", "bpf", "ext4", "overlay", "fuse")
    kinds += ("devtmpfs", "pstore", "hfs", "fusectl", "fuseblk", "futurefs", "msdos", "romfs", "reiserfs", "configfs")
    targets = ("/", "/mnt/", "/proc/", "/sys/", "/run/", "/run/x/", "/dev/", "/dev/shm/", "/run/systemd/incoming/")
    targets += tuple(f"{VIEW}{path}" for path in ("/", "/mnt/", "/sys/", "/proc/sys/", "/run/x/"))
    tried = itertools.product(targets, ("none", "/tmp/x"), kinds, ((), USUAL, ("ro",), ("silent",)))
    assert [one for one in tried if profile.mounts(*one)] == []


def test_procfs_and_sysfs_get_no_other_name(profile: Profile):
    sources = ["/proc/", "/proc/sys/", "/sys/", "/sys/fs/cgroup/", "/proc/sysrq-trigger", f"{VIEW}/proc/"]
    sources += [f"{VIEW}/sys/fs/cgroup/", "/run/x/unit-root/proc/", "/run/x/y/mount-rootfs/sys/"]
    targets = ("/mnt/", "/tmp/a", "/run/x/", "/dev/shm/", "/run/systemd/incoming/", "/proc/", f"{VIEW}/mnt/")
    tried = list(itertools.product(targets, sources, [""], (BIND, RBIND, MOVE, ("bind", "ro"))))
    tried += itertools.product(
        [f"{VIEW}/proc/sys/"], [f"{VIEW}/sys/kernel/debug/", f"{VIEW}/sys/kernel/"], [""], [RBIND]
    )
    above = ("/", "/run/", "/run/systemd/", f"{VIEW}/", f"{VIEW}/run/", "/run/x/unit-root/")
    tried += itertools.product(targets, above, [""], (RBIND, ("bind", "rec", "silent")))
    tried += itertools.product([f"{VIEW}/run/x/"], (*sources, f"{VIEW}/", "/run/x/unit-root/"), [""], (RBIND, MOVE))
    tried += itertools.product(targets, (f"{VIEW}/", "/run/"), [""], [MOVE])
    assert [one for one in tried if profile.mounts(*one)] == []
    # One that is mounted nowhere, by fsopen(2), has no source, or on some kernels the root.
    tried = itertools.product(targets, ("", "/"), [""], [MOVE])
    assert [one for one in tried if profile.mounts(*one)] == []
    for new, old in (("/mnt/", "/mnt/"), ("/mnt/", "/mnt/old/"), (f"{VIEW}/", f"{VIEW}/mnt/")):
        assert not profile.pivots(new, old)


def test_nothing_comes_over_them_and_neither_is_made_writable(profile: Profile):
    places = ("/proc/", "/proc/sys/", "/proc/1/attr/", "/sys/", "/sys/fs/cgroup/", f"{VIEW}/sys/fs/cgroup/")
    places += (f"{VIEW}/proc/1/attr/", f"{VIEW}/proc/sys/kernel/shmmax")
    tried = list(itertools.product(places, ("/tmp/x/", "/run/x/"), [""], (BIND, RBIND, MOVE)))
    tried += itertools.product(places, ["none"], ("tmpfs", "ramfs"), ((), ("nosuid",)))
    remounts = (("remount", "bind"), ("remount", "bind", *USUAL, "relatime"), ("remount",), ("remount", "ro"))
    tried += itertools.product((*places, f"{VIEW}/proc/sys/"), [""], [""], remounts)
    assert [one for one in tried if profile.mounts(*one)] == []


@pytest.mark.parametrize("top", ["", VIEW, f"{VIEW}/run/systemd/mount-rootfs", "/run/x/unit-root"])
def test_the_defaults_denials_hold_wherever_procfs_and_sysfs_are(profile: Profile, top: str):
    read = ("/proc/sys/kernel/core_pattern", "/proc/sys/vm/x", "/proc/sys/net/ipv4/ip_forward", "/proc/irq/1/x")
    read += ("/proc/kallsyms", "/proc/scsi/scsi", "/proc/sys/kernel/sem", "/proc/sys/kernel/domainname", "/proc/fs/x")
    read += ("/sys/kernel/mm/x", "/sys/fs/bpf/x", "/sys/devices/x/y", "/sys/module/x/y")
    neither = ("/proc/sysrq-trigger", "/proc/kcore", "/proc/mem", "/sys/firmware/efi/x", "/sys/kernel/security/x/y")
    neither += ("/sys/devices/virtual/powercap/a/b",)
    both = ("/proc/1/oom_score_adj", "/proc/9/attr/exec", "/sys/fs/cgroup/a/b", "/etc/x")
    both += () if top else ("/proc/sys/kernel/shmmax",)
    for paths, wanted in ((read, (True, False)), (neither, (False, False)), (both, (True, True))):
        found = {path: (profile.reads(top + path), profile.writes(top + path)) for path in paths}
        assert found == dict.fromkeys(paths, wanted)


@pytest.mark.parametrize(
    ("label", "signals", "traces"),
    [
        *((label, (True, True), True) for label in ("pouchrich", "pouchrich//&unconfined", "crun//&pouchrich")),
        *((label, (False, True), False) for label in ("unconfined", "crun", "runc")),
        *((label, (False, False), False) for label in ("pouchrich-2", "other", "cri-containerd.apparmor.d")),
    ],
)
def test_peers_are_the_profiles_own_stacked_too_and_the_host_may_signal(profile: Profile, label, signals, traces):
    assert (profile.signals(label), profile.traces(label)) == (signals, traces)


def test_a_parser_without_the_versions_file_takes_it_as_it_is_written_for_that(tmp_path, monkeypatch):
    features = apparmor.ABI
    monkeypatch.setattr(apparmor, "ABI", str(tmp_path / "none"))
    file = tmp_path / "pouchrich"
    file.write_text(apparmor.text(SOURCE.read_text()))
    assert "\nabi " not in file.read_text()
    assert Profile(str(file), features).mounts("/mnt/", "none", "tmpfs")

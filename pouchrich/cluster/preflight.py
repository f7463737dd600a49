"""Checks whether a node can have the shim, before anything is changed: what is wrong, why, and what to do."""

import os
import platform
import re
import shutil
from collections.abc import Iterator, Sequence

from pouchrich import checks, containerd_config, running
from pouchrich.checks import FAIL, OK, WARN, Check
from pouchrich.containerd_checks import CRI_DISABLED
from pouchrich.node import InstallError, unpacked
from pouchrich.node.layout import Layout
from pouchrich.running import Running
from runtime.config import load_node
from runtime.errors import NotFound, PouchrichError
from runtime.linux.apparmor import ENABLED as APPARMOR_ON
from runtime.oci.choose import choose

KERNEL = (5, 10)
CONTAINERD = (1, 6)
NEEDS_PATH = (1, 7)
"""The first containerd in which a handler may have the shim's path; older ones find it only on their PATH."""

ROOM_BYTES = 200 << 20
"""Free space to require: an unpacked artefact has 40 MiB, the previous version stays, and there is a margin."""

STACKS_PROFILES = (6, 17)
APPARMOR = "/sys/kernel/security/apparmor"
APPARMOR_USERNS = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"


def refuse(found: Sequence[Check]) -> None:
    """Raises InstallError with a line for each failed check."""
    if failed := [one for one in found if one.level == FAIL]:
        lines = "".join(f"\n  {one.what}: {one.found}\n    -> {one.advice}" for one in failed)
        raise InstallError(f"the shim cannot be installed on this node; nothing was changed:{lines}")


def node(layout: Layout) -> Iterator[Check]:
    """The checks that do not concern containerd."""
    machine = platform.machine()
    if machine not in unpacked.LOADERS:
        allowed = ", ".join(unpacked.LOADERS)
        yield Check(FAIL, "processor", f"found {machine}, allowed {allowed}", "there is no release for it")
    yield kernel(os.uname().release)
    yield from checks.kernel()
    yield from checks.cgroups()
    yield from apparmor(os.uname().release)
    yield room(layout)
    yield links(layout)


def kernel(release: str) -> Check:
    """Whether the kernel is new enough."""
    if _numbers(release) < KERNEL:
        allowed = ".".join(map(str, KERNEL))
        return Check(FAIL, "kernel", f"found {release}, allowed {allowed} and later", "boot a later kernel")
    return Check(OK, "kernel", release)


def _numbers(release: str) -> tuple[int, ...]:
    """Major and minor number of a kernel release, whatever suffix it has (uname(2))."""
    return tuple(map(int, re.findall(r"\d+", release)[:2]))


def room(layout: Layout) -> Check:
    """Whether there is room for the versions, on a file system that allows execution."""
    at = _nearest(layout.home)
    about = os.statvfs(at)
    free = about.f_bavail * about.f_frsize
    elsewhere = "or install elsewhere: --prefix DIR"
    if about.f_flag & os.ST_RDONLY:
        return Check(FAIL, at, "it is mounted read-only", f"remount it, {elsewhere}")
    if about.f_flag & os.ST_NOEXEC:
        return Check(FAIL, at, "it is mounted noexec, so no program runs from there", f"remount it, {elsewhere}")
    if free < ROOM_BYTES:
        found = f"found {free >> 20} MiB free, allowed {ROOM_BYTES >> 20} and more"
        return Check(FAIL, at, found, f"make room, {elsewhere}")
    return Check(OK, at, f"{free >> 20} MiB free")


def links(layout: Layout) -> Check:
    """Whether the symbolic links to the programs can be made."""
    at = _nearest(layout.bin)
    if os.statvfs(at).f_flag & os.ST_RDONLY:
        return Check(FAIL, at, "it is mounted read-only", "--bin DIR with a directory on containerd's PATH")
    return Check(OK, at, "takes the links to the programs")


def _nearest(path: str) -> str:
    """The directory itself, or its nearest existing parent."""
    while not os.path.isdir(path):
        path = os.path.dirname(path)
    return path


def apparmor(release: str, *, root: str = "") -> Iterator[Check]:
    """The AppArmor checks, see `pouchrich.apparmor_node`."""
    if _read(f"{root}{APPARMOR_ON}") != "Y":
        yield Check(OK, "AppArmor", "off")
        return
    if _numbers(release) >= STACKS_PROFILES and _read(f"{root}{APPARMOR}/features/domain/stack") == "yes":
        words = (
            "the kernel stacks profiles: agents and hooks in a container, and kubectl exec, cannot signal each other"
        )
        yield Check(WARN, "AppArmor", words, 'rich.apparmor-profile = "pouchrich"')
    else:
        yield Check(OK, "AppArmor", "on")
    if _read(f"{root}{APPARMOR_USERNS}") == "1":
        words = "unprivileged programs cannot create user namespaces: some units of systemd 259 and later hang"
        yield Check(WARN, "AppArmor", words, "sysctl -w kernel.apparmor_restrict_unprivileged_userns=0")


def containerd(one: Running, layout: Layout, config: str) -> Iterator[Check]:
    """containerd: whether it answers, its release, and an OCI runtime on its PATH. `config` is the node's file."""
    what = f"containerd at {one.socket}"
    if one.problem:
        yield Check(FAIL, what, one.problem, "start it, or remove the stale socket")
        return
    version = running.version(one)
    if version is None or version < CONTAINERD:
        found = "no version" if version is None else ".".join(map(str, version))
        yield Check(FAIL, what, f"version: found {found}, allowed 1.6 and later", "install a later containerd")
        return
    path = running.path_of(one.pid)
    if version < NEEDS_PATH and layout.bin not in path.split(":"):
        found = f"its PATH has no {layout.bin}, and containerd 1.6 finds a shim only by PATH"
        yield Check(
            FAIL, what, found, f"give --bin with a directory of {path}, or add {layout.bin} to the service's PATH"
        )
    try:
        disabled_in = containerd_config.cri_disabled_in(one.config)
    except NotFound:  # containerd has its defaults then
        disabled_in = ""
    except PouchrichError as err:
        yield Check(FAIL, what, str(err), "correct the configuration")
        return
    if disabled_in:
        advice = f"{CRI_DISABLED}; for Docker alone, install without --containerd"
        yield Check(FAIL, what, f"{disabled_in}: disabled_plugins: no kubelet can use a handler", advice)
    try:
        wanted = load_node(config, programs=False).runtime.binary or ""
        runtime, reason = choose(wanted, source=f"{config}: runtime.binary", path=path)
    except PouchrichError as err:
        yield Check(
            FAIL,
            "OCI runtime",
            str(err),
            "install crun or runc on that PATH, or correct runtime.binary in the node's file",
        )
    else:
        yield Check(OK, "OCI runtime", f"{runtime}: {reason}")
    yield Check(OK, what, f"{'.'.join(map(str, version))}, configuration {one.config}")


def finds_shim(one: Running, layout: Layout) -> bool:
    """Whether containerd's PATH leads to this installation's shim, or will once it is installed."""
    directories = running.path_of(one.pid).split(":")
    other = shutil.which(checks.SHIM, path=":".join(directories))
    ours = f"{layout.bin}/{checks.SHIM}"
    return layout.bin in directories and (other is None or os.path.realpath(other) == os.path.realpath(ours))


def the_one(wanted: str, address: str | None = None) -> Running:
    """The containerd of a distribution; with "auto" the only running one, or that at `address`. Raises InstallError."""
    kind = "containerd" if wanted in ("auto", "kubeadm") else wanted
    sockets = running.SOCKETS if address is None else ((kind, address),)
    there = [one for one in running.find(sockets) if wanted == "auto" or one.kind == kind]
    there = [one for one in there if one.pid] or there  # ignore sockets that nobody listens on
    if not there:
        places = ", ".join(path for _, path in sockets)
        raise InstallError(
            f"containerd: found none of kind {wanted} that listens at {places}: start it; nothing was changed"
        )
    if len(there) > 1:
        kinds = ", ".join(one.kind for one in there)
        raise InstallError(f"containerd: found {kinds}, allowed one: choose it by --containerd; nothing was changed")
    return there[0]


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read().strip()
    except OSError:
        return ""

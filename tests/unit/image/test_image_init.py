"""runtime.image.image_init: inits found in trees, hostile ones among them."""

import os

import pytest

from runtime.image import image, image_init
from runtime.init.detect import InitFacts


@pytest.fixture
def rootfs(tmp_path):
    root = tmp_path / "rootfs"
    for directory in ("bin", "sbin", "etc", "usr/lib/systemd/system"):
        (root / directory).mkdir(parents=True)
    program(root / "bin/app", "x")
    return root


def program(path, text, mode=0o755):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def facts(root, *, mounts=(), services=(), uid=0) -> InitFacts:
    spec = {
        "process": {"args": ["/bin/app"], "user": {"uid": uid}},
        "mounts": [{"destination": one} for one in mounts],
    }
    return image.read_facts(str(root), spec, services).init


def with_systemd(root):
    program(root / "usr/lib/systemd/systemd", "\0libsystemd-shared-252.so\0")
    (root / "sbin/init").symlink_to("/usr/lib/systemd/systemd")
    return root


def test_systemd_its_version_and_its_link(rootfs):
    found = facts(with_systemd(rootfs))
    assert (found.systemd, found.version, found.kind) == ("/usr/lib/systemd/systemd", 252, "systemd")


def test_systemd_below_lib_only(rootfs):
    program(rootfs / "lib/systemd/systemd", "systemd 219\0")
    assert (facts(rootfs).systemd, facts(rootfs).version) == ("/lib/systemd/systemd", 219)


def test_nothing_is_there(rootfs):
    found = facts(rootfs)
    assert (found.systemd, found.kind, found.inittab) == ("", "", None)
    assert found.problem == "/sbin/init: no such file or directory"


@pytest.mark.parametrize("path", ["usr/lib/systemd/systemd", "sbin/init"])
def test_what_cannot_be_executed_is_no_init(rootfs, path):
    program(rootfs / path, "libsystemd-shared-252", 0o644)
    found = facts(rootfs)
    assert (found.systemd, found.kind) == ("", "")
    os.unlink(rootfs / path)
    os.mkfifo(rootfs / path, 0o755)
    assert (facts(rootfs).systemd, facts(rootfs).kind) == ("", "")


def test_an_init_below_a_mount_of_the_pod_is_not_the_images(rootfs):
    found = facts(with_systemd(rootfs), mounts=["/usr"])
    assert (found.systemd, found.kind, found.problem) == ("", "", "/sbin/init: it is below the mount at /usr")


def test_no_link_leads_out_of_the_root(rootfs, tmp_path):
    program(tmp_path / "outside", "libsystemd-shared-252.so")
    (tmp_path / "passwd").write_text("x:x:0:0::/outside:\n")
    (rootfs / "sbin/init").symlink_to("../../outside")
    (rootfs / "usr/lib/systemd/systemd").symlink_to(str(tmp_path / "outside"))
    for name in ("inittab", "passwd"):
        (rootfs / "etc" / name).symlink_to(f"../../{name}")
    found = facts(rootfs)
    assert (found.systemd, found.kind, found.inittab, found.home) == ("", "", None, None)


def test_the_inittab_is_bounded_and_text_whatever_it_is(rootfs):
    (rootfs / "etc/inittab").write_bytes(b"\xff" * 1_000_000)
    assert len(facts(rootfs).inittab) == 64 * 1024
    os.unlink(rootfs / "etc/inittab")
    os.mkfifo(rootfs / "etc/inittab")
    assert facts(rootfs).inittab == ""


def test_the_start_scripts_are_seen(rootfs):
    program(rootfs / "etc/init.d/rc", "")
    program(rootfs / "sbin/openrc", "")
    program(rootfs / "sbin/init", "no more processes left in this runlevel")
    found = facts(rootfs)
    assert (found.kind, found.present) == ("openrc", ("/etc/init.d/rc", "/sbin/openrc"))


def test_services_are_units_templates_and_scripts(rootfs):
    for name in ("cron.service", "getty@.service", "x.socket"):
        program(rootfs / "usr/lib/systemd/system" / name, "")
    program(rootfs / "etc/init.d/old", "")
    asked = ("cron", "getty@tty1", "x.socket", "old", "none", "x")
    found = facts(rootfs, services=asked)
    units = "/usr/lib/systemd/system"
    assert {name: path for name, path in found.services if path} == {
        "cron": f"{units}/cron.service",
        "getty@tty1": f"{units}/getty@.service",
        "x.socket": f"{units}/x.socket",
    }
    assert {name: path for name, path in found.scripts if path} == {"old": "/etc/init.d/old"}


@pytest.mark.parametrize(
    ("line", "home"),
    [
        (b"app:x:1000:1000:a,b:/home/app:/bin/sh", "/home/app"),
        (b"other:x:1:1::/o:\napp:x:1000:1::/first:\nb:x:1000:1::/second:", "/first"),
        (b"app:x:01000:1::/h:", None),
        (b"app:x:1000:1::relative:", None),
        (b"app:x:1000:1::/a\x1bb:", None),
        (b"app:x:1000:1::/a:/bin/sh:more", None),
        (b"", None),
    ],
)
def test_a_home_directory_is_read_by_our_own_parser(line, home):
    assert image_init.home_of(line, 1000) == home


ID = "0123456789abcdef0123456789abcdef\n"


@pytest.mark.parametrize(
    ("text", "known"), [(ID, True), (ID.strip(), True), (None, False), ("", False), ("uninitialized\n", False)]
)
def test_an_image_has_a_machine_id_or_none(rootfs, text, known):
    if text is not None:
        (rootfs / "etc/machine-id").write_text(text)
    assert facts(with_systemd(rootfs)).machine_id is known


def test_a_fifo_in_a_machine_ids_place_is_none_and_holds_nobody_up(rootfs):
    os.mkfifo(rootfs / "etc/machine-id")
    assert facts(with_systemd(rootfs)).machine_id is False


@pytest.mark.parametrize("link", ["etc/machine-id", "etc"])
def test_a_link_in_a_machine_ids_place_is_left_alone(rootfs, link):
    """By it a file would be mounted where the image says, in a volume of the pod's say."""
    if link == "etc":
        (rootfs / "etc").rename(rootfs / "elsewhere")
    (rootfs / link).symlink_to("/elsewhere")
    assert facts(with_systemd(rootfs)).machine_id is True

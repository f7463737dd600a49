"""runtime.image.beneath: what is opened below a hostile root, as inotify(7) tells it, and what is not."""

import ast
import fcntl
import os
import signal
import stat
from contextlib import contextmanager

import pytest

from runtime.errors import InvalidArgument
from runtime.image import beneath, image, passwd
from runtime.linux import syscalls
from tests import sources

IN_OPEN = 0x20
PLACES = (
    *("etc/inittab", "etc/passwd", "etc/group", "etc/profile.d/pouchenv.sh", "init", "sbin/init", "sbin/openrc"),
    *("usr/lib/systemd/systemd", "lib/systemd/systemd", "etc/systemd/system/cron.service", "etc/init.d/cron"),
    *("etc/init.d/rcS", "etc/init.d/rc", "usr/lib/systemd/system-generators/systemd-sysv-generator", "bin/sh"),
)


@contextmanager
def opens():
    """Watch files, and learn whether any was opened: the function takes a path, the list says what was opened."""
    fd = syscalls.inotify_init1()
    names, seen = {}, []
    try:
        yield lambda path: names.update({syscalls.inotify_add_watch(fd, path, IN_OPEN): str(path)}), seen
        try:
            while data := os.read(fd, 16):
                seen.append(names[int.from_bytes(data[:4], "little")])
        except BlockingIOError:
            pass
    finally:
        os.close(fd)


@pytest.fixture
def root(tmp_path):
    fd = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    yield fd
    os.close(fd)


def make(path, kind):
    path.parent.mkdir(parents=True, exist_ok=True)
    if kind == "fifo":
        os.mkfifo(path, 0o777)
    elif kind == "socket":
        os.mknod(path, stat.S_IFSOCK | 0o777)
    elif kind == "device":
        os.mknod(path, stat.S_IFCHR | 0o777, os.makedev(1, 3))  # null: whoever opens it by mistake does no harm
    else:
        path.write_text("x")


KINDS = ["fifo", "socket", pytest.param("device", marks=pytest.mark.skipif(os.geteuid() != 0, reason="needs root"))]


def test_a_regular_file_is_read_up_to_the_size_asked_for(tmp_path, root):
    (tmp_path / "file").write_bytes(b"0123456789")
    (tmp_path / "link").symlink_to("/../../file")
    assert [beneath.read(root, path, size) for path, size in (("/link", 4), ("file", 4096), ("file", 0))] == [
        b"0123",
        b"0123456789",
        b"",
    ]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("linked", [False, True])
def test_nothing_but_a_regular_file_is_opened(tmp_path, root, kind, linked):
    make(tmp_path / "file", kind)
    make(tmp_path / "regular", "regular")
    (tmp_path / "link").symlink_to("file")
    with opens() as (watch, seen):
        watch(tmp_path / "file")
        watch(tmp_path / "regular")
        with pytest.raises(beneath.NotRegularError):
            beneath.read(root, "/link" if linked else "/file", 16)
        beneath.read(root, "/regular", 16)
    assert seen == [str(tmp_path / "regular")]


@pytest.mark.parametrize("kind", KINDS)
def test_looking_into_an_image_opens_no_device_fifo_or_socket(tmp_path, root, kind):
    for path in PLACES:
        make(tmp_path / path, kind)
    with opens() as (watch, seen):
        for path in PLACES:
            watch(tmp_path / path)
        for command in ("/init", "/sbin/init", "sh"):
            spec = {"process": {"args": [command], "env": ["PATH=/bin"]}}
            image.read_facts(str(tmp_path), spec, ("cron", "cron@x.timer"))
        for user in ("root", "0:adm"):
            with pytest.raises(InvalidArgument, match="found no regular file, allowed one"):
                passwd.resolve(root, user)
    assert seen == []


def test_a_lease_on_a_file_holds_nobody_up(tmp_path, root):
    """Its holder shares the file with another container: fcntl(2), F_SETLEASE."""
    (tmp_path / "file").write_text("x")
    with open(tmp_path / "file") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        before = signal.signal(signal.SIGIO, signal.SIG_IGN)
        try:
            with pytest.raises(BlockingIOError):
                beneath.read(root, "/file", 1)
        finally:
            signal.signal(signal.SIGIO, before)


def test_nobody_else_opens_anything_below_a_root():
    """Every openat2(2) elsewhere is with O_PATH, which opens nothing."""
    found = {}
    for path in sources.modules("runtime", "shim", "pouchrich"):
        for node in sources.nodes(path, "openat2"):
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("openat2"):
                found[f"{sources.name(path)}:{node.lineno}"] = ast.unparse(node)
    assert len(found) >= 4
    assert [place for place, call in found.items() if "O_PATH" not in call and "linux/syscalls" not in place] == []


def test_the_mode_is_that_of_the_path_below_the_root_itself(root, tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/file").touch(0o640)
    os.symlink("/etc", tmp_path / "link")
    assert beneath.mode_of(root, "/etc/file") == beneath.mode_of(root, "link/file") == (stat.S_IFREG | 0o640, "")
    assert beneath.mode_of(root, "/link") == (stat.S_IFLNK | 0o777, "/etc")
    with pytest.raises(FileNotFoundError):
        beneath.mode_of(root, "/etc/passwd")

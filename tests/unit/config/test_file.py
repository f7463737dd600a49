"""runtime.config.file: what may be opened, and by whom it may have been written."""

import os
import stat

import pytest

from runtime import config
from runtime.config import file as config_file
from runtime.config.document import MAX_BYTES
from runtime.errors import InvalidArgument, NotFound


def load(path):
    return config.load(str(path), require_root_owned=False)


def test_a_file_is_loaded_and_named_as_source(tmp_path):
    path = tmp_path / "c.toml"
    path.write_text("version = 1\nrich.mode = 'auto'")
    assert load(path).source_of("rich.mode") == f"{path}: rich.mode"


def test_a_missing_file_is_not_found(tmp_path):
    with pytest.raises(NotFound, match="no such file or directory"):
        load(tmp_path / "c.toml")


def test_a_directory_is_no_configuration(tmp_path):
    with pytest.raises(InvalidArgument, match="found a directory, allowed a regular file"):
        load(tmp_path)


def test_a_fifo_without_a_writer_does_not_block(tmp_path):
    os.mkfifo(tmp_path / "c.toml")
    with pytest.raises(InvalidArgument, match="found a FIFO, allowed a regular file"):
        load(tmp_path / "c.toml")


def test_a_device_is_no_configuration():
    with pytest.raises(InvalidArgument, match="found a character device, allowed a regular file"):
        load("/dev/zero")


def test_a_file_beyond_the_limit_is_refused(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"#" * (MAX_BYTES + 1))
    with pytest.raises(InvalidArgument, match=f"found more than {MAX_BYTES} bytes, allowed at most"):
        load(path)


def test_bytes_that_are_not_utf8_are_refused_with_their_place(tmp_path):
    path = tmp_path / "c.toml"
    path.write_bytes(b"version = 1 # \xff")
    with pytest.raises(InvalidArgument, match="found byte 0xff at 14, allowed UTF-8"):
        load(path)


def test_a_nul_in_the_name_is_an_invalid_argument():
    with pytest.raises(InvalidArgument):
        load("/etc/\0")
    with pytest.raises(InvalidArgument, match="allowed an absolute one"):
        config.load("/etc/\0")
    with pytest.raises(InvalidArgument, match="found a relative path, allowed an absolute one"):
        config.load("etc/x")


DIRECTORY, REGULAR, LINK = stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFLNK | 0o777


class Tree:
    """A fake file system: path to (mode, uid), links to their targets."""

    def __init__(self, entries, links=()):
        self.entries = {"/": (DIRECTORY, 0), **entries}
        self.links = dict(links)

    def lstat(self, path):
        if path not in self.entries:
            raise FileNotFoundError(2, "No such file or directory", path)
        mode, uid = self.entries[path]
        return os.stat_result((mode, 0, 0, 1, uid, 0, 0, 0, 0, 0))

    def readlink(self, path):
        return self.links[path]

    def trusted(self, path):
        return config_file.trusted_path(path, lstat=self.lstat, readlink=self.readlink)


def test_a_path_that_is_roots_all_the_way_is_trusted():
    assert Tree({"/etc": (DIRECTORY, 0), "/etc/c": (REGULAR, 0)}).trusted("/etc/./c") == "/etc/c"


@pytest.mark.parametrize(
    ("entry", "mode", "uid", "message"),
    [
        ("/etc", DIRECTORY, 1000, "/etc: owner: found uid 1000, allowed uid 0 (root)"),
        ("/etc", DIRECTORY | 0o002, 0, "/etc: permissions: found 0757, allowed writable by root only"),
        ("/etc", DIRECTORY | 0o020, 0, "/etc: permissions: found 0775, allowed writable by root only"),
        ("/etc/c", REGULAR, 1000, "/etc/c: owner: found uid 1000, allowed uid 0 (root)"),
        ("/etc/c", REGULAR | 0o020, 0, "/etc/c: permissions: found 0664, allowed writable by root only"),
        ("/etc/c", REGULAR | 0o1002, 0, "/etc/c: permissions: found 1646, allowed writable by root only"),
        ("/", DIRECTORY | 0o002, 0, "/: permissions: found 0757, allowed writable by root only"),
    ],
)
def test_what_another_could_have_written_is_refused(entry, mode, uid, message):
    tree = Tree({"/etc": (DIRECTORY, 0), "/etc/c": (REGULAR, 0)})
    tree.entries[entry] = (mode, uid)
    with pytest.raises(InvalidArgument) as caught:
        tree.trusted("/etc/c")
    assert str(caught.value) == message


def test_a_sticky_directory_of_roots_lets_nobody_replace_what_is_roots():
    tree = Tree({"/tmp": (DIRECTORY | 0o1022, 0), "/tmp/c": (REGULAR, 0)})
    assert tree.trusted("/tmp/c") == "/tmp/c"
    tree.entries["/tmp/c"] = (REGULAR, 1000)
    with pytest.raises(InvalidArgument, match="/tmp/c: owner: found uid 1000"):
        tree.trusted("/tmp/c")


def test_links_are_followed_and_both_sides_checked():
    tree = Tree(
        {
            "/etc": (DIRECTORY, 0),
            "/etc/c": (LINK, 0),
            "/home": (DIRECTORY, 0),
            "/home/u": (DIRECTORY, 1000),
            "/home/u/c": (REGULAR, 0),
            "/srv": (DIRECTORY, 0),
            "/srv/c": (REGULAR, 0),
        },
        {"/etc/c": "../srv/c"},
    )
    assert tree.trusted("/etc/c") == "/srv/c"
    tree.links["/etc/c"] = "/home/u/c"
    with pytest.raises(InvalidArgument, match="/home/u: owner: found uid 1000"):
        tree.trusted("/etc/c")
    tree.entries["/etc/c"] = (LINK, 1000)
    with pytest.raises(InvalidArgument, match="/etc/c: owner: found uid 1000"):
        tree.trusted("/etc/c")


def test_a_circle_of_links_ends():
    tree = Tree({"/a": (LINK, 0)}, {"/a": "/a"})
    with pytest.raises(InvalidArgument, match="found more than 40 symbolic links, allowed at most"):
        tree.trusted("/a")


@pytest.mark.parametrize(("count", "is_followed"), [(40, True), (41, False)])
def test_as_many_links_are_followed_as_by_the_kernel(count, is_followed):
    tree = Tree({f"/{number}": (LINK, 0) for number in range(count)}, {f"/{n}": f"/{n + 1}" for n in range(count)})
    tree.entries[f"/{count}"] = (REGULAR, 0)
    if is_followed:
        assert tree.trusted("/0") == f"/{count}"
    else:
        with pytest.raises(InvalidArgument, match="more than 40"):
            tree.trusted("/0")


def test_what_was_opened_is_checked_again(tmp_path, monkeypatch):
    path = tmp_path / "c.toml"
    path.write_text("version = 1\n")
    path.chmod(0o666)
    monkeypatch.setattr(config_file, "trusted_path", lambda path: path)
    with pytest.raises(InvalidArgument, match=r"found (mode|uid|0666)|owner|mode"):
        config.load(str(path))


def test_the_program_of_a_files_host_hook_is_checked_too(tmp_path, monkeypatch):
    path = tmp_path / "c.toml"
    path.write_text('version = 1\nhooks.poststop = [{where = "host", command = ["/nonexistent-directory/x"]}]\n')
    real = config_file.trusted_path
    monkeypatch.setattr(config_file, "trusted_path", lambda one: one if one == str(path) else real(one))
    monkeypatch.setattr(config_file, "_refuse_if_untrusted", lambda path, found: None)
    with pytest.raises(InvalidArgument, match=r"hooks\.poststop\[0\]\.command\[0\]: found /nonexistent-directory/x"):
        config.load(str(path))


def test_a_missing_part_is_not_found():
    with pytest.raises(NotFound, match="/etc/c: no such file or directory"):
        Tree({"/etc": (DIRECTORY, 0)}).trusted("/etc/c")


def test_a_missing_node_file_means_the_defaults(tmp_path):
    assert config.load_node("/nonexistent-directory/config.toml") == config.DEFAULT


def test_a_handler_with_neither_path_nor_keys_lost_its_policy():
    with pytest.raises(InvalidArgument, match=r"found neither ConfigPath nor keys, allowed ConfigPath = FILE"):
        config.for_handler(config_path="", config_body=b" \n")


def test_a_handlers_inline_keys_are_its_configuration():
    found = config.for_handler(config_path="", config_body=b"version = 1\n[rich]\nenabled = false\n")
    assert found.rich.enabled is False
    assert found.source_of("rich.enabled") == "handler options: rich.enabled"


def test_a_handlers_missing_file_is_an_error():
    with pytest.raises(NotFound, match="/nonexistent-directory/c"):
        config.for_handler(config_path="/nonexistent-directory/c", config_body=b"")


def test_inline_keys_that_are_not_utf8_are_refused():
    with pytest.raises(InvalidArgument, match="handler options: found a byte that is not UTF-8 at 0, allowed UTF-8"):
        config.for_handler(config_path="", config_body=b"\xff")


def test_the_program_of_a_host_hook_is_checked_like_the_file():
    body = b'version = 1\nhooks.prestart = [{where = "host", command = ["/nonexistent-directory/x"]}]'
    with pytest.raises(InvalidArgument) as caught:
        config.for_handler(config_path="", config_body=body)
    assert str(caught.value).startswith(
        "handler options: hooks.prestart[0].command[0]: found /nonexistent-directory/x: no such file"
    )

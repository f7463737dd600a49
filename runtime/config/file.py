"""Configuration files: opened without trust, read with a limit, refused where others than root can write them.

This is the only module of the package that touches the file system.
"""

import os
import stat
from collections.abc import Callable

from runtime.config.document import DEFAULT, MAX_BYTES, parse
from runtime.config.location import NODE_FILE
from runtime.config.model import Config
from runtime.errors import InvalidArgument, NotFound

Lstat = Callable[[str], os.stat_result]

_MAX_LINKS = 40
"""The kernel's own limit (path_resolution(7))."""


class NotRootsAlone(InvalidArgument):
    """A file, or a directory or link that leads to it, can be changed by others than root."""


def _refuse_if_untrusted(path: str, found: os.stat_result) -> None:
    if found.st_uid != 0:
        raise NotRootsAlone(f"{path}: owner: found uid {found.st_uid}, allowed uid 0 (root)")
    # A link's own mode is always 0777 and means nothing: the directory's mode decides who may replace it. In a sticky
    # directory that is root's, only root can rename or remove what is root's (inode(7)), and every name below it is
    # checked to be root's. An ACL that lets others write shows in the group bits, which are its mask (acl(5)).
    is_sticky = stat.S_ISDIR(found.st_mode) and found.st_mode & stat.S_ISVTX
    if not stat.S_ISLNK(found.st_mode) and not is_sticky and found.st_mode & 0o022:
        mode = stat.S_IMODE(found.st_mode)
        raise NotRootsAlone(f"{path}: permissions: found {mode:04o}, allowed writable by root only")


def trusted_path(path: str, *, lstat: Lstat = os.lstat, readlink: Callable[[str], str] = os.readlink) -> str:
    """Resolve `path` and check that nobody but root can change what it leads to.

    Every directory and symbolic link on the way, and the file, must belong to root; the file and the directories
    (except sticky ones) must be writable by nobody else. Used for configuration files and for the programs of host
    hooks. Returns the path without links. Raises NotFound where something is missing, otherwise InvalidArgument naming
    the offending path.
    """
    if not path.startswith("/") or "\0" in path:
        raise InvalidArgument(f"{path!r}: found a relative path, allowed an absolute one")
    todo = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    at, links = "/", 0
    try:
        _refuse_if_untrusted(at, lstat(at))
        while todo:
            part = todo.pop()
            if part == "..":
                at = os.path.dirname(at)
                continue
            step = os.path.join(at, part)
            found = lstat(step)
            _refuse_if_untrusted(step, found)
            if not stat.S_ISLNK(found.st_mode):
                at = step
                continue
            links += 1
            if links > _MAX_LINKS:
                raise InvalidArgument(f"{path}: found more than {_MAX_LINKS} symbolic links, allowed at most that")
            target = readlink(step)
            at = "/" if target.startswith("/") else at
            todo += [part for part in reversed(target.split("/")) if part not in ("", ".")]
    except FileNotFoundError as err:
        raise NotFound(f"{path}: no such file or directory") from err
    except OSError as err:
        raise InvalidArgument(f"{path}: {os.strerror(err.errno or 0).lower()}") from err
    return at


def _read(path: str, *, require_root_owned: bool) -> str:
    try:
        # O_NONBLOCK: opening a FIFO must not wait for a writer. For a regular file it changes nothing.
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC)
    except FileNotFoundError as err:
        raise NotFound(f"{path}: no such file or directory") from err
    except (OSError, ValueError) as err:
        reason = os.strerror(err.errno or 0).lower() if isinstance(err, OSError) else str(err)
        raise InvalidArgument(f"{path}: cannot open: {reason}") from err
    try:
        found = os.fstat(fd)
        if not stat.S_ISREG(found.st_mode):
            raise InvalidArgument(f"{path}: found {_file_type(found.st_mode)}, allowed a regular file")
        if require_root_owned:
            # Again on the open file: the walk checked names, and a name may have changed since.
            _refuse_if_untrusted(path, found)
        with open(fd, "rb", closefd=False) as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as err:
        raise InvalidArgument(f"{path}: cannot read: {os.strerror(err.errno or 0).lower()}") from err
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise InvalidArgument(f"{path}: found more than {MAX_BYTES} bytes, allowed at most that")
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as err:
        raise InvalidArgument(f"{path}: found byte 0x{data[err.start]:02x} at {err.start}, allowed UTF-8") from err


def _file_type(mode: int) -> str:
    names = {
        stat.S_IFDIR: "a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFCHR: "a character device",
        stat.S_IFBLK: "a block device",
    }
    return names.get(stat.S_IFMT(mode), "something else")


def load(path: str, *, require_root_owned: bool = True, programs: bool = True) -> Config:
    """Read the configuration file at `path`.

    With `require_root_owned` the file and all directories and links that lead to it must belong to root and be writable
    by nobody else, and with `programs` also the programs of its host hooks (`check_host_commands`). Raises NotFound
    where the file is missing, InvalidArgument otherwise.
    """
    resolved = trusted_path(path) if require_root_owned else path
    config = parse(_read(resolved, require_root_owned=require_root_owned), source=path)
    if require_root_owned and programs:
        check_host_commands(config)
    return config


def host_commands(config: Config) -> list[str]:
    """The programs of all hooks that run on the host."""
    hooks = (*config.hooks.prestart, *config.hooks.poststop)
    return [hook.command[0] for hook in hooks if hook.where == "host"]


def check_host_commands(config: Config) -> None:
    """Raise InvalidArgument unless every host hook's program exists and only root can write it.

    A file system that a program is on may not answer (NFS, FUSE, autofs).
    """
    for stage, hooks in (("prestart", config.hooks.prestart), ("poststop", config.hooks.poststop)):
        for index, hook in enumerate(hooks):
            if hook.where != "host":
                continue
            try:
                trusted_path(hook.command[0])
            except (InvalidArgument, NotFound) as err:
                key = f"hooks.{stage}[{index}].command[0]"
                allowed = "a program that root owns and nobody else can write, including the directories above it"
                raise InvalidArgument(f"{config.source}: {key}: found {err}, allowed {allowed}") from err


def load_node(path: str = NODE_FILE, *, programs: bool = True) -> Config:
    """The node's configuration: its file, or the defaults where there is none. Raises InvalidArgument."""
    try:
        return load(path, programs=programs)
    except NotFound:
        return DEFAULT


def for_handler(*, config_path: str, config_body: bytes, programs: bool = True) -> Config:
    """The configuration of a handler with `runtimeoptions.v1.Options`; it replaces the node file entirely.

    Raises InvalidArgument where both are empty: containerd 1.6 silently drops every inline key, and a lost policy must
    not become the default. Raises NotFound where `config_path` is missing.
    """
    if config_path:
        try:
            return load(config_path, programs=programs)
        except NotFound as err:
            raise NotFound(f"handler options: ConfigPath: {err}") from err
    if not config_body.strip():
        raise InvalidArgument(
            "handler options: found neither ConfigPath nor keys, allowed ConfigPath = FILE"
            " (containerd 1.6 passes no other key), or a configuration file's keys (containerd 1.7 and later)"
        )
    try:
        text = config_body.decode("utf-8")
    except UnicodeDecodeError as err:
        raise InvalidArgument(f"handler options: found a byte that is not UTF-8 at {err.start}, allowed UTF-8") from err
    config = parse(text, source="handler options")
    if programs:
        check_host_commands(config)
    return config

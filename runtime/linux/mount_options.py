"""Sorts the option words of a mount request into what mount(2) and its helpers take. Pure.

The words are containerd's (core/mount, `parseMountOptions`), and so is the rule that an unknown word belongs to the
file system. The propagation words are mount(8)'s: containerd knows the flags but has no words for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from runtime.errors import InvalidArgument
from runtime.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SET: Mapping[str, int] = {
    "bind": syscalls.MS_BIND,
    "dirsync": syscalls.MS_DIRSYNC,
    "mand": syscalls.MS_MANDLOCK,
    "noatime": syscalls.MS_NOATIME,
    "nodev": syscalls.MS_NODEV,
    "nodiratime": syscalls.MS_NODIRATIME,
    "noexec": syscalls.MS_NOEXEC,
    "nosuid": syscalls.MS_NOSUID,
    "rbind": syscalls.MS_BIND | syscalls.MS_REC,
    "relatime": syscalls.MS_RELATIME,
    "remount": syscalls.MS_REMOUNT,
    "ro": syscalls.MS_RDONLY,
    "strictatime": syscalls.MS_STRICTATIME,
    "sync": syscalls.MS_SYNCHRONOUS,
}
_CLEAR: Mapping[str, int] = {
    "async": syscalls.MS_SYNCHRONOUS,
    "atime": syscalls.MS_NOATIME,
    "dev": syscalls.MS_NODEV,
    "diratime": syscalls.MS_NODIRATIME,
    "exec": syscalls.MS_NOEXEC,
    "nomand": syscalls.MS_MANDLOCK,
    "norelatime": syscalls.MS_RELATIME,
    "nostrictatime": syscalls.MS_STRICTATIME,
    "rw": syscalls.MS_RDONLY,
    "suid": syscalls.MS_NOSUID,
}
_PROPAGATION: Mapping[str, int] = {
    "private": syscalls.MS_PRIVATE,
    "rprivate": syscalls.MS_PRIVATE | syscalls.MS_REC,
    "rshared": syscalls.MS_SHARED | syscalls.MS_REC,
    "rslave": syscalls.MS_SLAVE | syscalls.MS_REC,
    "runbindable": syscalls.MS_UNBINDABLE | syscalls.MS_REC,
    "shared": syscalls.MS_SHARED,
    "slave": syscalls.MS_SLAVE,
    "unbindable": syscalls.MS_UNBINDABLE,
}
# Mount-manager options that containerd 2.2 handles itself. An option that gets here was not handled.
_RESERVED = "X-containerd."


class MountOptions(NamedTuple):
    """The sorted options. `data` has the file system's words; `uidmap` and `gidmap` are both set or both empty."""

    flags: int = 0
    propagation: int = 0
    data: tuple[str, ...] = ()
    loop: bool = False
    direct_io: bool = False
    uidmap: str = ""
    gidmap: str = ""


def parse(words: Iterable[str]) -> MountOptions:
    """Sort `words`; of two contradicting words the later one wins.

    Raises InvalidArgument for a reserved option, and for `uidmap=` or `gidmap=` without the other.
    """
    flags = propagation = 0
    special = {"loop": False, "direct-io": False}
    maps = {"uidmap": "", "gidmap": ""}
    data: list[str] = []
    for word in words:
        key, _, value = word.partition("=")
        if word in _SET:
            flags |= _SET[word]
        elif word in _CLEAR:
            flags &= ~_CLEAR[word]
        elif word in _PROPAGATION:
            propagation = _PROPAGATION[word]
        elif word in special:
            special[word] = True
        elif key in maps:
            maps[key] = value
        elif word.startswith(_RESERVED):
            raise InvalidArgument(f"mount option {word!r}: {_RESERVED} options are for containerd to act on")
        elif word:
            data.append(word)
    if bool(maps["uidmap"]) != bool(maps["gidmap"]):
        raise InvalidArgument(
            f"mount options uidmap={maps['uidmap']!r}, gidmap={maps['gidmap']!r}: both or neither must be set"
        )
    return MountOptions(
        flags=flags,
        propagation=propagation,
        data=tuple(data),
        loop=special["loop"],
        direct_io=special["direct-io"],
        uidmap=maps["uidmap"],
        gidmap=maps["gidmap"],
    )

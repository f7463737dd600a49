"""Users and groups as an image defines them: read from its passwd and group files, never from the host's NSS.

Formats: passwd(5), group(5). The files are the image's and may contain anything: they are read through
`runtime.image.beneath`, must be regular files of a bounded size, and a line in another format is skipped.
"""

import os
from collections.abc import Iterator
from typing import NamedTuple

from runtime.errors import InvalidArgument
from runtime.image import beneath

PASSWD = "/etc/passwd"
GROUP = "/etc/group"
MAX_BYTES = 1 << 20
MAX_GROUPS = 1024
SHOWN = 100
"""The most characters of a name that an error shows."""

MAX_ID = 2**32 - 2
"""The highest ID. The next number, (uid_t)-1, means "leave as it is" to the kernel."""


class User(NamedTuple):
    """A user, with IDs as seen in the container. `name` and `home` are "" where the image does not say."""

    uid: int
    gid: int = 0
    groups: tuple[int, ...] = ()
    name: str = ""
    home: str = ""


def resolve(root: int, wanted: str) -> User:
    """The user `wanted` (`USER`, `UID`, `USER:GROUP`, `UID:GID`) in the root filesystem at descriptor `root`.

    As in runc, a numeric user need not be listed (its group is then 0). A given group is the only one; otherwise the
    user has its own group and those that list it. Digits are a number, never a name. Raises InvalidArgument.
    """
    name, colon, group = wanted.partition(":")
    user = _user(_read(root, PASSWD), name)
    if colon:
        return User(user.uid, _group(_read(root, GROUP), group), (), user.name, user.home)
    groups = _listing(_read(root, GROUP), user) if user.name else ()
    return User(user.uid, user.gid, groups, user.name, user.home)


def resolve_below(rootfs: str, wanted: str) -> User:
    """`resolve` in the directory at host path `rootfs`, which may be /proc/PID/root. Also raises OSError."""
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return resolve(root, wanted)
    finally:
        os.close(root)


def _user(text: bytes, wanted: str) -> User:
    number = _id(wanted.encode(errors="replace"))
    for fields in _lines(text, 7):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is None or gid is None:
            continue
        if uid == number or (number is None and fields[0] == wanted.encode(errors="replace")):
            return User(uid, gid, (), os.fsdecode(fields[0]), os.fsdecode(fields[5]))
    if number is None:
        raise InvalidArgument(f"user: found {wanted[:SHOWN]!r}, allowed a number or a name in the container's {PASSWD}")
    return User(number)


def _group(text: bytes, wanted: str) -> int:
    number = _id(wanted.encode(errors="replace"))
    if number is not None:
        return number
    for fields in _lines(text, 4):
        gid = _id(fields[2])
        if gid is not None and fields[0] == wanted.encode(errors="replace"):
            return gid
    raise InvalidArgument(f"group: found {wanted[:SHOWN]!r}, allowed a number or a name in the container's {GROUP}")


def _listing(text: bytes, user: User) -> tuple[int, ...]:
    """The groups that list the user as a member, without its own group, in the file's order."""
    name = os.fsencode(user.name)
    found: dict[int, None] = {}
    for fields in _lines(text, 4):
        gid = _id(fields[2])
        if gid is not None and gid != user.gid and name in fields[3].split(b","):
            found[gid] = None
            if len(found) == MAX_GROUPS:
                break
    return tuple(found)


def _lines(text: bytes, count: int) -> Iterator[list[bytes]]:
    for line in text.split(b"\n"):
        fields = line.strip().split(b":")
        if len(fields) == count and fields[0] and not line.startswith((b"#", b"+", b"-")):
            yield fields


def _id(text: bytes) -> int | None:
    if not text.isdigit() or len(text) > 10:
        return None
    number = int(text)
    return number if number <= MAX_ID else None


def _read(root: int, path: str) -> bytes:
    """The file's text; empty if there is none. Raises InvalidArgument if it is no regular file, or too large."""
    try:
        text = beneath.read(root, path, MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except beneath.NotRegularError as err:
        raise InvalidArgument(f"{path} in the container: found no regular file, allowed one") from err
    except OSError as err:
        raise InvalidArgument(f"{path} in the container: {os.strerror(err.errno or 0).lower()}") from err
    if len(text) > MAX_BYTES:
        raise InvalidArgument(f"{path} in the container: found more than {MAX_BYTES} bytes, allowed at most that")
    return text

"""Private namespaces for a test run: what it mounts, listens on and writes under /run stays in this process.

Works on the calling thread, so it must run before the process has a second one (grpc starts some).
"""

import ctypes
import fcntl
import os
import socket
import struct
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 1 << 18
MNT_DETACH = 2
PR_SET_CHILD_SUBREAPER = 36

SIOCGIFFLAGS = 0x8913
SIOCSIFFLAGS = 0x8914
IFF_UP = 1

_outside: list[str] = []
_libc = ctypes.CDLL(None, use_errno=True)


def _check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), what)


def unshare(flags: int) -> None:
    """unshare(2). Raises OSError."""
    _check(_libc.unshare(flags), "unshare")


def mount(source: str, target: Path, fstype: str, options: str = "", *, flags: int = 0) -> None:
    """mount(2). Raises OSError with the target's name."""
    encoded = [text.encode() for text in (source, str(target), fstype, options)]
    _check(
        _libc.mount(encoded[0], encoded[1], encoded[2], ctypes.c_ulong(flags), encoded[3]),
        f"mount {target} ({fstype})",
    )


def detach(target: Path) -> None:
    """umount2(2) with MNT_DETACH. Raises OSError."""
    _check(_libc.umount2(str(target).encode(), MNT_DETACH), f"umount {target}")


def become_subreaper() -> None:
    """Orphaned descendants become this process's children (prctl(2), PR_SET_CHILD_SUBREAPER)."""
    _check(_libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl")


def private_mounts() -> None:
    """A mount namespace of this process's own, from which nothing propagates back."""
    unshare(CLONE_NEWNS)
    mount("none", Path("/"), "", flags=MS_REC | MS_PRIVATE)


def overlay(target: Path, work: Path) -> None:
    """Writes below target go to `work` (on a tmpfs) from now on; the lower layer is target as it is."""
    upper, scratch = work / "upper", work / "work"
    upper.mkdir(parents=True)
    scratch.mkdir()
    mount("overlay", target, "overlay", f"lowerdir={target},upperdir={upper},workdir={scratch}")


def loopback_up() -> None:
    """Set lo up in this network namespace."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sh14x", b"lo", 0)
        flags = struct.unpack("16sh14x", fcntl.ioctl(sock, SIOCGIFFLAGS, request))[1]
        fcntl.ioctl(sock, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", flags | IFF_UP))


def enter() -> None:
    """Private mounts and network, and an empty /run, for this process and its children."""
    for name, option in (("mnt", "--mount"), ("net", "--net")):
        fd = os.open(f"/proc/self/ns/{name}", os.O_RDONLY | os.O_CLOEXEC)
        _outside.append(f"{option}=/proc/{os.getpid()}/fd/{fd}")
    private_mounts()
    unshare(CLONE_NEWNET)
    loopback_up()
    mount("tmpfs", Path("/run"), "tmpfs", "mode=0755")


def outside() -> list[str]:
    """What to put before a command line to have the mounts and the network of before `enter`; nothing before that."""
    return ["nsenter", *_outside, "--"] if _outside else []

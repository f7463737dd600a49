"""The other end of a unix socket, as the kernel saw it when it connected (unix(7), SO_PEERCRED)."""

import os
import socket
import struct
from typing import NamedTuple

_UCRED = struct.Struct("=iII")  # struct ucred of the kernel's include/linux/socket.h


class Peer(NamedTuple):
    """Ids in our own namespaces; `pid` is 0 for a peer that is not visible in our PID namespace."""

    pid: int
    uid: int
    gid: int


def peer_of(sock: socket.socket) -> Peer:
    """The peer of a connected unix socket. Raises OSError."""
    return Peer(*_UCRED.unpack(sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)))


def same_owner(peer: Peer) -> bool:
    """Whether the peer has our effective uid and gid; containerd's own shims accept the same peers."""
    return peer.uid == os.geteuid() and peer.gid == os.getegid()

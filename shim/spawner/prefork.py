"""A child of the spawner that waits for the next request, because forking takes longer than the rest of a `start`."""

import os
import sys
from _socket import AF_UNIX, CMSG_LEN, SCM_RIGHTS, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from contextlib import suppress
from typing import NoReturn

from runtime.linux import heap, proctitle, readable
from shim.spawner import launch, receive

END_S = 1.0


class Prefork:
    """A child that waits. It has the same state as one forked for the request, and ends with the spawner."""

    TITLE = "prefork"

    def __init__(self, key: str) -> None:
        self._channel, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        try:
            self._pid = os.fork()
            if self._pid == 0:
                _wait(self._channel, theirs, key)
        finally:
            theirs.close()

    def forget(self) -> None:
        """Close the channel, in another child of the spawner."""
        self._channel.close()

    def end(self) -> None:
        """Have the child end, and wait for that up to END_S."""
        self._channel.close()
        with suppress(OSError):  # it has ended
            pidfd = os.pidfd_open(self._pid)
            readable.within(pidfd, END_S)
            os.close(pidfd)

    def take(self, fd: int) -> bool:
        """Hand the connection `fd` to the child; return whether the child lives. Call it once."""
        try:
            self._channel.sendmsg([b"\0"], [(SOL_SOCKET, SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))])
        except OSError:
            return False
        finally:
            self._channel.close()
        return True


def _wait(spawners: socket, channel: socket, key: str) -> NoReturn:
    """In the prefork child: wait for a connection, and carry out its request. `spawners` is the spawner's end."""
    try:
        spawners.close()
        proctitle.set_title([launch.TITLE, Prefork.TITLE])
        heap.map_shared()
        _, ancillary, _, _ = channel.recvmsg(1, CMSG_LEN(4))
        ((_, _, data),) = ancillary  # without a descriptor the spawner has ended
        channel.close()
    except BaseException:
        os._exit(1)
    receive.serve_connection(int.from_bytes(data[:4], sys.byteorder), key)

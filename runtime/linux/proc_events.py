"""How a process ended, from the kernel's process connector, for a process that is not its parent.

The connector multicasts every fork, exec and exit of the machine (kernel: drivers/connector/cn_proc.c). A socket
filter in the kernel passes only what concerns one process, so a busy host costs us nothing.

The connector serves root in the initial PID, user and network namespaces only. In another network namespace nobody
answers the netlink address (ECONNREFUSED). In another PID or user namespace the request is dropped silently, which
shows as a missing acknowledgement. Without CONFIG_CONNECTOR the protocol does not exist (EPROTONOSUPPORT).
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
import struct

from runtime.linux.pidfd import status_of

_NETLINK_CONNECTOR = 11
_SO_ATTACH_FILTER = 26
_NLMSG_DONE = 3
_CN_IDX_PROC, _CN_VAL_PROC = 1, 1
_LISTEN, _IGNORE = 1, 2

# struct nlmsghdr, then struct cn_msg (id idx and val, seq, ack, len, flags), then the request or the event.
_NLMSGHDR = struct.Struct("=IHHII")
_CN_MSG = struct.Struct("=IIIIHH")
_OPERATION = struct.Struct("=I")
# struct proc_event: what, cpu, timestamp; of an exit: process_pid, process_tgid, exit_code.
_EVENT_AT = _NLMSGHDR.size + _CN_MSG.size
_EVENT = struct.Struct("=IIQ")
_EXIT = struct.Struct("=iiI")
_ACK_AT = _NLMSGHDR.size + 12
_TGID_AT = _EVENT_AT + _EVENT.size + 4
_EVENT_ACK = 0
_EVENT_EXIT = 0x80000000

# Classic BPF (<linux/filter.h>).
_LOAD_WORD, _EQUAL, _RETURN = 0x20, 0x15, 0x06
_INSTRUCTION = struct.Struct("=HBBI")
_KEEP_ALL = 0xFFFFFFFF
_RECEIVE_SIZE = 4096


class ExitEvents:
    """The exit events of process `pid`, which must be alive and held by a pidfd, so that its PID is not reused.

    Raises OSError where the connector is not available. Close it after use.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._seen: int | None = None
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_CONNECTOR)
        try:
            self._attach_filter()  # before joining, so that no other message gets in
            self._socket.bind((0, 1 << (_CN_IDX_PROC - 1)))
            self._listen()
        except BaseException:
            self._socket.close()
            raise

    def fileno(self) -> int:
        """A descriptor that is readable when there is something to `read`."""
        return self._socket.fileno()

    def read(self) -> int | None:
        """The exit code, or 128 + n when signal n killed it; None while no event has come. Never blocks.

        The kernel sends the event just after the process became a zombie; a pidfd is readable a moment earlier. Each
        thread has an event, and the last one counts. A read in that moment may return the event of a thread that ended
        earlier, which only differs if the threads did not end together.
        """
        while True:
            try:
                message, (sender, _) = self._socket.recvfrom(_RECEIVE_SIZE)
            except BlockingIOError:
                return self._seen
            except OSError as err:
                if err.errno != errno.ENOBUFS:  # thousands of threads ended at once; the last events are not lost
                    raise
                continue
            if sender == 0 and len(message) >= _EVENT_AT + _EVENT.size + _EXIT.size:  # 0: from the kernel
                self._take(message)

    def close(self) -> None:
        """Stop listening. Before Linux 6.6 the kernel keeps making events for a listener that does not unsubscribe."""
        try:
            self._request(_IGNORE)
        except OSError:
            pass
        finally:
            self._socket.close()

    def _take(self, message: bytes) -> None:
        (what, _, _) = _EVENT.unpack_from(message, _EVENT_AT)
        (_, process, wait_status) = _EXIT.unpack_from(message, _EVENT_AT + _EVENT.size)
        if what == _EVENT_EXIT and process == self._pid:
            self._seen = status_of(wait_status)

    def _attach_filter(self) -> None:
        """Pass only the acknowledgement of our request and the exits of our process's threads."""
        program = b"".join(
            _INSTRUCTION.pack(code, if_true, if_false, value)
            for code, if_true, if_false, value in (
                (_LOAD_WORD, 0, 0, _EVENT_AT),
                (_EQUAL, 0, 2, socket.htonl(_EVENT_EXIT)),  # the filter reads words in network order
                (_LOAD_WORD, 0, 0, _TGID_AT),
                (_EQUAL, 3, 4, socket.htonl(self._pid)),
                (_EQUAL, 0, 3, _EVENT_ACK),
                (_LOAD_WORD, 0, 0, _ACK_AT),
                (_EQUAL, 0, 1, socket.htonl(self._pid + 1)),
                (_RETURN, 0, 0, _KEEP_ALL),
                (_RETURN, 0, 0, 0),
            )
        )
        room = ctypes.create_string_buffer(program, len(program))
        count = len(program) // _INSTRUCTION.size
        self._socket.setsockopt(socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", count, ctypes.addressof(room)))

    def _request(self, operation: int) -> None:
        """Send a request. Every listener gets the acknowledgement; ours has an `ack` one above the request's."""
        body = _CN_MSG.pack(_CN_IDX_PROC, _CN_VAL_PROC, 0, self._pid, _OPERATION.size, 0) + _OPERATION.pack(operation)
        header = _NLMSGHDR.pack(_NLMSGHDR.size + len(body), _NLMSG_DONE, 0, 0, 0)
        self._socket.sendto(header + body, (0, 0))

    def _listen(self) -> None:
        """Raises OSError. The kernel acknowledges during the send, with an errno in the place of a wait status."""
        try:
            self._request(_LISTEN)
            message = self._socket.recv(_RECEIVE_SIZE)
        except BlockingIOError as err:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM), "process connector: not answered here") from err
        except OSError as err:
            raise OSError(err.errno, os.strerror(err.errno or 0), "process connector") from err
        (number,) = struct.unpack_from("=I", message, _EVENT_AT + _EVENT.size)
        if number:
            raise OSError(number, os.strerror(number), "process connector")


def available() -> bool:
    """Whether the process connector works for this process."""
    try:
        ExitEvents(os.getpid()).close()
    except OSError:
        return False
    return True

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
_THREAD_AT = _EVENT_AT + _EVENT.size
_PROCESS_AT = _THREAD_AT + 4
_CODE_AT = _THREAD_AT + 8
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

        The kernel sends the event just after the process became a zombie; a pidfd is readable a moment earlier. The
        last event that the filter has passed counts. A read in that moment may return the event of a first thread that
        ended before the others.
        """
        while True:
            try:
                message, (sender, _) = self._socket.recvfrom(_RECEIVE_SIZE)
            except BlockingIOError:
                return self._seen
            except OSError as err:
                if err.errno != errno.ENOBUFS:  # hundreds of threads ended at once, all with one code; some are lost
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
        """Pass only the acknowledgement of our request, and of our process's threads those that may tell its end.

        That is the first thread's exit, and each exit with a code other than 0: whatever ends all threads at once gives
        them one code (kernel/exit.c, do_group_exit). Threads that end by themselves while the process lives have 0;
        a few hundred of them would fill the socket's buffer, and then the kernel drops what comes after.
        """
        program = b"".join(
            _INSTRUCTION.pack(code, if_true, if_false, value)
            for code, if_true, if_false, value in (
                (_LOAD_WORD, 0, 0, _EVENT_AT),
                (_EQUAL, 0, 6, socket.htonl(_EVENT_EXIT)),  # the filter reads words in network order
                (_LOAD_WORD, 0, 0, _PROCESS_AT),
                (_EQUAL, 0, 8, socket.htonl(self._pid)),
                (_LOAD_WORD, 0, 0, _THREAD_AT),
                (_EQUAL, 5, 0, socket.htonl(self._pid)),
                (_LOAD_WORD, 0, 0, _CODE_AT),
                (_EQUAL, 4, 3, 0),
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

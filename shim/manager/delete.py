"""`delete` of a container that may have left something, by this process, where no spawner does it.

containerd runs the command after every task, the properly deleted ones included, and kills it after five seconds.
"""

import os
import sys
from _socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair

from shim.contract import identifiers
from shim.contract.flags import Flags
from shim.pod import killed
from shim.spawner import child
from shim.spawner.request import ANSWER_LIMIT, FAILED, WARNED

if False:  # typing.TYPE_CHECKING, without the import
    from typing import NoReturn


def delete(flags: Flags) -> bytes:
    """Return the serialised DeleteResponse: status 137 now, as containerd's own shim says. May be repeated.

    The work is a child's, of a session of its own, which goes on to the end when this process is killed: containerd
    does that after five seconds, and does not come back. The work of a child that is killed is done again. Raises
    InvalidArgument for names that lead elsewhere, RuntimeError with what the child says.
    """
    identifiers.check("-namespace", flags.namespace)
    identifiers.check("-id", flags.id)
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        _work_detached(flags, theirs)
    theirs.close()
    said = ours.recv(ANSWER_LIMIT)
    if said[:1] == WARNED:
        sys.stderr.write(said[1:].decode(errors="replace"))
        said = ours.recv(ANSWER_LIMIT)
    ours.close()
    if not said:
        os.waitpid(pid, 0)
        return killed.clean_up(flags)[0]
    if said[:1] == FAILED:
        raise RuntimeError(said[1:].decode(errors="replace"))
    return said[1:]


def _work_detached(flags: Flags, channel: socket) -> "NoReturn":
    """Do the work, and end this process, which was just forked."""
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):  # containerd waits until nobody has its pipes
            os.dup2(null, fd)
        status = child.answer_delete(flags, channel)
    finally:  # nothing may unwind into the parent's code below fork()
        os._exit(status)

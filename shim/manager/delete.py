"""`delete` of a container that may have left something behind, in this process, for when no spawner does it.

containerd runs the command after every task, even after a proper Delete, and kills it after five seconds.
"""

import os
import sys
from _socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair

from shim.contract import identifiers
from shim.contract.flags import Flags
from shim.pod import sandbox_cleanup
from shim.spawner import child
from shim.spawner.request import ANSWER_LIMIT, FAILED, WARNED

if False:  # typing.TYPE_CHECKING, without the import
    from typing import NoReturn


def delete(flags: Flags) -> bytes:
    """Return the serialised DeleteResponse: exit status 137 and the current time, as containerd's shim. Repeatable.

    A child in a session of its own does the work, and goes on when this process is killed: containerd kills it after
    five seconds and does not try again. If the child is killed, the work is done again. Raises InvalidArgument for
    names that lead out of their directory, RuntimeError with the child's error.
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
        return sandbox_cleanup.clean_up(flags)[0]
    if said[:1] == FAILED:
        raise RuntimeError(said[1:].decode(errors="replace"))
    return said[1:]


def _work_detached(flags: Flags, channel: socket) -> "NoReturn":
    """Do the work in this process, which was just forked, and end it."""
    status = 1
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1):  # containerd waits until its pipes are closed
            os.dup2(null, fd)
        status = child.answer_delete(flags, channel)
    finally:  # nothing may unwind into the parent's code below fork()
        os._exit(status)

"""`delete` of a container that may have left something: the work is `shim.pod.cleanup`'s.

containerd runs the command after every task, the properly deleted ones included, and kills it after five seconds.
"""

import os
import sys

from runtime.errors import text_of
from shim.contract import identifiers
from shim.contract.flags import Flags
from shim.pod import cleanup

if False:  # typing.TYPE_CHECKING, without the import
    from typing import NoReturn

WARNINGS_LIMIT = 4096
_DONE, _FAILED = b"d", b"f"


def delete(flags: Flags) -> bytes:
    """Return the serialised DeleteResponse: status 137 now, as containerd's own shim says. May be repeated.

    The work is a child's, of a session of its own, which goes on to the end when this process is killed: containerd
    does that after five seconds, and does not come back. The work of a child that is killed is done again.
    """
    identifiers.check("-namespace", flags.namespace)
    identifiers.check("-id", flags.id)
    read, write = os.pipe2(os.O_CLOEXEC)
    warnings = os.memfd_create("warnings", os.MFD_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        _work_detached(flags, write, warnings)
    os.close(write)
    said = b"".join(iter(lambda: os.read(read, 4096), b""))
    if not said:
        os.waitpid(pid, 0)
        return cleanup.clean_up(flags)[0]
    sys.stderr.write(os.pread(warnings, WARNINGS_LIMIT, 0).decode(errors="replace"))
    if said[:1] == _FAILED:
        raise RuntimeError(said[1:].decode(errors="replace"))
    return said[1:]


def _work_detached(flags: Flags, write: int, warnings: int) -> "NoReturn":
    """Do the work, write what came of it, sweep up, and end this process, which was just forked."""
    left = None
    try:
        os.setsid()
        null = os.open(os.devnull, os.O_RDWR)
        for fd, target in ((null, 0), (null, 1), (warnings, 2)):  # containerd waits until nobody has its pipes
            os.dup2(fd, target)
        answer, left = cleanup.clean_up(flags)
        said = _DONE + answer
    except BaseException as err:  # nothing may unwind into the parent's code below fork()
        said = _FAILED + text_of(err).encode(errors="replace")
    try:
        sys.stderr.flush()
        os.write(write, said)
    finally:  # the parent may have been killed
        try:
            os.close(write)
            if left is not None:
                cleanup.sweep(left, flags.id)
        finally:
            os._exit(0)

"""Starts a process that is independent of the one that made it, and keeps the installed version that it runs."""

import logging
import os
from collections.abc import Callable, Sequence

from shim.installed import version

_log = logging.getLogger(__name__)


def detach(work: Callable[[], None], *, keep: Sequence[int]) -> None:
    """Call `work` in a process that inherits nothing from this one but the descriptors `keep`, in any order.

    The caller must have only one thread. Raises OSError.
    """
    kept = (*keep, *version.lock_in_use())
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _let_go(kept)
        work()
    except BaseException:  # nothing may unwind into the parent's code below fork()
        _log.exception("a detached process")
    finally:
        os._exit(0)


def _let_go(keep: Sequence[int]) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    low = 3
    for fd in sorted(keep):
        os.closerange(low, fd)
        low = fd + 1
    os.closerange(low, os.sysconf("SC_OPEN_MAX"))
    os.chdir("/")
    os.umask(0o022)

"""From a fresh child of `start`, or of anything that has the modules loaded, to a serving pod server.

Only process hygiene lives here: what must be shed from the parent, what a daemon must be, and how it ends. What it
serves is `shim.pod`'s.
"""

import os
import signal
import sys
from contextlib import suppress
from typing import NoReturn

from shim import bootstrap
from shim.flags import Flags

PROGRAM = "containerd-shim-pouchrich-v2"
INHERITED_LISTENER = 3


def become_server(flags: Flags, given: bootstrap.StartInput, *, bundle: str, path: str, listener: int) -> NoReturn:
    """Serve on the listening descriptor `listener` until done, in a process that was just forked. Never returns."""
    status = 1
    try:
        _let_go(keep=listener)
        status = _serve(flags, given, bundle=bundle, path=path, listener=INHERITED_LISTENER)
    except BaseException:  # nothing may unwind into the parent's code below fork()
        sys.excepthook(*sys.exc_info())
        with suppress(OSError):
            os.unlink(path)
    finally:
        os._exit(status)


def serve_in_foreground(flags: Flags) -> None:
    """Serve without an action word, as containerd's shims do: on `-socket PATH`, or on an inherited descriptor 3."""
    from shim import address

    bundle = flags.bundle or os.getcwd()
    listener = INHERITED_LISTENER
    if flags.socket:
        taken = address.listen(flags.socket)
        if taken is None:
            raise FileExistsError(f"-socket: {flags.socket} is in use")
        listener = taken.detach()
    sys.exit(_serve(flags, bootstrap.StartInput(), bundle=bundle, path=flags.socket, listener=listener))


def _serve(flags: Flags, given: bootstrap.StartInput, *, bundle: str, path: str, listener: int) -> int:
    from runtime.linux import proctitle, syscalls
    from shim import log, pod

    words = [PROGRAM, "-namespace", flags.namespace, "-id", flags.id, "-address", flags.address]
    proctitle.set_title(words)
    if os.environ.get("SCHED_CORE"):
        syscalls.sched_core_create_pgrp()
    syscalls.set_child_subreaper()
    log.open_fifo(f"{bundle}/log", debug=flags.debug or given.debug)
    os.chdir("/")  # the bundle may go while other containers of the pod are still served
    return pod.serve(
        namespace=flags.namespace,
        ttrpc_address=given.ttrpc_address or os.environ.get("TTRPC_ADDRESS", ""),
        socket_path=path,
        listener=listener,
    )


def _let_go(*, keep: int) -> None:
    """Drop what belongs to the parent: its session, its pipe to containerd, its other descriptors and signal set-up."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    os.dup2(keep, INHERITED_LISTENER, inheritable=False)
    os.closerange(INHERITED_LISTENER + 1, os.sysconf("SC_OPEN_MAX"))
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    os.umask(0o022)

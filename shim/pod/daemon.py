"""Turns a process with a listening socket into a serving pod server: sets the process up, and ends it.

`shim.pod.server` serves.
"""

import logging
import os
import sys
from contextlib import suppress

from runtime.cgroup import attach
from runtime.linux import open_files, proctitle, syscalls
from shim.contract import address, bootstrap
from shim.contract.flags import Flags
from shim.installed import version
from shim.pod import log

PROGRAM = "containerd-shim-pouchrich-v2"
INHERITED_LISTENER = 3

_log = logging.getLogger(__name__)


def serve_in_foreground(flags: Flags) -> None:
    """Serve when the command line has no action, as containerd's shims do: on `-socket PATH`, or on descriptor 3."""
    version.lock_in_use()
    bundle = flags.bundle or os.getcwd()
    listener = INHERITED_LISTENER
    if flags.socket:
        taken = address.listen(flags.socket)
        if taken is None:
            raise FileExistsError(f"-socket: {flags.socket} is in use")
        listener = taken.detach()
    sys.exit(serve(flags, bootstrap.StartInput(), bundle=bundle, path=flags.socket, listener=listener))


def serve(flags: Flags, stdin: bootstrap.StartInput, *, bundle: str, path: str, listener: int, note: str = "") -> int:
    """Serve on the listening descriptor `listener` until done; return the exit status of the process.

    `stdin` is what `start` read. `path` is the socket's path, unlinked at the end; "" if the socket is not ours. `note`
    goes to the log.
    """
    try:
        proctitle.set_title([PROGRAM, "-namespace", flags.namespace, "-id", flags.id, "-address", flags.address])
        if os.environ.get("SCHED_CORE"):
            syscalls.sched_core_create_pgrp()
        syscalls.set_child_subreaper()
        open_files.take_hard_limit()
        if not attach.is_unified():
            attach.prime_migration()  # the pod's first container is about to be made
        log.open_fifo(f"{bundle}/log", debug=flags.debug or stdin.debug)
        if note:
            _log.info("started without a spawner: %s", note)
        os.chdir("/")  # the bundle may be removed while the pod's other containers are still served
        from shim.pod import server

        return server.serve(
            namespace=flags.namespace,
            ttrpc_address=stdin.ttrpc_address or os.environ.get("TTRPC_ADDRESS", ""),
            socket_path=path,
            listener=listener,
        )
    except BaseException:
        if path:
            with suppress(OSError):
                os.unlink(path)
        raise

"""Poststop hooks without a pod server: the runner that `delete` leaves behind, and what `start` does after a reboot.

A runner is a process of its own session and mount namespace, in which the container's root file system stays mounted
when `delete` unmounts it for everybody else. All of its hooks run within the container's poststop budget, so that what
else it keeps mounted is let go soon.

Imported by `delete` and `start` only where there is something to do, so a container without poststop hooks pays for one
look at the file system. asyncio is for the runner alone to import.
"""

import logging
import os
import select
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress

from runtime.bundle import Bundle, read_pid
from runtime.errors import PouchrichError
from runtime.hooks import held
from runtime.hooks.journal import RECORDS, Journal, boot_id, path_of, records
from runtime.linux import syscalls

RUN = "/run/pouchrich/poststop"
PATIENCE_S = 3.0
READY_TIMEOUT_S = 1.0
AT_ONCE = 8
_READY, _GO = b"r", b"g"
_SWEPT = ".swept"

_log = logging.getLogger(__name__)


class Handover:
    """A runner that waits for the container to be gone."""

    def __init__(self, go: int, news: int) -> None:
        self._go = go
        self._news = news

    def finish(self, patience_s: float = PATIENCE_S) -> bool:
        """The OCI runtime has forgotten the container: let the hooks run, and wait a while. Whether all are through."""
        with suppress(BrokenPipeError):
            os.write(self._go, _GO)
        os.close(self._go)
        through = _hears(self._news, patience_s) and not os.read(self._news, 1)
        os.close(self._news)
        return through


def hand_over(namespace: str, container_id: str, bundle: str, *, directory: str = RECORDS) -> Handover | None:
    """Leave a runner for the hooks that are owed for a container whose pod server is gone.

    Call it before the container is killed, and `finish` it before its root file system is unmounted. None where
    nothing is owed, and where the pod server lives and has the record. Raises OSError.
    """
    journal = Journal.open(path_of(directory, namespace, container_id))
    if journal is None:
        return None
    try:
        if not journal.account.owed:
            if not _was_created(bundle):
                journal.finish()
                return None
            journal.owe()
        go, told = os.pipe2(os.O_CLOEXEC)
        news, tell = os.pipe2(os.O_CLOEXEC)
        # `told` is read and `tell` written by the runner; each side closes what is the other's.
        detach(lambda: _run(journal, go, tell, directory), keep=(journal.fd, go, tell))
    finally:
        journal.close()
    os.close(go)
    os.close(tell)
    if _hears(news, READY_TIMEOUT_S) and os.read(news, 1) == _READY and journal.account.head.get("held"):
        held.unhold(journal.account.head["held"])  # the runner has them mounted for itself
    return Handover(told, news)


def check(*, directory: str = RECORDS, run: str = RUN) -> None:
    """After a boot, once: leave a process behind that settles what was owed before it. Never raises, never waits."""
    marker = f"{run}/{_SWEPT}"
    if os.path.exists(marker):
        return
    try:
        os.makedirs(run, mode=0o711, exist_ok=True)
        if any(records(directory)):
            detach(lambda: _sweep_once(directory, marker), keep=())
        else:
            _touch(marker)
    except OSError as err:
        sys.stderr.write(f"poststop hooks owed before the last boot: {err}\n")


def detach(work: Callable[[], None], *, keep: Sequence[int]) -> None:
    """Call `work` in a process that has nothing to do with this one any more but for the descriptors `keep`.

    The caller must have one thread. Raises OSError.
    """
    pid = os.fork()
    if pid:
        os.waitpid(pid, 0)
        return
    try:
        os.setsid()
        if os.fork():
            os._exit(0)
        _let_go(keep)
        work()
    except BaseException:  # nothing may unwind into the parent's code below fork()
        _log.exception("poststop hooks")
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


def _run(journal: Journal, go: int, tell: int, directory: str) -> None:
    # Private, not slave: unmounting on the host must not reach what the hooks are about to use.
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
    os.write(tell, _READY)
    _log_to_syslog()
    journal.hand()
    told = os.read(go, 1) == _GO
    _settle([journal], forget_first=not told)
    os.close(tell)
    _sweep(directory)


def _sweep_once(directory: str, marker: str) -> None:
    import fcntl

    _log_to_syslog()
    lock = os.open(f"{marker}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with suppress(BlockingIOError):
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        _sweep(directory)
        _touch(marker)


def _sweep(directory: str) -> None:
    """Settle every record that nobody will: of an earlier boot, or of a runner that was killed."""
    now = boot_id()
    found = []
    for path in records(directory):
        journal = Journal.open(path)
        if journal is None:
            continue
        if not journal.account.head:
            _log.warning("%s: no record can be read from it, removed", path)
            journal.finish()
        elif journal.account.handed or journal.account.head["boot"] != now:
            found.append(journal)
        else:
            journal.close()
    if found:
        _settle(found, forget_first=False)


def _settle(journals: Sequence[Journal], *, forget_first: bool) -> None:
    import asyncio
    from collections.abc import Mapping

    from runtime.hooks.environment import HOST_PATH, SHIM_KILLED
    from runtime.oci.argv import OCIBinary
    from runtime.oci.cli import OCIRuntime
    from shim.task.owed import run_owed
    from shim.task.reaper import Reaper

    async def settle() -> None:
        reaper = Reaper(asyncio.get_running_loop())
        reaper.install()

        async def run(argv: Sequence[str], fds: Mapping[int, int]) -> int:
            child = reaper.spawn(argv, fds, {"PATH": os.environ.get("PATH", HOST_PATH)})
            return (await asyncio.shield(child.ended)).status

        few = asyncio.Semaphore(AT_ONCE)

        async def one(journal: Journal) -> None:
            head = journal.account.head
            async with few:
                if forget_first:
                    with suppress(PouchrichError):
                        await OCIRuntime(OCIBinary(**head["oci"]), run).delete(head["subject"]["id"], force=True)
                await run_owed(journal, run=run, reaper=reaper, end=SHIM_KILLED)

        await asyncio.gather(*map(one, journals))

    syscalls.set_child_subreaper()
    with asyncio.Runner() as runner:
        runner.run(settle())


def _was_created(bundle: str) -> bool:
    """Whether the OCI runtime came to the end of its create: it writes the pid file last."""
    try:
        return read_pid(Bundle(bundle).init_pid_file) > 0
    except (OSError, ValueError):
        return False


def _hears(fd: int, timeout_s: float) -> bool:
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, timeout_s) * 1000))


def _touch(path: str) -> None:
    os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600))


def _log_to_syslog() -> None:
    """The bundle's log pipe goes with the bundle: the node's own log takes what a runner has to say."""
    from logging.handlers import SysLogHandler

    with suppress(OSError):
        handler = SysLogHandler("/dev/log", SysLogHandler.LOG_DAEMON)
        handler.setFormatter(logging.Formatter("containerd-shim-pouchrich-v2: %(message)s"))
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.INFO)
    logging.raiseExceptions = False

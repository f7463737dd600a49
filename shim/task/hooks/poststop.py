"""Poststop hooks without a pod server: the runner that `delete` leaves behind, and what `start` does now and then.

A runner is a process of its own session and mount namespace, in which the container's root file system stays mounted
when `delete` unmounts it for everybody else. All of its hooks run within the container's poststop budget, so that what
else it keeps mounted is let go soon. A sweeper settles what is in nobody's care: records of an earlier boot, and those
of this one whose server or runner was killed or could not write them.

Imported by `delete` and `start` only where there is something to do, so a container without poststop hooks pays for one
look at the file system. asyncio is for the runner alone to import.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NoReturn

from runtime import members, passage, paths
from runtime.bundle import Bundle, read_pid
from runtime.errors import PouchrichError
from runtime.hooks import pinned
from runtime.hooks.account import Account, read_account
from runtime.hooks.journal import (
    Journal,
    boot_id,
    mount_namespace,
    path_of,
    records,
    remove_unfinished,
)
from runtime.linux import readable, syscalls
from shim.installed.detached import detach

PATIENCE_S = 3.0
RECORD_PATIENCE_S = 0.3
"""For a pod server whose end is known before the kernel is through with it, which takes some hundredths."""

READY_TIMEOUT_S = 1.0
AT_ONCE = 32
_READY, _GO = b"r", b"g"
_SWEPT = os.path.basename(paths.POSTSTOP_SWEPT)
BACK_OFF_S = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0, 60.0, 60.0)

_log = logging.getLogger(__name__)


class Handover:
    """A runner that waits for the container to be gone."""

    def __init__(self, go: int, ready: int) -> None:
        self._go = go
        self._ready = ready

    def finish(self, patience_s: float = PATIENCE_S) -> bool:
        """The OCI runtime has forgotten the container: let the hooks run, and wait a while. Whether all are through."""
        with suppress(BrokenPipeError):
            os.write(self._go, _GO)
        os.close(self._go)
        through = readable.within(self._ready, patience_s) and not os.read(self._ready, 1)
        os.close(self._ready)
        return through


def hand_over(
    namespace: str, container_id: str, bundle: str, *, directory: str = paths.RECORDS, run: str = paths.POSTSTOP
) -> Handover | None:
    """Leave a runner for the hooks that are owed for a container whose pod server is gone.

    Call it before the container is killed, and `finish` it before its root file system is unmounted. None where
    nothing is owed, and where the pod server lives and has the record. Raises OSError.
    """
    journal = Journal.open(path_of(directory, namespace, container_id), patience_s=RECORD_PATIENCE_S)
    if journal is None:
        return None
    try:
        if not journal.account.owed:
            if not _was_created(bundle):
                journal.finish()
                return None
            journal.owe()
        go_reader, go_writer = os.pipe2(os.O_CLOEXEC)
        ready_reader, ready_writer = os.pipe2(os.O_CLOEXEC)
        # The runner reads `go` and writes `ready`; each side closes what is the other's.
        runners = go_reader, ready_writer
        detach(lambda: _run(journal, *runners, directory, run), keep=(journal.fd, *runners))
    finally:
        journal.close()
    for fd in runners:
        os.close(fd)
    is_ready = readable.within(ready_reader, READY_TIMEOUT_S) and os.read(ready_reader, 1) == _READY
    if is_ready and journal.account.head.get("pinned"):
        pinned.unpin(journal.account.head["pinned"])  # the runner has them mounted for itself
    return Handover(go_writer, ready_reader)


def check(*, directory: str = paths.RECORDS, run: str = paths.POSTSTOP) -> None:
    """Leave a process behind that settles what is owed and in nobody's care, where there is any record at all.

    Never raises, never waits. `start` calls it when `run`/.swept is old or missing; it makes that new.
    """
    marker = f"{run}/{_SWEPT}"
    try:
        with suppress(FileExistsError):
            passage.make(run)
        _make_new(marker)
        if any(records(directory)):
            detach(lambda: _sweep_detached(directory, run), keep=())
    except OSError as err:
        sys.stderr.write(f"poststop hooks that are owed: {err}\n")


def _run(journal: Journal, go: int, ready: int, directory: str, run: str) -> None:
    """The runner: one process sees to the container, another waits for its end and then looks for more."""
    _log_to_syslog()
    pid = os.fork()
    if pid == 0:
        _run_one(journal, go, ready)
    for fd in (journal.fd, go, ready):
        os.close(fd)
    os.waitpid(pid, 0)
    _sweep_until_settled(directory, run)


def _run_one(journal: Journal, go: int, ready: int) -> NoReturn:
    try:
        _leave_mounts()
        os.write(ready, _READY)
        journal.hand()
        is_to_go = os.read(go, 1) == _GO
        _settle([journal], forget_first=not is_to_go)
    except BaseException:  # nothing may unwind into the parent's code below fork()
        _log.exception("poststop hooks")
    finally:
        os._exit(0)


def _leave_mounts() -> None:
    """A mount namespace of our own. Private, not slave: unmounting on the host must not reach what hooks use."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def _sweep_detached(directory: str, run: str) -> None:
    _log_to_syslog()
    _sweep_until_settled(directory, run)


def _sweep_until_settled(directory: str, run: str) -> None:
    """Settle what nobody else does, and try again for a while what cannot be; one process of the node at a time."""
    import fcntl

    with suppress(FileExistsError):
        passage.make(run)
    fd = os.open(f"{run}/{_SWEPT}.lock", os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return
    remove_unfinished(directory)
    for pause_s in (*BACK_OFF_S, 0.0):
        if not any(find_abandoned(directory)) or _in_child(lambda: _sweep(directory)):
            return
        time.sleep(pause_s)


def _in_child(work: Callable[[], bool]) -> bool:
    """`work()` in a process of its own, which may leave this one's mount namespace as it is at the time."""
    pid = os.fork()
    if pid:
        return os.waitpid(pid, 0)[1] == 0
    status = 1
    try:
        status = 0 if work() else 1
    except BaseException:  # nothing may unwind into the parent's code below fork()
        _log.exception("poststop hooks")
    finally:
        os._exit(status)


def _sweep(directory: str) -> bool:
    """Whether all that is abandoned now is settled."""
    found = list(find_abandoned(directory))
    boot = boot_id()
    if any(account.head.get("pinned") and account.head["boot"] == boot for _, account in found):
        _leave_mounts()
    is_settled = True
    for begin in range(0, len(found), AT_ONCE):
        journals = []
        for path, _ in found[begin : begin + AT_ONCE]:
            try:
                journal = Journal.open(path)
            except OSError:
                _log.exception("%s", path)
                is_settled = False
                continue
            if journal is not None and not journal.account.head:
                _log.warning("%s: no record can be read from it, removed", path)
                journal.finish()
            elif journal is not None:
                journals.append(journal)
        is_settled &= _settle(journals, forget_first=False)
    return is_settled


def find_abandoned(directory: str = paths.RECORDS) -> Iterator[tuple[str, Account]]:
    """The records that nobody will see to any more, but for those that somebody has locked, which is not looked at.

    They are of an earlier boot; or the container has ended, and whoever was at work is gone or has given up; or its
    pod server is gone and its bundle too, so that containerd will not call `delete` for it. Only who can see the bundle
    can tell that: another containerd's may be in another mount namespace.
    """
    boot, mounts = boot_id(), mount_namespace()
    for path in records(directory):
        try:
            with open(path, "rb") as file:
                account, _ = read_account(file.read())
            head = account.head
            if (
                not head
                or head["boot"] != boot
                or account.ended is not None
                or (
                    (account.handed or head.get("mount_namespace") == mounts)
                    and members.is_given_up(head["subject"]["bundle"])
                )
            ):
                yield path, account
        except FileNotFoundError:
            continue
        except (OSError, KeyError, TypeError):
            _log.exception("%s", path)


def _settle(journals: Sequence[Journal], *, forget_first: bool) -> bool:
    import asyncio
    from collections.abc import Mapping

    from runtime.default_path import DEFAULT_PATH
    from runtime.hooks.environment import SHIM_KILLED
    from runtime.oci.argv import OCIBinary
    from runtime.oci.cli import OCIRuntime
    from shim.task.hooks.owed import run_owed
    from shim.task.reaper import Reaper

    async def settle() -> bool:
        reaper = Reaper(asyncio.get_running_loop())
        reaper.install()

        async def run(argv: Sequence[str], fds: Mapping[int, int], *, oom_score_adj: int | None = None) -> int:
            del oom_score_adj  # nothing is executed in a container that has ended
            child = reaper.spawn(argv, fds, {"PATH": os.environ.get("PATH", DEFAULT_PATH)})
            return (await asyncio.shield(child.ended)).status

        async def one(journal: Journal) -> bool:
            head = journal.account.head
            if forget_first:
                with suppress(PouchrichError, OSError):
                    await OCIRuntime(OCIBinary(**head["oci"]), run).delete(head["subject"]["id"], force=True)
            return await run_owed(journal, run=run, reaper=reaper, end=SHIM_KILLED)

        return all(await asyncio.gather(*map(one, journals)))

    syscalls.set_child_subreaper()
    with asyncio.Runner() as runner:
        return runner.run(settle())


def _was_created(bundle: str) -> bool:
    """Whether the OCI runtime came to the end of its create: it writes the pid file last."""
    try:
        return read_pid(Bundle(bundle).init_pid_file) > 0
    except (OSError, ValueError):
        return False


def _make_new(path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        os.utime(fd)
    finally:
        os.close(fd)


def _log_to_syslog() -> None:
    """The bundle's log pipe goes with the bundle: the node's own log takes what a runner has to say."""
    from logging.handlers import SysLogHandler

    with suppress(OSError):
        handler = SysLogHandler("/dev/log", SysLogHandler.LOG_DAEMON)
        handler.setFormatter(logging.Formatter("containerd-shim-pouchrich-v2: %(message)s"))
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.INFO)
    logging.raiseExceptions = False

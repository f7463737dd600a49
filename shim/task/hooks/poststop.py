"""Poststop hooks without a pod server: the runner that `delete` leaves behind, and the sweeper that `start` begins.

A runner has its own session and mount namespace, in which the container's root file system stays mounted after `delete`
has unmounted it elsewhere. All of its hooks run within the container's poststop budget, so it soon releases whatever
else it keeps mounted. A sweeper settles abandoned records: records of an earlier boot, and records of this boot whose
pod server or runner was killed or could not write them.

`delete` and `start` import this module only where there is work, so a container without poststop hooks costs one look
at the file system. Only the runner and the sweeper may import asyncio.
"""

import logging
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from typing import NoReturn

from runtime import directories, members, paths
from runtime.bundle import Bundle, from_fields, read_pid
from runtime.errors import PouchrichError, text_of
from runtime.hooks import pinned
from runtime.hooks.journal import (
    Journal,
    boot_id,
    mount_namespace,
    node_init,
    path_of,
    records,
    remove_unfinished,
)
from runtime.hooks.journal_state import JournalState, parse_journal
from runtime.linux import readable, syscalls
from shim.installed.detached import detach

PATIENCE_S = 3.0
RECORD_PATIENCE_S = 0.3
"""How long to wait for the record's lock: a dead pod server's descriptors take some hundredths of a second to close."""

READY_TIMEOUT_S = 1.0
AT_ONCE = 32
TAG = "containerd-shim-pouchrich-v2"
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
        """Let the hooks run, now that the OCI runtime has deleted the container. Return whether all end in time."""
        with suppress(BrokenPipeError):
            os.write(self._go, _GO)
        os.close(self._go)
        through = readable.within(self._ready, patience_s) and not os.read(self._ready, 1)
        os.close(self._ready)
        return through


def hand_over(
    namespace: str, container_id: str, bundle: str, *, directory: str = paths.RECORDS, run: str = paths.POSTSTOP
) -> Handover | None:
    """Leave a runner for the owed hooks of a container whose pod server is gone.

    Call it before the container is killed, and `finish` before its root file system is unmounted. None where no hook
    is owed, and where the pod server lives and has the record. Raises OSError.
    """
    journal = Journal.open(path_of(directory, namespace, container_id), patience_s=RECORD_PATIENCE_S)
    if journal is None:
        return None
    try:
        if not journal.state.owed:
            if not _was_created(bundle):
                journal.finish()
                return None
            journal.owe()
        go_reader, go_writer = os.pipe2(os.O_CLOEXEC)
        ready_reader, ready_writer = os.pipe2(os.O_CLOEXEC)
        # The runner reads `go` and writes `ready`; each side closes the other side's ends.
        runners = go_reader, ready_writer
        detach(lambda: _run(journal, *runners, directory, run), keep=(journal.fd, *runners))
    finally:
        journal.close()
    for fd in runners:
        os.close(fd)
    is_ready = readable.within(ready_reader, READY_TIMEOUT_S) and os.read(ready_reader, 1) == _READY
    if is_ready and journal.state.head.get("pinned"):
        pinned.unpin(journal.state.head["pinned"])  # the runner's mount namespace still has these mounts
    return Handover(go_writer, ready_reader)


def start_sweeper(*, directory: str = paths.RECORDS, run: str = paths.POSTSTOP) -> None:
    """Leave a sweeper behind for abandoned records, if there is any record at all.

    Never raises, never waits. `start` calls this when `run`/.swept is old or missing; this renews the file.
    """
    marker = f"{run}/{_SWEPT}"
    try:
        with suppress(FileExistsError):
            directories.make(run)
        _make_new(marker)
        if any(records(directory)):
            detach(lambda: _sweep_detached(directory, run), keep=())
    except OSError as err:
        sys.stderr.write(f"owed poststop hooks: {text_of(err)}\n")


def _run(journal: Journal, go: int, ready: int, directory: str, run: str) -> None:
    """The runner: a child runs the container's hooks; this process waits for it, and then sweeps."""
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
    """Enter a new mount namespace. Private, not slave: an unmount on the host must not reach the hooks' mounts."""
    syscalls.unshare(syscalls.CLONE_NEWNS)
    syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)


def _sweep_detached(directory: str, run: str) -> None:
    _log_to_syslog()
    _sweep_until_settled(directory, run)


def _sweep_until_settled(directory: str, run: str) -> None:
    """Settle abandoned records, and retry for a while what fails; one process of the node at a time."""
    import fcntl

    with suppress(FileExistsError):
        directories.make(run)
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
    """Call `work` in a forked child, which may enter a mount namespace without changing this process's."""
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
    """Settle the records that are abandoned now. Return whether all are settled."""
    found = list(find_abandoned(directory))
    boot = boot_id()
    if any(state.head.get("pinned") and state.head["boot"] == boot for _, state in found):
        _leave_mounts()
    is_settled, tried = True, {path for path, _ in found}
    for begin in range(0, len(found), AT_ONCE):
        journals = []
        for path, _ in found[begin : begin + AT_ONCE]:
            try:
                journal = Journal.open(path)
            except OSError:
                _log.exception("%s", path)
                is_settled = False
                continue
            if journal is not None and not journal.state.head:
                _log.warning("%s: removed, because no record can be read from it", path)
                journal.finish()
            elif journal is not None:
                journals.append(journal)
        is_settled &= _settle(journals, forget_first=False)
    # A Create of the same id may have moved a record aside before it was opened here.
    return is_settled and not any(path not in tried for path, _ in find_abandoned(directory))


def find_abandoned(directory: str = paths.RECORDS) -> Iterator[tuple[str, JournalState]]:
    """The abandoned records. Locks are not looked at: a record that a process still works on may be among them.

    A record is abandoned if it is of before the node's boot or restart; or if its container has ended; or if pod server
    and bundle are gone, so that containerd will not call `delete`. Only a process that sees the bundle's mount
    namespace can tell the last: another containerd's bundles may be in another one.
    """
    boot, init, mounts = boot_id(), node_init(), mount_namespace()
    for path in records(directory):
        try:
            with open(path, "rb") as file:
                state, _ = parse_journal(file.read())
            head = state.head
            if (
                not head
                or (head["boot"], head["init"]) != (boot, init)
                or state.ended is not None
                or (
                    (state.handed or head.get("mount_namespace") == mounts)
                    and members.is_abandoned(head["subject"]["bundle"])
                )
            ):
                yield path, state
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
    from shim.task.hooks.kept import noting
    from shim.task.hooks.owed import run_owed
    from shim.task.reaper import Reaper

    async def settle() -> bool:
        reaper = Reaper(asyncio.get_running_loop())
        reaper.install()

        async def run(argv: Sequence[str], fds: Mapping[int, int], *, oom_score_adj: int | None = None) -> int:
            del oom_score_adj  # no process starts in a container that has ended
            child = reaper.spawn(argv, fds, {"PATH": os.environ.get("PATH", DEFAULT_PATH)})
            return (await asyncio.shield(child.ended)).status

        async def one(journal: Journal) -> bool:
            head = journal.state.head
            if forget_first:
                with suppress(PouchrichError, OSError):
                    await OCIRuntime(from_fields(OCIBinary, head["oci"]), run).delete(head["subject"]["id"], force=True)
            return await run_owed(journal, run=run, reaper=reaper, end=SHIM_KILLED, note=noting(head))

        return all(await asyncio.gather(*map(one, journals)))

    syscalls.set_child_subreaper()
    with asyncio.Runner() as runner:
        return runner.run(settle())


def _was_created(bundle: str) -> bool:
    """Whether the OCI runtime completed its create: it writes the pid file last."""
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
    """Log to syslog, because the bundle's log pipe goes away with the bundle."""
    from logging.handlers import SysLogHandler

    with suppress(OSError):
        handler = SysLogHandler("/dev/log", SysLogHandler.LOG_DAEMON)
        handler.setFormatter(logging.Formatter(f"{TAG}: %(message)s"))
        logging.getLogger().addHandler(handler)
        logging.getLogger().setLevel(logging.INFO)
    logging.raiseExceptions = False

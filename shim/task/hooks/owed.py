"""Runs the poststop hooks that a record owes for one container: each starts at most once, and none is forgotten.

The pod server does this, or the runner that `delete` leaves behind, or the first sweeper after a reboot. All need
nothing but the record (`runtime.hooks.journal`) and the directory that holds the container's namespaces
(`runtime.hooks.pinned`).

The pod's hooks run first, because they were set up last. The node's hooks begin when the pod's have ended or the pod's
budget is used up, even if a pod's hook cannot be killed. Beyond that a pod's hook neither delays nor affects them.
"""

import asyncio
import errno
import logging
import os
import time
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import replace

from runtime.bundle import from_fields
from runtime.config.model import NODE, POD, Hook
from runtime.errors import FailedPrecondition, text_of
from runtime.hooks import environment, host_supervisor, pinned, process
from runtime.hooks.environment import Ending, HookSubject
from runtime.hooks.journal import Journal
from runtime.hooks.select import hook_from_dict
from runtime.oci.argv import OCIBinary
from runtime.oci.cli import OCIRuntime, Run
from shim.task.cancellation import run_shielded
from shim.task.hooks.hook_outcome import Outcome, Result, labels, named, report, result_of
from shim.task.hooks.hook_run import PoststopContainer, run_host_hook, user_below
from shim.task.reaper import Reaper
from shim.task.report import measures
from shim.task.thread import answered, in_thread

FORMER_PATIENCE_S, FORMER_PAUSE_S = 10.0, 0.05
_SHORTAGES = (*host_supervisor.SHORTAGES, errno.ENOSPC, errno.EDQUOT)

_log = logging.getLogger(__name__)


async def run_owed(
    journal: Journal,
    *,
    run: Run,
    reaper: Reaper,
    end: Ending,
    note: Callable[[Result], None] = lambda _: None,
) -> bool:
    """Run or skip every hook that the record owes; remove the record and what was pinned. Never raises.

    `end` counts where the record does not say how the container ended. If the record cannot be written, or neither the
    supervisor of a host hook nor the OCI runtime can be started, no further hook of that owner runs, the record stays
    for a later attempt, and the result is False.
    """
    name = f"container {journal.state.head['subject']['id']}"
    try:
        if journal.state.owed:
            await _Owed(journal, run, reaper, note).settle(end)
        else:
            _log.info("%s: was not created, no poststop hook is owed", name)
        if directory := journal.state.head["pinned"]:
            pinned.release(directory)
        await in_thread(journal.finish)
    except Exception:
        _log.exception("%s: poststop hooks: the record %s stays", name, journal.path)
        journal.close()
        return False
    return True


async def settle_former(path: str, *, run: Run, reaper: Reaper) -> None:
    """Run the hooks that an earlier container with the record `path` owes, before a later one with its id has hooks.

    After a reboot the same id may come again before a sweeper has run them. A process that runs them already gets
    FORMER_PATIENCE_S. What is owed after that stays owed. Raises nothing. A cancelled call does not stop a hook.
    """
    until = time.monotonic() + FORMER_PATIENCE_S
    try:
        while (journal := Journal.open(path)) is None and _is_there(path):
            if time.monotonic() > until:
                _log.warning("%s: its poststop hooks still run, and the next container is created", path)
                return
            await asyncio.sleep(FORMER_PAUSE_S)
    except OSError as err:
        _log.warning("%s: owed poststop hooks: %s", path, text_of(err))
        return
    if journal is not None and journal.state.head:
        await run_shielded(run_owed(journal, run=run, reaper=reaper, end=environment.SHIM_KILLED))
    elif journal is not None:  # the sweeper removes it
        journal.close()


def _is_there(path: str) -> bool:
    return os.path.lexists(path)


class _Owed:
    """The hooks of one record."""

    def __init__(self, journal: Journal, run: Run, reaper: Reaper, note: Callable[[Result], None]) -> None:
        head = journal.state.head
        self._journal = journal
        self._reaper = reaper
        self._note = note
        self._subject = from_fields(HookSubject, head["subject"])
        self._hooks = tuple(hook_from_dict(one) for one in head["hooks"])
        self._budget_s = float(head["budget_s"])
        self._pod_budget_s = float(head["pod_budget_s"])
        self._writing = asyncio.Lock()
        self._pinned: str = head["pinned"]
        binary = from_fields(OCIBinary, head["oci"])
        self._oci = OCIRuntime(replace(binary, root=f"{self._pinned}/runtime"), run)

    async def settle(self, end: Ending) -> None:
        """Run all hooks of the record. Raises OSError where the record cannot be written."""
        await self._write(lambda: self._journal.end(end.exit_code, end.reason))
        end = Ending(*self._journal.state.ended or (end.exit_code, end.reason))
        pod = asyncio.get_running_loop().create_task(self._run(POD, self._pod_budget_s, end))
        await asyncio.wait({pod}, timeout=self._pod_budget_s)
        try:
            await self._run(NODE, self._budget_s, end)
        finally:
            await asyncio.wait({pod})
        pod.result()

    async def _run(self, owner: str, budget_s: float, end: Ending) -> None:
        """Run one owner's hooks. The hooks in the container share `budget_s`, and the hooks on the host share another
        `budget_s`: hooks in the container run the image's programs. An `abort` skips both."""
        state = self._journal.state
        interrupted, owed = self._of(owner, state.interrupted), self._of(owner, state.open_hooks)
        for number in interrupted:
            await self._report_interrupted(number)
        spent_s: dict[str, float] = defaultdict(float)
        aborted = ""
        for number in owed:
            hook = self._hooks[number]
            left_s = budget_s - spent_s[hook.where]
            timeout_s = min(hook.timeout_s, left_s)
            spent = "" if left_s > 0 else f"the budget of {budget_s:g}s is used up"
            began = time.monotonic()
            if reason := aborted or spent or await self._impossible(hook, timeout_s):
                await self._skip(number, reason)
            elif not await self._start(number, hook, end, timeout_s) and hook.on_failure == "abort":
                aborted = f"hook {hook.name} failed"
            spent_s[hook.where] += time.monotonic() - began

    def _of(self, owner: str, numbers: Iterable[int]) -> list[int]:
        return [number for number in numbers if self._hooks[number].owner == owner]

    async def _start(self, number: int, hook: Hook, end: Ending, timeout_s: float) -> bool:
        await self._write(lambda: self._journal.start(number))
        began = time.monotonic()
        try:
            outcome = await self._poststop(number, hook, end, timeout_s)
        except Exception as err:  # one broken hook must not keep the next from running
            outcome = Outcome(False, text_of(err), started=not _is_shortage(err))
        if not outcome.started:
            await self._write(lambda: self._journal.unstart(number))
            raise OSError(f"hook {hook.name}: {outcome.result}")
        await self._write(lambda: self._journal.done(number, outcome.result))
        self._note(result_of("poststop", hook, outcome, began))
        measures.observe_seconds("hook_seconds", time.monotonic() - began, **labels("poststop", hook, outcome))
        report(f"container {self._subject.id}: poststop {named(hook)}", outcome)
        return outcome.ok

    async def _write(self, line: Callable[[], None]) -> None:
        """Write to the record, one line at a time. Raises OSError."""
        async with self._writing:
            await in_thread(line)

    async def _poststop(self, number: int, hook: Hook, end: Ending, timeout_s: float) -> Outcome:
        env = environment.variables(self._subject, end)
        state = environment.state(self._subject, status="stopped", pid=0)
        if hook.where == "host":
            env = environment.host_environment(dict(hook.env), env)
            return await run_host_hook(self._reaper, hook, env=env, stdin=state, timeout_s=timeout_s)
        rootfs = self._subject.rootfs
        pod = pinned.load_spec(self._pinned)
        second = self._second(number)
        spec = process.poststop_spec(
            pod,
            hook,
            env,
            rootfs=rootfs,
            pinned=self._pinned,
            suffix=f"-poststop-{number}",
            user=await user_below(rootfs, hook.user, timeout_s=timeout_s),
        )
        owner = process.owner(pod, spec["process"])
        return await second.run(spec, stdin=state, owner=owner, timeout_s=timeout_s)

    def _second(self, number: int) -> PoststopContainer:
        container_id = f"{self._subject.id}-poststop-{number}"
        return PoststopContainer(self._reaper, self._oci, container_id, f"{self._pinned}/bundle-{number}")

    async def _impossible(self, hook: Hook, timeout_s: float) -> str:
        """Why a hook in the container can no longer run, or ""."""
        if hook.where == "host":
            return ""
        if not _is_there(f"{self._pinned}/{pinned.SPEC}"):
            return "nothing is left of the container: the node rebooted, or Create did not complete"
        what, rootfs = f"container {self._subject.id}: its root filesystem", self._subject.rootfs
        try:
            is_there = await answered(lambda: _has_files(rootfs), what=what, patience_s=timeout_s)
        except FailedPrecondition as err:
            return text_of(err)
        return "" if is_there else "its root filesystem is gone"

    async def _skip(self, number: int, reason: str) -> None:
        hook = self._hooks[number]
        await self._write(lambda: self._journal.skip(number, reason))
        measures.count("hooks_skipped", where=hook.where, owner=hook.owner)
        self._note(Result("poststop", hook.name, hook.where, hook.owner, f"skipped: {reason}", 0.0))
        _log.warning("container %s: poststop %s: skipped: %s", self._subject.id, named(hook), reason)

    async def _report_interrupted(self, number: int) -> None:
        """Tell once of a hook that has run and whose end nobody has noted: a retry after a full disk finds it noted."""
        hook = self._hooks[number]
        if hook.where == "container":
            await self._second(number).forget_interrupted()
        await self._write(lambda: self._journal.done(number, "interrupted"))
        self._note(Result("poststop", hook.name, hook.where, hook.owner, "interrupted", 0.0))
        measures.observe_seconds(
            "hook_seconds", 0.0, stage="poststop", where=hook.where, owner=hook.owner, outcome="interrupted"
        )
        _log.warning("container %s: poststop %s: was interrupted, and is not repeated", self._subject.id, named(hook))


def _has_files(directory: str) -> bool:
    """Whether `directory` has entries: it has none once the root file system is unmounted.

    Raises OSError where a shortage keeps this process from looking.
    """
    try:
        with os.scandir(directory) as entries:
            return any(True for _ in entries)
    except OSError as err:
        if _is_shortage(err):
            raise
        return False


def _is_shortage(error: BaseException) -> bool:
    """Whether the node had no room, descriptor, process or memory to prepare a hook, which has not begun then."""
    return isinstance(error, OSError) and error.errno in _SHORTAGES

"""A container's hooks: when they run, what a failure means, and the record that outlives the pod server.

The same code runs poststop hooks in the pod server, in the runner that `delete` leaves behind and after a reboot: all
it needs is in the record (`runtime.hooks.journal`) and below the held directory (`runtime.hooks.held`).
"""

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from typing import Any

from runtime import bundle as bundles
from runtime import passwd
from runtime.cgroup import Cgroup
from runtime.config.model import Hook
from runtime.errors import HookFailed, PouchrichError
from runtime.hooks import environment, held, process
from runtime.hooks.environment import Ending, Subject
from runtime.hooks.journal import RECORDS, Journal, boot_id, path_of
from runtime.hooks.select import Selection, hook_from_dict
from runtime.oci.argv import OCIBinary
from runtime.oci.cli import OCIRuntime, Run
from shim.task.hookrun import Created, Outcome, Second, on_host
from shim.task.reaper import Reaper
from shim.task.thread import in_thread

RUN = "/run/pouchrich/poststop"
RESULTS = "hooks.json"

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Places:
    """Where records and held directories are."""

    records: str = RECORDS
    run: str = RUN


@dataclass(frozen=True, slots=True)
class Result:
    """What became of a hook, for people."""

    stage: str
    name: str
    where: str
    result: str
    seconds: float


class HookRunner:
    """The hooks of one container in its pod server. `spec` is containerd's, before the plan's steps."""

    def __init__(
        self,
        subject: Subject,
        selection: Selection,
        *,
        spec: dict[str, Any],
        oci: OCIRuntime,
        run: Run,
        reaper: Reaper,
        places: Places | None = None,
    ) -> None:
        self._subject = subject
        self._selection = selection
        self._spec = spec
        self._oci = oci
        self._run = run
        self._reaper = reaper
        self._places = places or Places()
        self._journal: Journal | None = None
        self._poststop: asyncio.Task[None] | None = None
        self._results: list[Result] = []

    @property
    def results(self) -> tuple[Result, ...]:
        """What became of the hooks so far; the bundle's hooks.json holds the same for `pouchrich inspect`."""
        return tuple(self._results)

    # Create

    async def prepare(self) -> None:
        """Before the OCI runtime is asked to create the container: begin the record. Raises OSError.

        Nothing is owed yet; `discard` undoes it.
        """
        selected = self._selection
        if not selected.poststop:
            return
        subject = self._subject
        inside = any(hook.where == "container" for hook in selected.poststop)
        name = f"{subject.id}-{os.urandom(4).hex()}"  # an earlier container of this id may still have hooks to run
        head = {
            "boot": boot_id(),
            "subject": subject.to_dict(),
            "hooks": [asdict(hook) for hook in selected.poststop],
            "budget_s": selected.poststop_budget_s,
            "oci": asdict(self._oci.binary),
            "held": f"{self._places.run}/{subject.containerd_namespace}/{name}" if inside else "",
        }
        path = path_of(self._places.records, subject.containerd_namespace, subject.id)
        self._journal = await in_thread(lambda: Journal.create(path, head))

    async def owe(self, init: int) -> None:
        """The OCI runtime has created the container with init `init`: from now on poststop is owed. Raises OSError."""
        journal = self._journal
        if journal is None:
            return
        if directory := journal.account.head["held"]:
            held.hold(directory, init, process.held_types(self._spec), self._spec)
        await in_thread(journal.owe)

    async def discard(self) -> None:
        """The container was never made after all: nothing is owed. May be repeated, and after `owe`."""
        journal, self._journal = self._journal, None
        if journal is None:
            return
        if directory := journal.account.head["held"]:
            held.release(directory)
        await in_thread(journal.finish)

    # Start

    async def run_prestart(self, *, init: int, cgroup: Cgroup | None, private_pids: bool) -> None:
        """Run the prestart hooks in order, init being created and not started.

        Raises HookFailed for the first that fails with `abort`. Cancelled, it ends the hook that runs.
        """
        created = Created(self._reaper, self._oci, self._subject.id, self._subject.bundle, init, cgroup, private_pids)
        for hook in self._selection.prestart:
            began = time.monotonic()
            try:
                outcome = await self._prestart(hook, created)
            except (PouchrichError, OSError) as err:
                outcome = Outcome(False, str(err))
            self._note(_result("prestart", hook, outcome, began))
            _report(f"container {self._subject.id}: prestart hook {hook.name}", hook, outcome)
            if not outcome.ok and hook.on_failure == "abort":
                raise HookFailed(_failure("prestart", hook, outcome))

    async def _prestart(self, hook: Hook, created: Created) -> Outcome:
        told = environment.variables(self._subject)
        if hook.where == "host":
            env = environment.host_environment(dict(hook.env), told)
            state = environment.state(self._subject, status="created", pid=created.init)
            return await on_host(self._reaper, hook, env=env, stdin=state, timeout_s=hook.timeout_s)
        user = _user(f"/proc/{created.init}/root", hook)
        made = process.of_hook(self._spec, hook, told, user)
        state = environment.state(self._subject, status="created", pid=1)  # its pid as the hook sees it
        owner = process.owner(self._spec, made)
        return await created.run(made, stdin=state, owner=owner, timeout_s=hook.timeout_s)

    # The end

    async def run_poststop(self, end: Ending) -> None:
        """Run what is owed, once, however often it is asked for; return when all is through. Never raises.

        All of the container's processes are gone; its root file system is still mounted. Only the first `end` counts.
        A wait that is cancelled does not stop the hooks.
        """
        if self._poststop is None:
            self._poststop = asyncio.get_running_loop().create_task(self._run_poststop(end))
        await asyncio.shield(self._poststop)

    async def _run_poststop(self, end: Ending) -> None:
        journal, self._journal = self._journal, None
        if journal is not None:
            await run_owed(journal, run=self._run, reaper=self._reaper, end=end, note=self._note)

    def _note(self, result: Result) -> None:
        self._results.append(result)
        with suppress(OSError):
            found = {"version": 1, "hooks": [asdict(one) for one in self._results]}
            bundles.write_json(f"{self._subject.bundle}/{RESULTS}", found)


async def run_owed(
    journal: Journal,
    *,
    run: Run,
    reaper: Reaper,
    end: Ending,
    note: Callable[[Result], None] = lambda _: None,
) -> None:
    """Run or skip every hook that the record owes, remove the record and what was held. Never raises.

    `end` counts where the record does not say how the container ended. Where the record cannot be written, no further
    hook is started, and the record stays for the next boot.
    """
    name = f"container {journal.account.head['subject']['id']}"
    try:
        if journal.account.owed:
            await _Owed(journal, run, reaper, note).settle(end)
        else:
            _log.info("%s: was not created, no poststop hook is owed", name)
        if directory := journal.account.head["held"]:
            held.release(directory)
        await in_thread(journal.finish)
    except Exception:
        _log.exception("%s: poststop hooks: the record %s stays", name, journal.path)
        journal.close()


class _Owed:
    """The hooks of one record."""

    def __init__(self, journal: Journal, run: Run, reaper: Reaper, note: Callable[[Result], None]) -> None:
        head = journal.account.head
        self._journal = journal
        self._reaper = reaper
        self._note = note
        self._subject = Subject(**head["subject"])
        self._hooks = tuple(hook_from_dict(one) for one in head["hooks"])
        self._budget_s = float(head["budget_s"])
        self._held: str = head["held"]
        binary = OCIBinary(**head["oci"])
        self._oci = OCIRuntime(replace(binary, root=f"{self._held}/runtime"), run)

    async def settle(self, end: Ending) -> None:
        """Run them all. Raises OSError where the record cannot be written."""
        await in_thread(lambda: self._journal.end(end.exit_code, end.reason))
        end = Ending(*self._journal.account.ended or (end.exit_code, end.reason))
        for number in self._journal.account.interrupted:
            await self._report_interrupted(number)
        deadline = time.monotonic() + self._budget_s
        aborted = ""
        for number in self._journal.account.open_hooks:
            hook = self._hooks[number]
            left_s = deadline - time.monotonic()
            spent = "" if left_s > 0 else f"the budget of {self._budget_s:g}s is used up"
            if reason := aborted or spent or self._impossible(hook):
                await self._skip(number, reason)
            elif not await self._start(number, hook, end, min(hook.timeout_s, left_s)) and hook.on_failure == "abort":
                aborted = f"hook {hook.name} failed"

    async def _start(self, number: int, hook: Hook, end: Ending, timeout_s: float) -> bool:
        await in_thread(lambda: self._journal.start(number))
        began = time.monotonic()
        try:
            outcome = await self._poststop(number, hook, end, timeout_s)
        except (PouchrichError, OSError, ValueError) as err:
            outcome = Outcome(False, str(err))
        await in_thread(lambda: self._journal.done(number, outcome.result))
        self._note(_result("poststop", hook, outcome, began))
        _report(f"container {self._subject.id}: poststop hook {hook.name}", hook, outcome)
        return outcome.ok

    async def _poststop(self, number: int, hook: Hook, end: Ending, timeout_s: float) -> Outcome:
        told = environment.variables(self._subject, end)
        state = environment.state(self._subject, status="stopped", pid=0)
        if hook.where == "host":
            env = environment.host_environment(dict(hook.env), told)
            return await on_host(self._reaper, hook, env=env, stdin=state, timeout_s=timeout_s)
        rootfs = self._subject.rootfs
        pod = held.load_spec(self._held)
        second = self._second(number)
        spec = process.poststop_spec(
            pod,
            hook,
            told,
            rootfs=rootfs,
            held=self._held,
            suffix=f"-poststop-{number}",
            user=_user(rootfs, hook),
        )
        owner = process.owner(pod, spec["process"])
        return await second.run(spec, stdin=state, owner=owner, timeout_s=timeout_s)

    def _second(self, number: int) -> Second:
        container_id = f"{self._subject.id}-poststop-{number}"
        return Second(self._reaper, self._oci, container_id, f"{self._held}/bundle-{number}")

    def _impossible(self, hook: Hook) -> str:
        """Why a hook in the container cannot run any more, or ""."""
        if hook.where == "host":
            return ""
        if not os.path.isfile(f"{self._held}/{held.SPEC}"):
            return "nothing is left of the container: the node was restarted, or it was never made whole"
        return "" if os.path.isdir(self._subject.rootfs) else "its root file system is gone"

    async def _skip(self, number: int, reason: str) -> None:
        hook = self._hooks[number]
        await in_thread(lambda: self._journal.skip(number, reason))
        self._note(Result("poststop", hook.name, hook.where, f"skipped: {reason}", 0.0))
        _log.warning("container %s: poststop hook %s: skipped: %s", self._subject.id, hook.name, reason)

    async def _report_interrupted(self, number: int) -> None:
        hook = self._hooks[number]
        self._note(Result("poststop", hook.name, hook.where, "interrupted", 0.0))
        _log.warning(
            "container %s: poststop hook %s: was interrupted, and is not repeated", self._subject.id, hook.name
        )
        if hook.where == "container":
            with suppress(PouchrichError, OSError):
                await self._oci.delete(f"{self._subject.id}-poststop-{number}", force=True)


def _user(rootfs: str, hook: Hook) -> passwd.User | None:
    if hook.user is None:
        return None
    root = os.open(rootfs, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        return passwd.resolve(root, hook.user)
    finally:
        os.close(root)


def _result(stage: str, hook: Hook, outcome: Outcome, began: float) -> Result:
    return Result(stage, hook.name, hook.where, outcome.result, round(time.monotonic() - began, 3))


def _failure(stage: str, hook: Hook, outcome: Outcome) -> str:
    """A host hook's output is the operator's and stays in the log; a container hook's is the pod's own."""
    said = outcome.output.text() if hook.where == "container" else ""
    return f"{stage} hook {hook.name}: {outcome.result}" + (f": {said}" if said else "")


def _report(what: str, hook: Hook, outcome: Outcome) -> None:
    said = outcome.output.text()
    _log.log(logging.INFO if outcome.ok else logging.WARNING, "%s: %s%s", what, outcome.result, said and f": {said}")

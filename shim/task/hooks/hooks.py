"""A container's hooks in its pod server: when they run, what a failure means, and the record of what is owed."""

import asyncio
import errno
import os
import time
from contextlib import suppress
from dataclasses import asdict
from typing import Any, NamedTuple

from runtime import bundle as bundles
from runtime import paths
from runtime.bundle_log import BundleLog
from runtime.cgroup import Cgroup
from runtime.config.model import Hook, hook_label
from runtime.errors import HookFailed, PouchrichError, RuntimeFailed, text_of
from runtime.hooks import environment, pinned, process
from runtime.hooks.environment import Ending, HookSubject
from runtime.hooks.journal import Journal, boot_id, mount_namespace, node_init, path_of
from runtime.hooks.select import Selection
from runtime.linux import selinux
from runtime.oci.cli import OCIRuntime, Run
from shim.task.cancellation import run_to_completion
from shim.task.hooks import kept
from shim.task.hooks.hook_outcome import Outcome, Result, failure, labels, named, report, result_of
from shim.task.hooks.hook_run import PrestartExec, run_host_hook, user_below
from shim.task.hooks.owed import run_owed, settle_former
from shim.task.reaper import Reaper
from shim.task.report import measures
from shim.task.thread import in_thread

RESULTS = "hooks.json"
AGAIN_S = 1.0
AGAIN_MAX_S = 60.0


class Places(NamedTuple):
    """The directories of the records and of the pinned namespaces."""

    records: str = paths.RECORDS
    run: str = paths.POSTSTOP


class HookRunner:
    """The hooks of one container in its pod server. `spec` is containerd's, before the plan's steps."""

    def __init__(
        self,
        subject: HookSubject,
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
        self._prestart_hooks: asyncio.Task[None] | None = None
        self._poststop: asyncio.Task[None] | None = None
        self._again: asyncio.Task[None] | None = None
        self._has_init_ended = False
        self._results: list[Result] = []

    @property
    def results(self) -> tuple[Result, ...]:
        """The results of the hooks so far."""
        return tuple(self._results)

    # Create

    async def prepare(self) -> None:
        """Begin the record, before the OCI runtime creates the container. Raises PouchrichError.

        What an earlier container of this id owes runs first. No hook is owed yet; `discard` undoes it.
        """
        selected, subject = self._selection, self._subject
        path = path_of(self._places.records, subject.containerd_namespace, subject.id)
        await settle_former(path, run=self._run, reaper=self._reaper)
        if not selected.poststop:
            return
        inside = any(hook.where == "container" for hook in selected.poststop)
        name = f"{subject.id}-{os.urandom(4).hex()}"  # an earlier container with this id may still owe hooks
        head = {
            "boot": boot_id(),
            "init": node_init(),
            "mount_namespace": mount_namespace(),
            "subject": subject.to_dict(),
            "hooks": [asdict(hook) for hook in selected.poststop],
            "budget_s": selected.poststop_budget_s,
            "pod_budget_s": selected.pod_poststop_budget_s,
            "oci": asdict(self._oci.binary),
            "pinned": f"{self._places.run}/{subject.containerd_namespace}/{name}" if inside else "",
        }

        def begin() -> None:
            self._journal = Journal.create(path, head)

        try:
            await run_to_completion(in_thread(begin))
        except OSError as err:
            raise PouchrichError(_not_recorded(path, err)) from err

    async def owe(self, init: int) -> None:
        """The OCI runtime has created the container with init `init`: poststop hooks are owed now. Raises OSError."""
        journal = self._journal
        if journal is None:
            return
        if directory := journal.state.head["pinned"]:
            pinned.pin(directory, init, process.types_to_pin(self._spec), self._spec)
        await run_to_completion(in_thread(journal.owe))

    async def discard(self) -> None:
        """The Create has failed: no hook is owed. May be repeated, and called after `owe`."""
        journal, self._journal = self._journal, None
        if journal is None:
            return
        if directory := journal.state.head["pinned"]:
            pinned.release(directory)
        await in_thread(journal.finish)

    # Start

    async def run_prestart(self, *, init: int, cgroup: Cgroup | None) -> None:
        """Run the prestart hooks in order, while init is created and not started.

        Raises HookFailed for the first that fails with `abort`, RuntimeFailed where init ends first. Cancelling ends
        the running hook.
        """
        hooks = self._run_prestart(init=init, cgroup=cgroup)
        self._prestart_hooks = asyncio.get_running_loop().create_task(hooks)
        if self._has_init_ended:
            self._prestart_hooks.cancel()
        try:
            await self._prestart_hooks
        except asyncio.CancelledError:
            if not self._has_init_ended:
                raise
            raise RuntimeFailed("PID 1 ended while the prestart hooks ran") from None

    def init_ended(self) -> None:
        """End a running prestart hook: whoever killed init waits for the container to end."""
        self._has_init_ended = True
        if self._prestart_hooks is not None:
            self._prestart_hooks.cancel()

    async def _run_prestart(self, *, init: int, cgroup: Cgroup | None) -> None:
        label = selinux.files_label(self._spec)
        created = PrestartExec(self._reaper, self._oci, self._subject.id, self._subject.bundle, init, cgroup, label)
        for hook in self._selection.prestart:
            began = time.monotonic()
            try:
                outcome = await self._prestart(hook, created)
            except (PouchrichError, OSError) as err:
                outcome = Outcome(False, text_of(err))
            self._note(result_of("prestart", hook, outcome, began))
            measures.observe_seconds("hook_seconds", time.monotonic() - began, **labels("prestart", hook, outcome))
            report(f"container {self._subject.id}: prestart {named(hook)}", outcome)
            if not outcome.ok and hook.on_failure == "abort":
                raise HookFailed(failure("prestart", hook, outcome))

    async def _prestart(self, hook: Hook, created: PrestartExec) -> Outcome:
        env = environment.variables(self._subject)
        if hook.where == "host":
            env = environment.host_environment(dict(hook.env), env)
            state = environment.state(self._subject, status="created", pid=created.init)
            return await run_host_hook(self._reaper, hook, env=env, stdin=state, timeout_s=hook.timeout_s)
        user = await user_below(f"/proc/{created.init}/root", hook.user, timeout_s=hook.timeout_s)
        made = process.hook_process(self._spec, hook, env, user)
        state = environment.state(self._subject, status="created", pid=1)  # init's PID in the hook's PID namespace
        owner = process.owner(self._spec, made)
        return await created.run(made, stdin=state, owner=owner, timeout_s=hook.timeout_s)

    # The end

    async def run_poststop(self, end: Ending) -> None:
        """Run the owed hooks, once however often this is called; return when all have ended. Never raises.

        All of the container's processes are gone; its root file system is still mounted. Only the first `end` counts.
        Cancelling the wait does not stop the hooks.
        """
        if self._poststop is None:
            self._poststop = asyncio.get_running_loop().create_task(self._run_poststop(end))
        await asyncio.shield(self._poststop)

    async def _run_poststop(self, end: Ending) -> None:
        journal, self._journal = self._journal, None
        if journal is None:
            return
        path, inode = journal.path, os.fstat(journal.fd).st_ino
        if not await self._run_owed(journal, end):
            self._again = asyncio.get_running_loop().create_task(self._run_again(path, inode, end))

    async def _run_owed(self, journal: Journal, end: Ending) -> bool:
        return await run_owed(journal, run=self._run, reaper=self._reaper, end=end, note=self._note)

    async def _run_again(self, path: str, inode: int, end: Ending) -> None:
        """Retry a record that could not be written, unless another process has it. After this server, `start` does."""
        pause_s = AGAIN_S
        while True:
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, AGAIN_MAX_S)
            try:
                journal = await in_thread(lambda: Journal.open(path))
                if journal is None:
                    return
                if os.fstat(journal.fd).st_ino != inode:  # the record of a later container
                    journal.close()
                    return
            except OSError:
                continue
            if await self._run_owed(journal, end):
                return

    def _note(self, result: Result) -> None:
        self._results.append(result)
        BundleLog(self._subject.bundle).write("hook", hook_label(result.name, result.owner), kept.texts(result))
        with suppress(OSError):
            found = {"version": 1, "hooks": [asdict(one) for one in self._results]}
            bundles.write_json(f"{self._subject.bundle}/{RESULTS}", found)


def _not_recorded(path: str, err: OSError) -> str:
    """The error of a Create that could not write its record, and what to do about it."""
    top = paths.STATE
    full = err.errno in (errno.ENOSPC, errno.EDQUOT)
    way_out = f"make room on the filesystem of {top}" if full else f"{top} has to be a directory that root can write"
    reason = (err.strerror or str(err)).lower()
    return f"cannot record the owed poststop hooks on the node: {path}: {reason}: {way_out}"

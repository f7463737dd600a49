"""Runs one hook, in the container or on the host. `hooks` decides which hooks run, and when.

A hook's output goes through a pipe that is always read. Nobody waits for the pipe's EOF, because a process that the
hook leaves behind may hold it open indefinitely. Only the reaper starts programs and waits for them.
"""

import asyncio
import json
import logging
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, NamedTuple

from runtime import bundle as bundles
from runtime.cgroup import Cgroup, pids
from runtime.config.model import Hook
from runtime.errors import PouchrichError, RuntimeFailed, text_of
from runtime.hooks import host_supervisor, others
from runtime.hooks.tail import Tail
from runtime.image import passwd
from runtime.image.passwd import User
from runtime.linux import selinux
from runtime.oci import argv, interrupted
from runtime.oci.cli import MemoryFile, OCIRuntime, input_file
from shim.task import leftovers
from shim.task.cancellation import hear, run_to_completion
from shim.task.hooks.hook_outcome import Outcome
from shim.task.reaper import Exit, Reaper
from shim.task.report.reading import ThrottledReader
from shim.task.thread import in_thread

CLEAR_TIMEOUT_S = 5.0
CLEAR_PAUSE_S = 0.01
DELETE_TIMEOUT_S = 10.0
SUPERVISOR_GRACE_S = host_supervisor.KILL_FOR_S + 5.0
_CHUNK = 1 << 16
# How much a pipe may still hold when its writer has ended: the largest size that an unprivileged process may set.
_LEFT_IN_PIPE = 1 << 20

_log = logging.getLogger(__name__)


class Capture:
    """A pipe for a hook's output, read while the context lasts. User `owner` may open it as /dev/stdout."""

    def __init__(self, owner: int = 0) -> None:
        self.tail = Tail()
        self._reader, self.writer = os.pipe2(os.O_CLOEXEC)
        os.set_blocking(self._reader, False)
        if owner:
            os.fchown(self.writer, owner, -1)

    def __enter__(self) -> "Capture":
        self._reading = ThrottledReader(self._reader, self._read)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._reading.close()
        for _ in range(_LEFT_IN_PIPE // _CHUNK):
            if not self._read():
                break
        os.close(self._reader)
        os.close(self.writer)

    def _read(self) -> int:
        try:
            data = os.read(self._reader, _CHUNK)
        except BlockingIOError:
            return 0
        self.tail.feed(data)
        return len(data)


def _exited(status: int, output: Tail) -> Outcome:
    return Outcome(status == 0, f"exit status {status}", output)


def _took_too_long(timeout_s: float, output: Tail, but: str = "") -> Outcome:
    return Outcome(False, f"timed out after {timeout_s:g}s{but}", output, timed_out=True)


async def user_below(rootfs: str, wanted: str | None, *, timeout_s: float) -> User | None:
    """The user `wanted` by the passwd and group files below host path `rootfs`; None for `wanted` None.

    A FUSE file system of a running container may never answer: the blocked thread is then left behind, and ends with
    the container. Raises InvalidArgument, OSError, and RuntimeFailed after `timeout_s`.
    """
    if wanted is None:
        return None
    try:
        async with asyncio.timeout(timeout_s):
            return await in_thread(lambda: passwd.resolve_below(rootfs, wanted))
    except TimeoutError:
        raise RuntimeFailed(f"user {wanted}: the container's files do not answer within {timeout_s:g}s") from None


async def run_host_hook(
    reaper: Reaper, hook: Hook, *, env: Mapping[str, str], stdin: bytes, timeout_s: float
) -> Outcome:
    """Run a hook of the node on the host, as a child of `runtime.hooks.host_supervisor`.

    If the supervisor cannot be started (interpreter uninstalled, no memory, descriptor or process left), the outcome
    says `started` False. When cancelled, it kills the hook's process tree first.
    """
    orders = {"command": hook.command, "env": dict(env), "timeout_s": timeout_s}
    with ExitStack() as stack:
        try:
            answer = stack.enter_context(MemoryFile("answer"))
            order = stack.enter_context(input_file("hook", json.dumps(orders).encode()))
            state = stack.enter_context(input_file("state", stdin))
            capture = stack.enter_context(Capture())
            fds = {
                0: state.fd,
                1: capture.writer,
                2: capture.writer,
                host_supervisor.ORDERS: order.fd,
                host_supervisor.ANSWER: answer.fd,
            }
            child = reaper.spawn([sys.executable, "-I", "-S", host_supervisor.__file__], fds, {}, session=True)
        except OSError as err:
            return Outcome(False, text_of(err), started=False)
        failed = await _wait_for_supervisor(child.pid, child.ended, timeout_s)
        said = answer.read(4096).decode(errors="replace")
    return _outcome_of(said, timeout_s, capture.tail, supervisor_failed=failed)


async def _wait_for_supervisor(pid: int, ended: "asyncio.Future[Exit]", timeout_s: float) -> bool:
    """Wait for the supervisor, which enforces the timeout; kill one that does not. Return whether it has failed."""
    try:
        await asyncio.wait({ended}, timeout=timeout_s + SUPERVISOR_GRACE_S)
    except asyncio.CancelledError:
        if not ended.done():
            os.kill(pid, signal.SIGTERM)
            await asyncio.wait({ended}, timeout=SUPERVISOR_GRACE_S)
        raise
    finally:
        if not ended.done():  # not reaped yet, so the PID is its own
            os.kill(pid, signal.SIGKILL)
            await asyncio.wait({ended}, timeout=SUPERVISOR_GRACE_S)
    return ended.done() and ended.result().status != 0


def _outcome_of(said: str, timeout_s: float, output: Tail, *, supervisor_failed: bool) -> Outcome:
    if not said.startswith(host_supervisor.BEGUN):
        # A supervisor that did not fail, or still lives, may have run the hook without saying so: do not run it twice.
        return Outcome(False, "its supervisor ended before the hook began", output, started=not supervisor_failed)
    word, _, rest = said.removeprefix(host_supervisor.BEGUN).partition(" ")
    if word == "exit":
        return Outcome(rest == "0", f"exit status {rest}", output)
    if word == host_supervisor.UNSTARTED:
        return Outcome(False, rest, output, started=False)
    but = "" if rest == "0" else f", and cannot kill {rest} of its processes"
    if word == "timeout":
        return _took_too_long(timeout_s, output, but)
    if word == "stopped":
        return Outcome(False, f"stopped{but}", output)
    return Outcome(False, rest if word == "error" else "its supervisor was killed", output)


class PrestartExec(NamedTuple):
    """Runs a prestart hook in a container whose init waits to be started. `bundle` is a host directory.

    `label` is the SELinux label of the container's files, which a hook's standard input must have.
    """

    reaper: Reaper
    oci: OCIRuntime
    id: str
    bundle: str
    init: int
    cgroup: Cgroup | None
    label: str = ""

    async def run(self, process: Mapping[str, Any], *, stdin: bytes, owner: int, timeout_s: float) -> Outcome:
        """Run the OCI process object `process`. Afterwards, even if cancelled, only init is left in the container."""
        pid_file = f"{self.bundle}/hook.pid"
        with (
            input_file("process", json.dumps(process).encode()) as file,
            input_file("state", stdin, label=self.label) as state,
            Capture(owner) as capture,
        ):
            options = argv.ExecOptions(process=file.path, pid_file=pid_file)
            fds = {0: state.fd, 1: capture.writer, 2: capture.writer}
            starting = _started(self.reaper, lambda: self.oci.exec(self.id, options, fds), pid_file)
            try:
                outcome = await _within(starting, None, timeout_s, capture.tail)
            finally:
                bundles.unlink_if_exists(pid_file)
                await run_to_completion(self._clear(starting))
        return outcome

    async def _clear(self, starting: "asyncio.Task[asyncio.Future[Exit]]") -> None:
        """Kill all that is left of the hook, including a process that an exec still under way is about to make."""
        deadline = asyncio.get_running_loop().time() + CLEAR_TIMEOUT_S
        with pids.no_forks(self.cgroup):  # else a signal may never reach what forks on and on
            while others.kill_others(self.init, self.cgroup) or not starting.done():
                if asyncio.get_running_loop().time() > deadline:
                    _log.warning("container %s: processes of a prestart hook cannot be killed", self.id)
                    return
                await asyncio.sleep(CLEAR_PAUSE_S)


class PoststopContainer(NamedTuple):
    """A separate container for one hook. `oci` has its own state directory, so its ids collide with no other's."""

    reaper: Reaper
    oci: OCIRuntime
    id: str
    bundle: str

    async def run(self, spec: Mapping[str, Any], *, stdin: bytes, owner: int, timeout_s: float) -> Outcome:
        """Create a container from `spec`, run it to its end or kill it, and delete it."""
        bundle = bundles.Bundle(self.bundle)
        os.makedirs(self.bundle, mode=0o711, exist_ok=True)
        bundle.write_spec(dict(spec))
        with input_file("state", stdin, label=selinux.files_label(spec)) as state, Capture(owner) as capture:
            options = argv.CreateOptions(bundle=self.bundle, pid_file=bundle.init_pid_file)
            fds = {0: state.fd, 1: capture.writer, 2: capture.writer}
            create = _started(self.reaper, lambda: self.oci.create(self.id, options, fds), bundle.init_pid_file)
            try:
                outcome = await _within(create, lambda: self.oci.start(self.id), timeout_s, capture.tail)
            finally:
                await run_to_completion(self._forget(create))
        # An OSError is of the OCI runtime's start, not of the hook's: no descriptor, process or memory is free.
        started = not (create.done() and not create.cancelled() and isinstance(create.exception(), OSError))
        return replace(outcome, started=started)

    async def _forget(self, create: "asyncio.Task[asyncio.Future[Exit]]") -> None:
        await asyncio.wait({create}, timeout=CLEAR_TIMEOUT_S)
        await self._delete()
        if create.done() and not create.cancelled() and create.exception() is None:
            await asyncio.wait({create.result()}, timeout=CLEAR_TIMEOUT_S)
        await self._remove()

    async def forget_interrupted(self) -> None:
        """Remove what is left of a run whose pod server was killed. Raises nothing."""
        await in_thread(lambda: interrupted.wait_for_creates(self.bundle, patience_s=CLEAR_TIMEOUT_S))
        await self._delete()
        await self._remove()

    async def _delete(self) -> None:
        """Raises nothing. Stops waiting for an OCI runtime that waits for a process that cannot die."""
        deleting = asyncio.ensure_future(self.oci.delete(self.id, force=True))
        deleting.add_done_callback(hear)  # nobody else may
        try:
            async with asyncio.timeout(DELETE_TIMEOUT_S):
                await asyncio.shield(deleting)
        except (PouchrichError, OSError) as err:  # TimeoutError is one
            reason = str(err) or f"not deleted within {DELETE_TIMEOUT_S:g}s"
            _log.warning("container %s of a poststop hook: %s", self.id, reason)

    async def _remove(self) -> None:
        """Remove the bundle and what a killed OCI runtime has left. Nobody else would."""
        await leftovers.remove(self.bundle, self.id)
        shutil.rmtree(self.bundle, ignore_errors=True)


def _started(
    reaper: Reaper, call: Callable[[], Awaitable[None]], pid_file: str
) -> "asyncio.Task[asyncio.Future[Exit]]":
    """A task in which the OCI runtime makes a process. The task's result is a future for that process's exit."""

    async def start() -> "asyncio.Future[Exit]":
        ended: asyncio.Future[Exit] = asyncio.get_running_loop().create_future()
        with reaper.expecting():
            await call()
            pid = bundles.read_pid(pid_file)
            reaper.watch(pid, lambda exit: None if ended.done() else ended.set_result(exit))
        return ended

    return asyncio.get_running_loop().create_task(start())


async def _within(
    starting: "asyncio.Task[asyncio.Future[Exit]]",
    then: Callable[[], Awaitable[None]] | None,
    timeout_s: float,
    output: Tail,
) -> Outcome:
    """How the process ended that `starting` makes and `then` starts; all within `timeout_s`."""
    try:
        async with asyncio.timeout(timeout_s):
            ended = await asyncio.shield(starting)
            if then is not None:
                await then()
            return _exited((await asyncio.shield(ended)).status, output)
    except TimeoutError:
        return _took_too_long(timeout_s, output)
    except (PouchrichError, OSError, ValueError) as err:
        return Outcome(False, text_of(err), output)

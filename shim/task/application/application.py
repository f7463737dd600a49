"""The application under a PID 1 that is a real init: from the boot to its exit status and the shutdown of the init.

The task's pid is PID 1's; the task's exit status is the application's. Init starts the launcher, which becomes the
application (`adopt`). A stop goes in order: the application first; when it has ended, init is told to shut down in its
own language; whatever is left is killed. `app_life` has the table of phases.
"""

import asyncio
import math
import os
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial

from runtime import rundir
from runtime.cgroup import Cgroup
from runtime.errors import NotFound, RuntimeFailed, text_of
from runtime.init.boot import Boot
from runtime.linux import pidfd, selinux
from shim.task.application.adopt import Adopted, AppSocket
from shim.task.application.app_exit import ApplicationExit, ExitStatusSource, exit_status_source
from shim.task.application.app_life import AppPhase
from shim.task.application.app_streams import AppStreams
from shim.task.application.booting import Booting
from shim.task.application.halt import HaltSocket
from shim.task.application.progress_deadline import ProgressDeadline
from shim.task.application.restarts import TIMEOUT_S as RESTART_TIMEOUT_S
from shim.task.application.restarts import Restarts
from shim.task.application.shutdown import POWEROFF_AGAIN_S, Shutdown
from shim.task.application.stop import StopTracker
from shim.task.reaper import Exit
from shim.task.stdio.stdio import Stdio
from shim.task.stdio.terminal import AppConsole


class Application:
    """One container's init, and the application under it unless the image's command is the init itself.

    `directory` is the container's run directory, named by its id; `stdio` has the client's streams; `stop` is told of
    every signal, `restarts` of every start. `root` (user and group) and `app_uid` are host ids, `label` is the SELinux
    label of the container's processes. `terminal` is the application's, if it has one. `joined` is called with the
    application's host PID before the application begins, `leaving` before init is told to shut down.
    """

    def __init__(
        self,
        boot: Boot,
        booting: Booting,
        directory: str,
        stdio: Stdio,
        *,
        shutdown: Shutdown,
        stop: StopTracker,
        restarts: Restarts,
        root: tuple[int, int] = (0, 0),
        app_uid: int = 0,
        label: str = "",
        terminal: AppConsole | None = None,
        joined: Callable[[int], None] = lambda pid: None,
        leaving: Callable[[], None] = lambda: None,
    ) -> None:
        self._id, self._boot, self._directory = os.path.basename(directory), boot, directory
        self._booting, self.console, self._life = booting, booting.console, booting.life
        self._stdio = stdio
        self.shutdown, self._stop, self.restarts = shutdown, stop, restarts
        self._root, self._joined, self._leaving = root, joined, leaving
        self._app_uid, self._label = app_uid, label
        self._terminal = terminal
        self._status_source = exit_status_source()
        self._init_pid, self._not_again = 0, ""
        self._streams = AppStreams(stdio, uid=app_uid, again=restarts.enabled)
        self._app: Adopted | None = None
        self._exit: ApplicationExit | None = None
        self._cgroup: Cgroup | None = None
        self._listener: AppSocket | None = None
        self._halt: HaltSocket | None = None
        self._following: asyncio.Task[None] | None = None

    @property
    def manner(self) -> str:
        """How the shim will learn the application's exit status, in words."""
        return self._status_source.value

    @property
    def pid(self) -> int:
        """The application's host PID; 0 while it does not run."""
        return self._app.pid if self._app is not None else 0

    def prepare(self) -> None:
        """Fill the run directory, which the container's mounts take files from. Raises OSError, InvalidArgument."""
        stay = self._status_source is ExitStatusSource.LAUNCHER_PARENT
        rundir.fill(self._directory, self._boot, stay=stay, owner=self._root)

    async def created(self, init_pid: int, cgroup: Cgroup | None) -> None:
        """PID 1 has been created as host process `init_pid` and not started: listen for the launcher.

        Raises OSError, RuntimeFailed.
        """
        self._init_pid = init_pid
        await self.console.attach()
        if self._terminal is not None:
            self._terminal.make(init_pid, uid=self._app_uid)
        self._cgroup = cgroup
        if self._boot.launch is not None:
            self._listener = self._listen()
        if self._boot.halts:
            path = f"{self._directory}/{rundir.HALT_SOCKET}"
            with selinux.sockets(self._label):
                self._halt = HaltSocket(path, self._kill_init, root_uid=self._root[0])

    def _listen(self) -> AppSocket:
        with selinux.sockets(self._label):
            return AppSocket(
                f"{self._directory}/{rundir.APP_SOCKET}",
                init_pid=self._init_pid,
                cgroup=self._cgroup,
                launcher=os.stat(f"{self._directory}/{rundir.LAUNCHER}"),
                root_uid=self._root[0],
                loop=asyncio.get_running_loop(),
            )

    async def wait_for_turn(self) -> None:
        """Return when init may be started. Raises RuntimeFailed if the start is called off or init ends before that."""
        if self._boot.launch is not None:
            await self._booting.wait_for_turn(self._cgroup)

    def start_failed(self) -> None:
        """The start failed: the container does not boot, or no longer boots."""
        self._booting.leave()

    async def ready(self) -> None:
        """Return once the application runs, or at once where the image's command is the init itself.

        Raises RuntimeFailed, with the last lines that init printed, where init ends first, the start timeout passes, or
        a signal calls the start off; init is then killed.
        """
        if not self._life.is_in(AppPhase.CALLED_OFF, AppPhase.ENDED):  # in these two phases the boot reports the error
            self._life.move(AppPhase.BOOTING)
        try:
            if self._boot.launch is None:
                await self._booting.mandatory()
                if not self._life.ended.is_set():
                    self._life.move(AppPhase.RUNNING)
            else:
                await self._boot_application()
            if not self._boot.streams:
                await self._stdio.attach()
        except BaseException:
            if self._life.is_in(AppPhase.BOOTING):
                self._life.move(AppPhase.FAILED)
            self._kill_init()
            raise
        if not self.restarts.enabled:
            rundir.forget_settings(self._directory)

    async def _boot_application(self) -> None:
        listener, self._listener = self._listener, None
        assert listener is not None
        self._release(await self._booting.boot(listener, self._cgroup))
        self._following = asyncio.get_running_loop().create_task(self._follow())

    def _release(self, adopted: Adopted) -> None:
        """Let the launcher become the application. Raises RuntimeFailed, OSError."""
        with ExitStack() as undo:
            undo.callback(adopted.close)
            exit = ApplicationExit(self._id, adopted, self._status_source, asyncio.get_running_loop())
            undo.callback(exit.close)
            self._joined(adopted.pid)
            try:
                with self._streams.application_fds() as fds:
                    adopted.release(fds, self._boot.launch.rlimits if self._boot.launch else ())
            except NotFound as err:
                raise RuntimeFailed(f"{self._boot.init} did not start the application: {err}") from err
            self._life.move(AppPhase.RUNNING)
            undo.pop_all()
        self._forget_application()
        self._app, self._exit = adopted, exit
        self.restarts.started(asyncio.get_running_loop().time())

    async def _follow(self) -> None:
        """Wait for the application's end, then shut init down."""
        assert self._exit is not None
        while (status := await self._exit.wait()) != 0 and await self._started_again():
            self.restarts.restarted(status)
        self._streams.close()  # now the client can see the end of the output
        if self._life.ended.is_set():
            return
        stopping_for_s = self._stop.for_s()
        if status and self.restarts.enabled and stopping_for_s is None:
            self.restarts.given_up(status, self._not_again)
        self._life.move(AppPhase.SHUTTING_DOWN)
        self._leaving()
        # A second signal would make systemd repeat each unmount that failed. sysvinit needs further ones: it loses a
        # SIGPWR that arrives while it starts a runlevel's processes.
        again_s = math.inf if self._boot.kind.begins_anew else POWEROFF_AGAIN_S
        tell = partial(self._signal_init, self._boot.poweroff)
        await self.shutdown.power_off(tell, self._life.ended, stopping_for_s=stopping_for_s, again_s=again_s)
        self._kill_init()

    async def _started_again(self) -> bool:
        """Whether init has restarted the application, as `rich.restart` asks, without a stop or a given-up restart."""
        if self._life.is_in(AppPhase.STOPPING) and self._stop.for_s() is None:
            self._life.move(AppPhase.RUNNING)
        if not self.restarts.enabled or self._stop.for_s() is not None or not self._life.is_in(AppPhase.RUNNING):
            return False
        self._life.move(AppPhase.RESTARTING)
        patience = ProgressDeadline(RESTART_TIMEOUT_S, RESTART_TIMEOUT_S)
        try:
            adopted = await self._booting.adopt_again(self._listen(), patience, self.restarts.pause_s)
            if adopted is None:
                return False
            self._release(adopted)
            return True
        except (RuntimeFailed, OSError) as err:  # for example a lack of memory: the container must end all the same
            self._not_again = text_of(err)
            return False

    def _forget_application(self) -> None:
        if self._exit is not None:
            self._exit.close()
        if self._app is not None:
            self._app.close()
        self._exit = self._app = None

    def signal(self, number: int) -> None:
        """Pass a client's signal other than KILL on. Before the application runs, every signal calls the start off."""
        sent = self._stop.signalled(number)
        if self._boot.launch is None:
            self._signal_init(self._stop.for_init(number, self._boot.signals))
        elif not self._life.has_run:
            if self._life.is_in(AppPhase.CREATED, AppPhase.BOOTING):
                self._life.move(AppPhase.CALLED_OFF)
            self._kill_init()
        else:
            if self._life.is_in(AppPhase.RUNNING) or (self._life.is_in(AppPhase.RESTARTING) and self._stop.is_for_good):
                self._life.move(AppPhase.STOPPING)
            assert self._app is not None
            with suppress(ProcessLookupError):  # the application has ended, and init is shutting down
                pidfd.send_signal(self._app.pidfd, sent)

    def _kill_init(self) -> None:
        self._signal_init(signal.SIGKILL)

    def _signal_init(self, number: int) -> None:
        if self._init_pid and not self._life.ended.is_set():
            with suppress(ProcessLookupError):
                os.kill(self._init_pid, number)

    def ended(self, exit: Exit) -> Exit:
        """PID 1 has ended with `exit`, and all other processes with it: return how the task ended."""
        ran = self._life.is_in(AppPhase.RUNNING, AppPhase.STOPPING) and self._stop.for_s() is None
        if ran and self._exit is not None and self._exit.status is None:
            self.shutdown.ended_first(exit.status)
        self._life.end()
        if not self._life.has_run and not self._boot.streams:
            self._stdio.discard()
        if self._exit is None or self._app is None:
            return exit
        # The application may have been killed with PID 1 or just before; the kernel has reaped it before PID 1.
        self._exit.settle()
        status = self._exit.status
        return exit if status is None else Exit(exit.pid, status, exit.at)

    def close(self) -> None:
        """Let go of everything. May be repeated."""
        self._life.end()
        self._booting.leave()
        if self._following is not None:
            self._following.cancel()
        self._forget_application()
        self._streams.close()
        for part in (self._listener, self._halt, self.console, self._terminal):
            if part is not None:
                part.close()
        self._listener = self._halt = None

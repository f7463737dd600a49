"""The life of a rich container: its hooks, its init, its application, each called at its time.

What there is of these comes from the plan; a part that a container does not have is None here.
"""

from collections.abc import Mapping
from typing import Any

from runtime import rundir
from runtime.cgroup import Cgroup, delegation
from runtime.config import Config
from runtime.errors import Unsupported
from runtime.hooks import environment
from runtime.hooks.select import select
from runtime.init.cgroup import Delegation
from runtime.oci.cli import OCIRuntime, Run
from runtime.plan import Choice, Plan
from shim.task.application import Application, Limits
from shim.task.hooks import HookRunner
from shim.task.reaper import Exit, Reaper
from shim.task.stdio import Stdio
from shim.task.terminal import AppConsole

CONTAINER_NAME = "io.kubernetes.cri.container-name"
SANDBOX_NAMESPACE = "io.kubernetes.cri.sandbox-namespace"
IMAGE_NAME = "io.kubernetes.cri.image-name"
GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"


class RichLife:
    """Implements `Life` for a container whose plan says it is rich."""

    def __init__(
        self,
        container_id: str,
        *,
        private_pids: bool,
        application: Application | None,
        hooks: HookRunner,
        cgroups: Delegation | None,
    ) -> None:
        self._container_id = container_id
        self._private_pids = private_pids
        self._application = application
        self._hooks = hooks
        self._cgroups = cgroups
        self._init = 0
        self._cgroup: Cgroup | None = None
        self._start_failed = False

    async def prepare(self) -> None:
        """Make what must be there before the OCI runtime hears of the container. Raises OSError."""
        if self._application is not None:
            self._application.prepare()
        if self._cgroups is not None:
            delegation.prepare(self._cgroups)
        await self._hooks.prepare()

    async def abandon(self) -> None:
        """The Create failed: undo whatever was done."""
        await self._hooks.discard()
        await self.close()

    def init_console(self) -> str:
        """A real init has a private one."""
        return self._application.console.socket_path if self._application is not None else ""

    async def created(self, init: int, cgroup: Cgroup | None) -> None:
        """From here on poststop hooks are owed."""
        self._init, self._cgroup = init, cgroup
        self.updated()
        if self._application is not None:
            await self._application.created(init, cgroup)
        await self._hooks.owe(init)

    async def before_start(self) -> None:
        """Run the prestart hooks. Raises HookFailed for one that fails and is to abort."""
        await self._hooks.run_prestart(init=self._init, cgroup=self._cgroup, private_pids=self._private_pids)

    async def ready(self) -> None:
        """See Application.ready."""
        if self._application is not None:
            await self._application.ready()

    def started(self) -> None:
        """The application runs."""
        self._start_failed = False

    def start_failed(self) -> None:
        """The next end is that of a container that never ran."""
        self._start_failed = True

    def updated(self) -> None:
        """Put the limits where systemd in the container cannot change them. Raises OSError."""
        if self._cgroups is not None:
            delegation.apply(self._cgroups, self._init)

    def signal(self, number: int) -> bool:
        """To the application, or to init in its own language; dumb-init forwards what it gets."""
        if self._application is None:
            return False
        self._application.signal(number)
        return True

    def ended(self, exit: Exit) -> Exit:
        """The task ends as the application ended."""
        return exit if self._application is None else self._application.ended(exit)

    async def after_end(self, exit: Exit, *, oom_killed: bool) -> None:
        """Run the poststop hooks."""
        end = environment.ending(exit.status, oom_killed=oom_killed)
        if self._start_failed:
            end = environment.start_failed()
        await self._hooks.run_poststop(end)

    def check_checkpoint(self) -> None:
        """CRIU cannot freeze the launcher's and init's ties to the shim."""
        if self._application is not None:
            raise Unsupported("checkpoint of a container whose PID 1 is a real init")

    async def close(self) -> None:
        """Let go of everything; hooks that were never owed are forgotten."""
        if self._application is not None:
            self._application.close()
        if self._cgroups is not None:
            delegation.remove(self._cgroups)


def make(
    container_id: str,
    namespace: str,
    bundle: str,
    *,
    root: str,
    made: Plan,
    choice: Choice,
    config: Config,
    spec: dict[str, Any],
    oci: OCIRuntime,
    run: Run,
    reaper: Reaper,
    stdio: Stdio,
    console: AppConsole | None,
) -> RichLife:
    """The life that the plan `made` describes; `spec` is containerd's, `root` the host directory of its root."""
    about = _subject(container_id, namespace, bundle, root, made.mode or "", spec)
    selection = select(
        config,
        choice.overrides,
        mode=about.mode,
        namespace=about.namespace,
        image=str(about.annotations.get(IMAGE_NAME, "")),
        container=about.name,
    )
    application = None
    if made.boot is not None:
        application = Application(
            container_id,
            made.boot,
            rundir.path_of(namespace, container_id),
            stdio,
            limits=Limits(config.rich.start_timeout_s, config.rich.stop_timeout_s, _grace(about.annotations)),
            stop_signal=made.stop_signal,
            app_uid=made.boot.launch.uid if made.boot.launch is not None else 0,
            terminal=console,
        )
    return RichLife(
        container_id,
        private_pids=True,  # no init can be PID 1 without, and dumb-init is not given to others
        application=application,
        hooks=HookRunner(about, selection, spec=spec, oci=oci, run=run, reaper=reaper),
        cgroups=made.cgroup,
    )


def _grace(annotations: Mapping[str, str]) -> float | None:
    """The pod's grace period, which kubelet writes as whole seconds, where containerd passes it on."""
    text = annotations.get(GRACE_PERIOD, "")
    return float(text) if text.isascii() and text.isdigit() else None


def _subject(
    container_id: str, namespace: str, bundle: str, rootfs: str, mode: str, spec: dict[str, Any]
) -> environment.Subject:
    """The container as hooks are told of it; a pod's names where it is in one, else containerd's."""
    annotations = spec.get("annotations") or {}
    return environment.Subject(
        id=container_id,
        containerd_namespace=namespace,
        bundle=bundle,
        rootfs=rootfs,
        name=annotations.get(CONTAINER_NAME, container_id),
        namespace=annotations.get(SANDBOX_NAMESPACE, namespace),
        mode=mode,
        annotations=annotations,
        oci_version=str(spec.get("ociVersion", "1.0.2")),
    )

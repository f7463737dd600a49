"""From a Create request to a container: read, decide, act, each once; everything is undone where a step fails.

config.json is read once and, for a rich container, written once. `runtime.rich.plan` makes the decisions and changes
nothing. Each act registers its undo first, so a request that is cancelled midway (by its deadline, or because
containerd died) leaves no mount, no descriptor and no container.
"""

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack, suppress
from dataclasses import dataclass, field
from typing import Any as JSON
from typing import NamedTuple

from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from runtime import bundle as bundles
from runtime import cgroup as cgroups
from runtime import directories, host, rootfs, rundir
from runtime.bundle import Bundle
from runtime.cgroup import attach
from runtime.errors import PouchrichError, RuntimeFailed, Unsupported, text_of
from runtime.linux import oom_score
from runtime.oci import argv
from runtime.oci.cli import OCIRuntime, Run
from runtime.rich import confinement, policy
from runtime.spec import ids
from runtime.spec.identity import Identity
from shim.task import checkpoint, leftovers
from shim.task.cancellation import push_uncancellable
from shim.task.container.container import Container
from shim.task.container.lifecycle import Lifecycle, PlainLifecycle
from shim.task.container.process import Process
from shim.task.container.sandbox import Sandbox, SandboxLifecycle
from shim.task.create import low_pids, member, options
from shim.task.create.mounting import Mounting
from shim.task.create.options import TaskOptions
from shim.task.prefetch import Prefetch
from shim.task.reaper import Reaper
from shim.task.report import log_fields, measures
from shim.task.rich import assembly, subject
from shim.task.rich.decide import Decided, Inspection, decide, inspect_image, root_of
from shim.task.stdio.passthrough import may_pass_through
from shim.task.stdio.stdio import Stdio, StdioPaths
from shim.task.stdio.streams import open_stdio
from shim.task.stdio.terminal import AppConsole

DELETE_PAUSES_S = (0.0, 0.1, 0.4, 1.0, 0.0)  # after each delete that failed: the OCI runtime may find no memory

_log = logging.getLogger(__name__)


class CreateRequest(NamedTuple):
    """A Create request without its protobuf, except for `options`, whose type only `options.read` finds out."""

    id: str
    namespace: str
    bundle: Bundle
    mounts: tuple[rootfs.Mount, ...]
    paths: StdioPaths
    options: Any
    checkpoint: str = ""
    parent_checkpoint: str = ""


@dataclass(frozen=True, slots=True)
class PodTools:
    """What a container is created and run with; all containers of the pod server share it."""

    reaper: Reaper
    run: Run
    publish: Callable[[Message], Awaitable[None]]
    sandbox: Sandbox = field(default_factory=Sandbox)
    migration: attach.MigrationWindow = field(default_factory=attach.MigrationWindow)


async def create(request: CreateRequest, tools: PodTools) -> Container:
    """Make the container and return it; its init waits for Start.

    Raises InvalidArgument for a bad spec, option or configuration, RuntimeFailed, OSError; nothing is left behind then.
    """
    async with AsyncExitStack() as undo:
        bundle = member.own_bundle(request.bundle, undo, namespace=request.namespace, container_id=request.id)
        request = request._replace(bundle=bundle)
        mounting = _begin_mount(request, tools, undo)  # goes on in a thread during what follows
        spec = request.bundle.load_spec()
        log_fields.register_container(request.id, spec.get("annotations") or {})
        chosen = await options.read_and_check(request.options, sandbox=policy.is_sandbox(spec))
        identity = Identity.from_spec(spec, namespace=request.namespace, container_id=request.id)
        choice = policy.choose(spec, chosen.config, identity)
        oci = OCIRuntime(chosen.oci_binary(spec, request.namespace), tools.run)
        oci.oom_score_adj = oom_score.from_spec(spec)
        oci.maps_ids = ids.in_user_namespace(spec)
        if attach.is_unified() and attach.is_moved_by(oci.binary):  # on v1 the pod server opens it before each Create
            tools.migration.open()
        if request.checkpoint:
            checkpoint.require_criu()
        making = _Creation(request, tools, chosen, choice, oci, spec, undo)
        making.examine_when_mounted(mounting)
        host_facts = host.read() if choice.rich else None  # while the thread mounts
        looked = await mounting.inspection if choice.rich else None
        decided = await making.decide(looked, host_facts)
        if request.checkpoint and decided.plan.rich:
            raise Unsupported(checkpoint.RICH)
        container = await making.assemble(decided)
        await mounting.inspection  # of a plain container the mount
        if not request.checkpoint:  # Start restores the container from it
            await making.make(container)
        undo.pop_all()
    return container


def _begin_mount(request: CreateRequest, tools: PodTools, undo: AsyncExitStack) -> Mounting[Inspection]:
    """Begin to mount the root file system, where the request has mounts."""
    containerds = request.bundle.given  # a member's, whose own bundle is elsewhere
    shown = f"{containerds}/rootfs" if containerds and request.mounts else ""
    mounting = Mounting[Inspection](request.mounts, request.bundle.rootfs, run=tools.run, shown=shown)
    push_uncancellable(undo, mounting.undo)
    return mounting


class _Creation:
    """One request in progress; its public methods are the steps, in order. `spec` is containerd's, before the plan."""

    def __init__(
        self,
        request: CreateRequest,
        tools: PodTools,
        chosen: TaskOptions,
        choice: policy.Choice,
        oci: OCIRuntime,
        spec: dict[str, JSON],
        undo: AsyncExitStack,
    ) -> None:
        self._request = request
        self._tools = tools
        self._chosen = chosen
        self._choice = choice
        self._oci = oci
        self._spec = spec
        self._undo = undo
        self._life: Lifecycle = SandboxLifecycle(tools.sandbox) if policy.is_sandbox(spec) else PlainLifecycle()

    def examine_when_mounted(self, mounting: Mounting[Inspection]) -> None:
        """Have the image examined once it is mounted, if the container may be rich."""
        spec, choice, config = self._spec, self._choice, self._chosen.config
        root = root_of(spec, self._request.bundle.path)
        if choice.rich:
            mounting.inspect_when_mounted(lambda: inspect_image(root, spec, choice, config))
        else:
            mounting.inspect_when_mounted()

    async def decide(self, looked: Inspection | None, host_facts: host.HostFacts | None) -> Decided:
        """Make the plan from what was seen of the image and the host; both are None for a plain container."""
        request = self._request
        decided = await decide(
            self._spec,
            self._choice,
            self._chosen.config,
            looked=looked,
            terminal=request.paths.terminal,
            run_dir=rundir.path_of(request.namespace, request.id),
            reaper=self._tools.reaper,
            host_facts=host_facts,
            systemd_cgroup=self._oci.binary.systemd_cgroup,
        )
        for warning in decided.plan.warnings:
            _log.warning("container %s: %s", request.id, warning)
        if self._choice.rich:
            measures.count_fallback(self._choice.mode or "", decided.plan)
            if not decided.plan.rich:
                _log.info("container %s: stays plain: %s", request.id, decided.plan.decisions[-1].source)
        return decided

    async def assemble(self, decided: Decided) -> Container:
        """Do all but the OCI runtime's part: streams, lifecycle, records, and the spec for the OCI runtime."""
        request, made = self._request, decided.plan
        spec = dict(made.apply(self._spec)) if made.steps else self._spec
        size = (self._spec.get("process") or {}).get("consoleSize")
        # An init with a console of its own leaves the streams to the application, whose terminal the shim then makes.
        has_console = made.boot is not None and not made.boot.streams
        console = AppConsole(size) if has_console and request.paths.terminal else None
        stdio = await open_stdio(
            request.paths,
            self._chosen.owner,
            bundle=request.bundle.path,
            container_id=request.id,
            namespace=request.namespace,
            reaper=self._tools.reaper,
            console=console,
            direct=may_pass_through(spec),
        )
        self._undo_later(stdio.close)
        restore = self._restore_options(stdio) if request.checkpoint else None
        if made.rich:
            await self._enrich(decided, stdio, console)
        container = Container(
            request.id,
            request.namespace,
            request.bundle,
            Process("", request.paths, stdio),
            oci=self._oci,
            reaper=self._tools.reaper,
            publish=self._tools.publish,
            owner=self._chosen.owner,
            private_pids=_has_private_pids(spec),
            life=self._life,
            restore=restore,
        )
        container.execs.apparmor = made.apparmor
        self._undo.callback(container.abandon)
        if made.steps:
            request.bundle.write_spec(spec)
        request.bundle.write_record({"version": 1, "oci": self._oci.binary, "plan": made.as_object()})
        self._undo.callback(request.bundle.remove_record)
        return container

    async def _enrich(self, decided: Decided, stdio: Stdio, console: AppConsole | None) -> None:
        info = subject.ContainerInfo(
            self._request.id,
            self._request.namespace,
            self._request.bundle.path,
            root=root_of(self._spec, self._request.bundle.path),
            spec=confinement.spec_with_profile(self._spec, decided.plan.apparmor),
        )
        tools = subject.ContainerTools(self._oci, self._tools.run, self._tools.reaper)
        life = assembly.make(info, decided, self._choice, self._chosen.config, tools, stdio=stdio, console=console)
        self._life = life
        self._undo_later(life.abandon)
        await life.prepare()

    async def make(self, container: Container) -> None:
        """Have the OCI runtime create the container, and adopt its init."""
        request, life, stdio = self._request, self._life, container.init.stdio
        assert stdio is not None
        console = life.init_console()  # "": init has the client's streams
        fds = None if console else stdio.child_fds()
        with suppress(OSError):  # it exists, or the OCI runtime makes it, readable by all
            directories.make(os.path.dirname(self._oci.binary.root))
        hierarchies = Prefetch(cgroups.hierarchies)  # read while the OCI runtime works
        with self._tools.reaper.expecting():
            self._undo_later(self._delete)
            try:
                await self._oci.create(request.id, self._create_options(console or stdio.console_socket), fds)
            except RuntimeFailed as err:
                raise RuntimeFailed(
                    f"{err}{low_pids.hint(self._spec, systemd=self._oci.binary.systemd_cgroup)}"
                ) from err
            pid = bundles.read_pid(request.bundle.init_pid_file)
            container.adopt(pid, hierarchies.value)
        await life.created(container.init.pid, container.cgroup)
        if not console:
            await stdio.attach()

    async def _delete(self) -> None:
        """Have the OCI runtime delete what it has made of the container, which may be nothing."""
        for pause_s in DELETE_PAUSES_S:
            try:
                await self._oci.delete(self._request.id, force=True)
                break
            except (PouchrichError, OSError) as err:
                _log.warning("container %s: after a failed create: %s", self._request.id, text_of(err))
                await asyncio.sleep(pause_s)
        await leftovers.remove(self._request.bundle.path, self._request.id)

    def _undo_later(self, call: Callable[[], Awaitable[None]]) -> None:
        push_uncancellable(self._undo, call)

    def _create_options(self, console_socket: str) -> argv.CreateOptions:
        return argv.CreateOptions(
            bundle=self._request.bundle.path,
            pid_file=self._request.bundle.init_pid_file,
            console_socket=console_socket,
            no_pivot=self._chosen.no_pivot,
            no_new_keyring=self._chosen.no_new_keyring,
        )

    def _restore_options(self, stdio: Stdio) -> argv.RestoreOptions:
        return argv.RestoreOptions(
            image_path=self._request.checkpoint,
            work_path=self._chosen.criu_work_path or os.path.join(self._request.bundle.path, "work", "criu-work"),
            create=self._create_options(stdio.console_socket),
            parent_path=self._request.parent_checkpoint,
        )


def _has_private_pids(spec: dict[str, JSON]) -> bool:
    namespaces = (spec.get("linux") or {}).get("namespaces") or []
    return any(entry.get("type") == "pid" and not entry.get("path") for entry in namespaces)

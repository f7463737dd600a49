"""Assembles the life of a rich container: makes each part that `decide` has decided on, and connects them."""

from functools import partial

from runtime import rundir
from runtime.bundle_log import BundleLog
from runtime.config import Config
from runtime.hooks import environment
from runtime.hooks.select import select
from runtime.rich.policy import Choice
from runtime.spec import ids
from runtime.spec.grace import grace_s
from shim.task.application.application import Application
from shim.task.application.boot_console import BootConsole
from shim.task.application.boot_queue import BootQueue
from shim.task.application.booting import Booting
from shim.task.application.restarts import Restarts
from shim.task.application.shutdown import Shutdown
from shim.task.application.stop import StopTracker
from shim.task.application.timeouts import timeouts_of
from shim.task.hooks.hooks import HookRunner
from shim.task.rich.container_agents import ContainerAgents
from shim.task.rich.decide import Decided
from shim.task.rich.own_cgroups import OwnCgroups
from shim.task.rich.rich import RichLifecycle
from shim.task.rich.subject import ContainerInfo, ContainerTools
from shim.task.stdio.stdio import Stdio
from shim.task.stdio.terminal import AppConsole


def make(
    about: ContainerInfo,
    decided: Decided,
    choice: Choice,
    config: Config,
    tools: ContainerTools,
    *,
    stdio: Stdio,
    console: AppConsole | None,
) -> RichLifecycle:
    """Make the lifecycle that `decided` asks for, with the client's streams and the application's terminal, if any."""
    made, identity = decided.plan, choice.identity
    mode = made.mode or ""
    subject = environment.HookSubject(
        id=about.id,
        containerd_namespace=about.namespace,
        bundle=about.bundle,
        rootfs=about.root,
        name=identity.container,
        namespace=identity.namespace,
        mode=mode,
        annotations=about.annotations,
        oci_version=str(about.spec.get("ociVersion", "1.0.2")),
    )
    selection = select(config, choice.overrides, identity, mode=mode)
    agents = ContainerAgents(
        about,
        decided.extras,
        tools,
        selects=partial(identity.selects, mode=mode),
        source=config.source,
        root=about.root_ids,
    )
    group = made.cgroup
    writer = about.user_ids if group is not None and group.leaf else about.root_ids
    cgroups = OwnCgroups(about.id, group, tools.oci, writer)
    hooks = HookRunner(subject, selection, spec=about.spec, oci=tools.oci, run=tools.run, reaper=tools.reaper)
    stop = StopTracker(made.boot.init if made.boot else "", made.stop_signal, grace_s(about.annotations))
    application = None
    if made.boot is not None:
        limits = timeouts_of(config, about.annotations)
        log = BundleLog(about.bundle)
        application = Application(
            made.boot,
            Booting(
                made.boot.init,
                BootConsole(about.id, about.bundle, log, private=not made.boot.streams),
                limits,
                before=agents.start_mandatory if decided.extras.agents else None,
                queue=BootQueue((about.namespace, about.id), config.rich.boot_parallel, tenant=identity.namespace),
            ),
            rundir.path_of(about.namespace, about.id),
            stdio,
            shutdown=Shutdown(about.id, made.boot.init, limits, log),
            stop=stop,
            restarts=Restarts(about.id, made.boot.init, wanted=config.rich.restart == "on-failure", log=log),
            root=about.root_ids,
            label=(about.spec.get("process") or {}).get("selinuxLabel") or "",
            app_uid=ids.host_uid(about.spec, made.boot.launch.uid if made.boot.launch is not None else 0),
            terminal=console,
            joined=cgroups.show,
            leaving=agents.leaving,
        )
    return RichLifecycle(
        about, decided, tools.reaper, application=application, hooks=hooks, agents=agents, cgroups=cgroups, stop=stop
    )

"""The image's own /sbin/init as PID 1: systemd as in mode systemd, other inits with our inittab over the image's.

sysvinit and OpenRC cannot end by themselves without CAP_SYS_BOOT; the last line of their runlevel 0 tells the shim.
Upstart, runit and the s6 family start the application as a child of their own supervisors, so it could neither be
PID 1's child nor be started only once. They are supported only as the image's own command, and then left alone.
"""

from dataclasses import replace

from runtime.errors import InvalidArgument
from runtime.init import delegate, inittab, kinds, mounts, process, services, shared, signals, systemd
from runtime.init.base import ModeInput, ModePlan, bind_step, covers
from runtime.init.boot import Boot, RunFile
from runtime.init.detect import INITTAB, SBIN_INIT
from runtime.spec.edit import Step

_FILE = "inittab"


def _environment(setting: ModeInput) -> str:
    """The file in the run directory that gives the inittab's commands the pod's environment, or ""."""
    wanted = setting.environment and not setting.is_own_command and kinds.kind_of(setting.init.kind).passes_environment
    return inittab.ENVIRONMENT if wanted else ""


def text_of(setting: ModeInput) -> str | None:
    """The inittab for the image's init, or None where its start scripts are of no known kind."""
    environment = bool(_environment(setting))
    if setting.init.kind == "busybox":
        return inittab.busybox(setting.init, environment=environment)
    can_halt = process.has_capability(setting, "CAP_SYS_BOOT")
    more = bool(setting.services)
    return inittab.sysvinit(setting.init, services=more, can_halt=can_halt, environment=environment)


def services_text(names: tuple[str, ...]) -> str:
    """The script that the inittab runs before the application, so that no service name is in the inittab itself."""
    return "".join(f"{command}\n" for command in services.commands(names))


def _inittab(setting: ModeInput) -> tuple[tuple[RunFile, ...], tuple[Step, ...]]:
    if setting.is_own_command:
        return (), ()
    text = text_of(setting)
    if text is None:
        raise InvalidArgument(
            f"image: {INITTAB}: found no start scripts of a known kind, allowed those of sysvinit or OpenRC"
            f" in mode {setting.mode}"
        )
    for point in setting.mounts:
        if covers(point.resolved, setting.resolved[INITTAB]) and point.resolved != "/":
            raise InvalidArgument(
                f"config.json: mounts[{point.destination}]: found a mount of the pod, allowed none over {INITTAB}"
                f" in mode {setting.mode}"
            )
    step = bind_step("mount-inittab", "our inittab over the image's", f"{setting.run_dir}/{_FILE}", INITTAB)
    more = (RunFile("services", services_text(setting.services)),) if setting.services else ()
    return (RunFile(_FILE, text), *more), (step,)


def make(setting: ModeInput) -> ModePlan:
    """Everything for the image's /sbin/init as PID 1. Raises InvalidArgument where the spec leaves no room for it."""
    kind = setting.init.kind
    if kind == "systemd":
        init = setting.init._replace(systemd=SBIN_INIT)
        return systemd.make(replace(setting, init=init))
    mounts.refuse(setting)
    of_node = shared.refuse(setting)
    files, ours = _inittab(setting)
    launch = None if setting.is_own_command else process.application(setting)
    groups, delegation = delegate.subtree(setting)
    in_memory = mounts.writable(setting)
    steps = (
        *groups,
        *in_memory,
        *ours,
        *mounts.run_directory(setting),
        process.step(setting, launch, setting.args if setting.is_own_command else (SBIN_INIT,)),
    )
    boot = Boot(
        init=kind,
        poweroff=signals.POWEROFF[kind],
        files=files,
        launch=launch,
        # With CAP_SYS_BOOT the image's own halt ends PID 1 before the line that reports to the shim is reached.
        halts=kind != "busybox" and not setting.is_own_command,
        environment=_environment(setting),
        signals=signals.translation(kind) if setting.is_own_command else (),
        streams=process.has_streams(setting),
    )
    left_out = () if setting.is_own_command else inittab.left_out(setting.init)
    warnings = (*left_out, *of_node, *process.wider(setting), *mounts.hidden(setting, in_memory))
    return ModePlan(steps, helpers=("launch",), boot=boot, cgroup=delegation, warnings=warnings)

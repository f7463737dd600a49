"""The image's own /sbin/init as PID 1: systemd as in its own mode, else an inittab of ours over the image's.

sysvinit and OpenRC cannot end by themselves without CAP_SYS_BOOT; the last line of their runlevel 0 says so to us.
Upstart, runit and the s6 family start the application as a child of their own supervisors, so it could be neither
PID 1's child nor started once: they are served only where they are the image's own command, and then left alone.
"""

from dataclasses import replace

from runtime.errors import InvalidArgument
from runtime.init import delegate, inittab, kinds, mounts, process, services, shared, signals, systemd
from runtime.init.base import Made, Setting, bound, covers
from runtime.init.boot import Boot, RunFile
from runtime.init.detect import INITTAB, SBIN_INIT
from runtime.spec.edit import Step

_FILE = "inittab"


def _environment(setting: Setting) -> str:
    """The file by which what the inittab names gets the pod's environment, or ""."""
    wanted = setting.environment and not setting.supplied and kinds.kind_of(setting.init.kind).passes_environment
    return inittab.ENVIRONMENT if wanted else ""


def text_of(setting: Setting) -> str | None:
    """The inittab for the image's init, or None where its start scripts are of no kind that is known."""
    environment = bool(_environment(setting))
    if setting.init.kind == "busybox":
        return inittab.busybox(setting.init, environment=environment)
    can_halt = process.has_capability(setting, "CAP_SYS_BOOT")
    more = bool(setting.services)
    return inittab.sysvinit(setting.init, services=more, can_halt=can_halt, environment=environment)


def services_text(names: tuple[str, ...]) -> str:
    """What the inittab has run before the application, so that no name stands in the inittab itself."""
    return "".join(f"{command}\n" for command in services.commands(names))


def _inittab(setting: Setting) -> tuple[tuple[RunFile, ...], tuple[Step, ...]]:
    if setting.supplied:
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
    step = bound("mount-inittab", "our inittab over the image's", f"{setting.run_dir}/{_FILE}", INITTAB)
    more = (RunFile("services", services_text(setting.services)),) if setting.services else ()
    return (RunFile(_FILE, text), *more), (step,)


def make(setting: Setting) -> Made:
    """Everything for the init that /sbin/init is. Raises InvalidArgument for what the spec leaves no room for."""
    kind = setting.init.kind
    if kind == "systemd":
        init = replace(setting.init, systemd=SBIN_INIT)
        return systemd.make(replace(setting, init=init))
    mounts.refuse(setting)
    of_node = shared.refuse(setting)
    files, ours = _inittab(setting)
    launch = None if setting.supplied else process.application(setting)
    groups, delegation = delegate.subtree(setting)
    in_memory = mounts.writable(setting)
    steps = (
        *groups,
        *in_memory,
        *ours,
        *mounts.home(setting),
        process.step(setting, launch, setting.args if setting.supplied else (SBIN_INIT,)),
    )
    boot = Boot(
        init=kind,
        poweroff=signals.POWEROFF[kind],
        files=files,
        launch=launch,
        # With CAP_SYS_BOOT the image's own halt ends PID 1 first, and the line that reports is never reached.
        halts=kind != "busybox" and not setting.supplied,
        environment=_environment(setting),
        signals=signals.translation(kind) if setting.supplied else (),
        streams=process.has_streams(setting),
    )
    left_out = () if setting.supplied else inittab.left_out(setting.init)
    warnings = (*left_out, *of_node, *process.wider(setting), *mounts.hidden(setting, in_memory))
    return Made(steps, helpers=("launch",), boot=boot, cgroup=delegation, warnings=warnings)

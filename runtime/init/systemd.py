"""systemd as PID 1 without privilege, and the application as a unit of it.

The texts are constants except for numbers; services are in a drop-in of their own, with checked names that exist in
the image. What the pod runs goes into the launcher's settings, never into a unit. Each file is bound by itself: the
unit, and a drop-in that makes multi-user.target and the image's boot target want it. default.target may be an alias,
and systemd applies drop-ins of each of a unit's names, so no symbolic link is needed and the image is not changed.
"""

from dataclasses import replace

from runtime.init import cgroup, delegate, mounts, process, services, shared, signals, volume_guard
from runtime.init.base import CONTAINER_RUN_DIR, ModeInput, ModePlan, bind_step, covers
from runtime.init.boot import Boot, RunFile
from runtime.init.detect import MACHINE_ID
from runtime.init.launcher_settings import RLIMITS
from runtime.spec import edit
from runtime.spec.edit import Step
from runtime.spec.grace import grace_s

UNIT = "pouchrich-app.service"
DROP_IN = "50-pouchrich.conf"
_SERVICES = "services.conf"
_ID = "machine-id"
_COMMIT = "systemd-machine-id-commit.service"
"""Turns a mount at /etc/machine-id into a file; it fails without CAP_SYS_ADMIN, so it is masked."""
_KNOWS_FIRST_BOOT = 252
"""The first systemd that itself obeys systemd.condition-first-boot=, and not only for units' ConditionFirstBoot=."""
_UNITS = "/run/systemd/system"

_WANTED_BY = {"mount-default-drop-in": "default.target", "mount-drop-in": "multi-user.target"}

_DROP_IN_TEXT = f"""\
[Unit]
Wants={UNIT}
"""


_LIMITS = "".join(f"Limit{name}={'40' if name == 'NICE' else 'infinity'}\n" for name in RLIMITS)
"""The highest value of each limit (systemd.exec(5)); `LimitNICE=` has no infinity."""


_RESTART = """\
Restart=on-failure
RestartForceExitStatus=SIGHUP SIGINT SIGTERM SIGPIPE
RestartSec=100ms
"""
"""By default systemd counts an end by one of these signals as clean (systemd.service(5), SuccessExitStatus=)."""


def unit_text(*, stop_s: int | None, stop_signal: int | None, restart_on_failure: bool) -> str:
    """The application's unit. `stop_s` and `stop_signal` apply to a stop from inside; None for systemd's defaults.

    The launcher could not raise a resource limit again that systemd lowers for units, by default or by the image's
    system.conf, so every limit is set to PID 1's own hard limit. As in any other container, the OOM killer ends no more
    than the process it picks. CPUWeight is the default weight and only makes systemd enable the controller, as
    MemoryAccounting does for memory: without them the unit's cgroup has no cpu.max and no memory.max
    (`runtime.cgroup.limit_mirror`).
    """
    stop = "" if stop_s is None else f"TimeoutStopSec={stop_s}\n"
    kill = "" if stop_signal is None else f"KillSignal={stop_signal}\n"
    return f"""\
[Unit]
Description=Application of this container
DefaultDependencies=no
Requires=sysinit.target
After=basic.target
Conflicts=shutdown.target
Before=shutdown.target

[Service]
Type=simple
ExecStart={CONTAINER_RUN_DIR}/launch app
{_RESTART if restart_on_failure else ""}KillMode=mixed
{kill}{stop}IgnoreSIGPIPE=no
{_LIMITS}TasksMax=infinity
OOMPolicy=continue
CPUWeight=100
MemoryAccounting=yes
StandardInput=null
StandardOutput=null
StandardError=tty
TTYPath=/dev/console
"""


def _machine_id(setting: ModeInput) -> str:
    """The id to mount because systemd would not write one (read-only root, or seen as a first boot); "" for none."""
    is_mounted = any(covers(point.resolved, MACHINE_ID) and point.resolved != "/" for point in setting.mounts)
    writes = (setting.init.version or 0) >= _KNOWS_FIRST_BOOT and not mounts.has_read_only_root(setting.spec)
    if setting.init.machine_id or is_mounted or writes:
        return ""
    return process.uuid_of(setting.spec, setting.run_dir).replace("-", "")


def _stop_s(setting: ModeInput, *, is_told: bool) -> int | None:
    """Seconds from a stop from inside to the kill: the pod's grace period, else systemd's default (None).

    `is_told` is false on v1: systemd gets no notification when a cgroup becomes empty, and a child that the application
    left behind would delay every end by the whole time.
    """
    if not is_told:
        return max(1, int(setting.stop_timeout_s) // 2)
    given = grace_s(edit.annotations(setting.spec))
    return None if given is None else max(1, int(given))


def _files(setting: ModeInput, *, is_told: bool) -> tuple[RunFile, ...]:
    needed = [name for name in setting.services if name in setting.needed]
    stop_s = _stop_s(setting, is_told=is_told)
    text = unit_text(stop_s=stop_s, stop_signal=setting.stop_signal, restart_on_failure=setting.restart_on_failure)
    return (
        RunFile(UNIT, text),
        RunFile(DROP_IN, _DROP_IN_TEXT),
        *((RunFile(_SERVICES, services.dropin(setting.services, needed)),) if setting.services else ()),
        *((RunFile(services.GATE, services.gate(needed)),) if needed else ()),
        *((RunFile(_ID, f"{_machine_id(setting)}\n"),) if _machine_id(setting) else ()),
        *volume_guard.files(setting),
    )


def _units(setting: ModeInput) -> tuple[Step, ...]:
    ordered = bind_step(
        "mount-services",
        "services that it wants, started before it and stopped after it",
        f"{setting.run_dir}/{_SERVICES}",
        services.DROPIN,
    )
    gate = bind_step(
        "mount-gate",
        "what fails where a mandatory service does",
        f"{setting.run_dir}/{services.GATE}",
        f"{_UNITS}/{services.GATE}",
    )
    known = bind_step("mount-machine-id", "an id that systemd would not write", f"{setting.run_dir}/{_ID}", MACHINE_ID)
    return (
        bind_step("mount-unit", "the application's unit", f"{setting.run_dir}/{UNIT}", f"{_UNITS}/{UNIT}"),
        *(
            bind_step(
                name, f"what makes {target} want it", f"{setting.run_dir}/{DROP_IN}", f"{_UNITS}/{target}.d/{DROP_IN}"
            )
            for name, target in _WANTED_BY.items()
        ),
        *((ordered,) if setting.services else ()),
        *((known,) if _machine_id(setting) else ()),
        *((gate,) if set(setting.services) & set(setting.needed) else ()),
        *volume_guard.steps(setting),
    )


def _arguments(setting: ModeInput) -> tuple[str, ...]:
    """PID 1's command line. In a container systemd reads its own arguments as a kernel command line."""
    known = (_COMMIT,) if _machine_id(setting) else ()
    masks = tuple(
        f"systemd.mask={name}" for name in dict.fromkeys((*setting.mask, *volume_guard.masks(setting), *known))
    )
    # No first boot: units that the image's author disabled stay disabled, and an image without a machine-id gets one.
    return (setting.init.systemd, "--show-status=1", "systemd.condition-first-boot=no", *masks)


def make(setting: ModeInput) -> ModePlan:
    """Everything for systemd as PID 1. Raises InvalidArgument for what the spec leaves no room for."""
    setting = replace(setting, delegates="")  # systemd makes cgroups of its own in any case
    mounts.refuse(setting, "/run/systemd")
    delegate.refuse_handles(setting)
    written = {point.destination: point.resolved for point in setting.mounts}
    groups, delegation = cgroup.layout(setting.spec, setting.host, setting.cgroup_limits, written, setting.init.version)
    launch = None if setting.is_own_command else process.application(setting)
    ours = () if setting.is_own_command else _units(setting)
    in_memory = mounts.writable(setting)
    of_node = shared.check(setting)
    steps = (
        *groups,
        *in_memory,
        *ours,
        *shared.steps(setting),
        *mounts.run_directory(setting),
        process.step(setting, launch, setting.args if setting.is_own_command else _arguments(setting)),
    )
    boot = Boot(
        init="systemd",
        poweroff=signals.POWEROFF["systemd"],
        files=(
            *(() if setting.is_own_command else _files(setting, is_told=not delegation.directory)),
            *shared.files(setting),
        ),
        launch=launch,
        signals=signals.translation("systemd") if setting.is_own_command else (),
        streams=process.has_streams(setting),
    )
    warnings = (*of_node, *process.wider(setting), *mounts.hidden(setting, in_memory))
    return ModePlan(steps, helpers=("launch",), boot=boot, cgroup=delegation, warnings=warnings)

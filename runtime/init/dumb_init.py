"""Mode dumb-init: a static dumb-init as PID 1, the command as its only child.

dumb-init forwards signals to the command, as they would reach it without an init, reaps orphans, and ends as soon as
the command ends, with the command's exit code, or 128+n if signal n ended it. It needs no privilege and nothing from
the image: the binary is static and bound read-only from the container's run directory. dumb-init cannot tell a command
that does not exist from one that exits 2, so the command is looked up in the image first (`runtime.image.image`).
"""

from runtime.errors import InvalidArgument
from runtime.init import delegate
from runtime.init.base import CONTAINER_RUN_DIR, ModeInput, ModePlan, MountPoint, bind_step, covers, variables
from runtime.spec import edit
from runtime.spec.edit import Edit, Step

_ASIDE = "/dev/.pouchrich"
"""Where the binary goes if /run is not the container's own."""


def _directory(setting: ModeInput) -> str:
    """The directory for the binary: CONTAINER_RUN_DIR, unless that lies on a volume of the pod.

    The OCI runtime creates a missing mount point. On a volume (for example the host's /run) it would write to what is
    not the container's, and on a read-only volume it would fail. Then the only place that is private, still writable
    and left without a trace is the tmpfs that every OCI runtime makes at /dev. Raises InvalidArgument where there is no
    such place.
    """
    above: MountPoint | None = None
    for point in setting.mounts:
        if covers(setting.resolved[CONTAINER_RUN_DIR], point.resolved):
            raise InvalidArgument(
                f"config.json: mounts[{point.destination}]: found a mount of the pod,"
                f" allowed none at or below {CONTAINER_RUN_DIR} in a rich container"
            )
        if covers(point.resolved, setting.resolved[CONTAINER_RUN_DIR]):
            above = point  # the last mount made is on top
    if above is None or above.is_private:
        return CONTAINER_RUN_DIR
    dev = [point for point in setting.mounts if point.resolved == "/dev"]
    if not dev or not dev[-1].is_private:
        raise InvalidArgument(
            f"config.json: mounts[{above.destination}]: found a volume, allowed a tmpfs or an emptyDir:"
            " /dev is a volume too, and so there is no place for mode dumb-init to mount its binary"
        )
    return _ASIDE


def make(setting: ModeInput) -> ModePlan:
    """The steps: the mount of the binary after every mount of the pod, the variables, the command.

    By default dumb-init makes a session for the command and forwards signals to that whole session, which would also
    signal the workers of a master process. `-c` turns the forwarding off (for the session see dumb-init/signals.h). A
    pod may ask for it by dumb-init's own variable. Raises InvalidArgument where the pod's mounts leave the binary no
    place.
    """
    path = f"{_directory(setting)}/dumb-init"
    wants_session = edit.env(setting.spec).get("DUMB_INIT_SETSID") == "1"
    flags = () if wants_session else ("-c",)
    groups, delegation = delegate.subtree(setting)
    steps = (
        *groups,
        bind_step(
            "mount-dumb-init",
            f"bind a static dumb-init at {path}, read-only, after all other mounts",
            f"{setting.run_dir}/dumb-init",
            path,
        ),
        Step(
            "env-rich-mode",
            "set rich_mode and rich_mode_launch_manner for the container",
            Edit("with_env", variables("dumb-init")),
        ),
        Step(
            "args-dumb-init",
            "start dumb-init as PID 1, the command as its child",
            Edit("with_args", [path, *flags, "--", *setting.args]),
        ),
    )
    return ModePlan(steps, helpers=("dumb-init",), cgroup=delegation)

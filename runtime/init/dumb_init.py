"""Mode dumb-init: a static dumb-init as PID 1, the command as its only child.

dumb-init forwards signals to the command, as they reach it without an init, reaps orphans, and ends
as soon as the command does with its exit code, or 128+n where signal n ended it. It needs no privilege and
nothing of the image: the binary is static and bound read-only from the container's run directory. What it cannot
tell apart is a command that does not exist from one that exits 2, which is why the command is looked up in the image
before (`runtime.image.image`).
"""

from runtime.errors import InvalidArgument
from runtime.init import delegate
from runtime.init.base import HOME, Made, MountPoint, Setting, bound, covers, variables
from runtime.spec import edit
from runtime.spec.edit import Edit, Step

_ASIDE = "/dev/.pouchrich"
"""Where the binary goes when /run is not the container's own."""


def _directory(setting: Setting) -> str:
    """Where the binary is bound: HOME, unless that lies on a volume of the pod.

    The OCI runtime makes a mount point where there is none. On a volume (say the host's /run) that would
    write to what is not the container's, and on a read-only one it would fail. The tmpfs every runtime makes
    at /dev is then the one place that is private, writable at that time, and left no trace in.
    """
    above: MountPoint | None = None
    for point in setting.mounts:
        if covers(setting.resolved[HOME], point.resolved):
            raise InvalidArgument(
                f"config.json: mounts[{point.destination}]: found a mount of the pod,"
                f" allowed none at or below {HOME} in a rich container"
            )
        if covers(point.resolved, setting.resolved[HOME]):
            above = point  # the last one made is on top
    if above is None or above.is_private:
        return HOME
    dev = [point for point in setting.mounts if point.resolved == "/dev"]
    if not dev or not dev[-1].is_private:
        raise InvalidArgument(
            f"config.json: mounts[{above.destination}]: found a volume, allowed a tmpfs or an emptyDir"
            f" where /dev is a volume too: mode dumb-init has no place for its binary"
        )
    return _ASIDE


def make(setting: Setting) -> Made:
    """The mount of the binary after every mount of the pod, the variables, the command.

    By itself dumb-init makes a session of the command's and forwards signals to that: a master's workers would be
    stopped with it. A pod may ask for that by dumb-init's own variable, but not with a terminal: a new session would
    have no controlling one, so no job control and no SIGWINCH. Raises InvalidArgument where the pod's mounts leave the
    binary no place.
    """
    path = f"{_directory(setting)}/dumb-init"
    wants_session = edit.env(setting.spec).get("DUMB_INIT_SETSID") == "1"
    flags = () if wants_session and not setting.terminal else ("-c",)
    groups, delegation = delegate.subtree(setting)
    steps = (
        *groups,
        bound(
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
    return Made(steps, helpers=("dumb-init",), cgroup=delegation)

"""Volumes that propagate an unmount to the node (mount_namespaces(7)), as with `mountPropagation: Bidirectional`.

At its shutdown an init unmounts every mount it sees. For such a volume that would also remove, from the node and from
other pods, whatever is mounted below it. systemd can be told to leave those mounts alone. Other inits cannot, so they
are refused, unless the init is the image's own command, as it would be in a plain container.
"""

import re
from collections.abc import Sequence

from runtime.errors import InvalidArgument
from runtime.init import process
from runtime.init.base import ModeInput, MountPoint, bind_step
from runtime.init.boot import RunFile
from runtime.spec.edit import Step

_FILE, _DROP_IN = "shared.conf", "50-pouchrich.conf"
_UNITS = "/run/systemd/system"
_TEXT = "[Unit]\nDefaultDependencies=no\n"
"""Without default dependencies a mount unit has no Conflicts=umount.target (systemd.mount(5))."""
_BY_PREFIX = 239
"""The first systemd that has drop-ins for all units with a common name prefix (systemd.unit(5))."""
_TO_ESCAPE = re.compile(rb"[^A-Za-z0-9:_./]|^\.")


def _points(setting: ModeInput) -> Sequence[MountPoint]:
    """The pod's volumes of this kind; none where PID 1 has no CAP_SYS_ADMIN and so cannot unmount."""
    if not process.has_capability(setting, "CAP_SYS_ADMIN"):
        return ()
    return [point for point in setting.mounts if {"shared", "rshared"} & set(point.mount.get("options") or ())]


def refuse(setting: ModeInput) -> tuple[str, ...]:
    """For an init that unmounts everything: raise InvalidArgument for such a volume, or warn where it is accepted."""
    if setting.is_own_command:
        return tuple(
            f"config.json: mounts[{point.destination}]: when {setting.init.kind} shuts down, it unmounts everything"
            " below this volume, on the node too"
            for point in _points(setting)
        )
    for point in _points(setting):
        raise InvalidArgument(
            f"config.json: mounts[{point.destination}]: found a volume with propagation to the node, allowed none where"
            f" {setting.init.kind} is PID 1 with CAP_SYS_ADMIN: when it shuts down, it unmounts everything below the"
            " volume, on the node too"
        )
    return ()


def _escaped(path: str) -> str:
    """The name of the path's mount unit without its suffix (systemd.unit(5), "String Escaping for Inclusion")."""
    text = path.strip("/").encode(errors="surrogateescape")
    safe = _TO_ESCAPE.sub(lambda found: b"\\x%02x" % ord(found[0]), text)
    return safe.replace(b"/", b"-").decode()


def check(setting: ModeInput) -> tuple[str, ...]:
    """Like `refuse`, for a systemd too old for these drop-ins; nothing for a newer one. Raises InvalidArgument."""
    is_old = setting.init.version is not None and setting.init.version < _BY_PREFIX
    return refuse(setting) if is_old else ()


def files(setting: ModeInput) -> tuple[RunFile, ...]:
    """The drop-in, if there is such a volume."""
    return (RunFile(_FILE, _TEXT),) if _points(setting) else ()


def steps(setting: ModeInput) -> tuple[Step, ...]:
    """The mounts of the drop-in: for each volume's unit, and for the units of all that is mounted below it."""
    names = [_escaped(point.resolved) for point in _points(setting)]
    return tuple(
        bind_step(
            f"mount-shared-{unit}",
            "what is mounted there stays mounted on the node when systemd shuts down",
            f"{setting.run_dir}/{_FILE}",
            f"{_UNITS}/{unit}.mount.d/{_DROP_IN}",
        )
        for name in names
        for unit in (name, f"{name}-")
    )

"""Volumes from which an unmount reaches the node (mount_namespaces(7)), as those of `mountPropagation: Bidirectional`.

An init unmounts at its shutdown what it sees, and so would take from the node, and from other pods, whatever is mounted
below such a volume. systemd is told to leave that alone; other inits cannot be, and are refused but where the image's
own command is one, as it would be in a plain container.
"""

import re
from collections.abc import Sequence

from runtime.errors import InvalidArgument
from runtime.init import process
from runtime.init.base import MountPoint, Setting, bound
from runtime.init.boot import RunFile
from runtime.spec.edit import Step

_FILE, _DROP_IN = "shared.conf", "50-pouchrich.conf"
_UNITS = "/run/systemd/system"
_TEXT = "[Unit]\nDefaultDependencies=no\n"
"""Without these a mount unit has no Conflicts=umount.target (systemd.mount(5))."""
_BY_PREFIX = 239
"""The first systemd that has a drop-in for all units whose names begin alike (systemd.unit(5))."""
_TO_ESCAPE = re.compile(rb"[^A-Za-z0-9:_./]|^\.")


def _points(setting: Setting) -> Sequence[MountPoint]:
    """Such volumes, where PID 1 may unmount at all."""
    if not process.has_capability(setting, "CAP_SYS_ADMIN"):
        return ()
    return [point for point in setting.mounts if {"shared", "rshared"} & set(point.mount.get("options") or ())]


def refuse(setting: Setting) -> tuple[str, ...]:
    """For an init that unmounts all: raise InvalidArgument where there is such a volume, or warn of one that stays."""
    if setting.supplied:
        return tuple(
            f"config.json: mounts[{point.destination}]: at its shutdown {setting.init.kind} unmounts what is below, on"
            " the node too"
            for point in _points(setting)
        )
    for point in _points(setting):
        raise InvalidArgument(
            f"config.json: mounts[{point.destination}]: found a volume with propagation to the node, allowed none where"
            f" {setting.init.kind} is PID 1 with CAP_SYS_ADMIN: at its shutdown it unmounts what is below, on the node"
            " too"
        )
    return ()


def _escaped(path: str) -> str:
    """The name of the path's mount unit without its suffix (systemd.unit(5), "String Escaping for Inclusion")."""
    text = path.strip("/").encode(errors="surrogateescape")
    safe = _TO_ESCAPE.sub(lambda found: b"\\x%02x" % ord(found[0]), text)
    return safe.replace(b"/", b"-").decode()


def check(setting: Setting) -> tuple[str, ...]:
    """As `refuse`, for a systemd that is too old for the drop-ins."""
    is_old = setting.init.version is not None and setting.init.version < _BY_PREFIX
    return refuse(setting) if is_old else ()


def files(setting: Setting) -> tuple[RunFile, ...]:
    """The drop-in's text, if there is such a volume."""
    return (RunFile(_FILE, _TEXT),) if _points(setting) else ()


def steps(setting: Setting) -> tuple[Step, ...]:
    """What binds it, for each volume and for all that is mounted below it."""
    names = [_escaped(point.resolved) for point in _points(setting)]
    return tuple(
        bound(
            f"mount-shared-{unit}",
            "what is mounted there stays mounted on the node when systemd shuts down",
            f"{setting.run_dir}/{_FILE}",
            f"{_UNITS}/{unit}.mount.d/{_DROP_IN}",
        )
        for name in names
        for unit in (name, f"{name}-")
    )

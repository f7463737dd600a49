"""Files of an image or of a pod's mount that systemd would use instead of one of our units, or as its drop-in.

Our units are in /run/systemd/system. systemd prefers units in /etc (systemd.unit(5), "Unit File Load Path"), adds
drop-ins from all its directories, and for `a-b.service` also those of `a-.service`. A link to /dev/null there disables
a unit silently. What a program of the image puts there during the boot cannot be seen beforehand, so this check
enforces nothing: it only reports the mistake early and clearly.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from runtime.errors import InvalidArgument
from runtime.image.image import Rootfs
from runtime.init.base import covers

_BEFORE = (
    "/etc/systemd/system.control",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
)
"""Directories whose units take precedence over /run/systemd/system. /run may be a volume that was used before."""
_BESIDE = ("/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
"""Directories whose drop-ins apply to our units, but whose units do not replace them."""
_TARGETS = ("multi-user.target.d", "default.target.d")
_APPLICATION, _AGENTS = "50-pouchrich.conf", "60-agents.conf"
"""The drop-ins that start the application and the agents; a file of the same name in /etc replaces them."""


class _Volume(NamedTuple):
    """A bind mount of the spec: `at` is where it lies in the image, `source` is the host path that it shows."""

    at: str
    source: str


def _names(unit: str) -> tuple[str, ...]:
    """The names in a directory that change `unit`: its drop-in directory, and those of its name's dashed prefixes."""
    stem, dot, suffix = unit.rpartition(".")
    parts = stem.split("-")
    beginnings = ["-".join(parts[:count]) + "-" for count in range(1, len(parts))]
    return (f"{unit}.d", *(f"{one}{dot}{suffix}.d" for one in beginnings))


def _volumes(mounts: Iterable[Mapping[str, Any]], resolved: Mapping[str, str]) -> tuple[_Volume, ...]:
    found = []
    for one in mounts:
        at = resolved.get(posixpath.join("/", one["destination"]), "/")
        source = one.get("source")
        is_bind = one.get("type") == "bind" or {"bind", "rbind"} & set(one.get("options") or ())
        if at != "/" and is_bind and isinstance(source, str) and source.startswith("/"):
            found.append(_Volume(at, source))
    return tuple(found)


class _Looker:
    """Looks up directory entries as the container will see them, with volumes over the image."""

    def __init__(self, root: Rootfs, volumes: Sequence[_Volume]) -> None:
        self._root = root
        self._volumes = volumes

    def entries(self, directory: str, names: Iterable[str]) -> list[str]:
        """The `names` that exist in `directory`, each as a path in the container."""
        place = self._root.walk(directory)
        at = place.path
        above = [one for one in self._volumes if covers(one.at, at)]
        within = {one.at for one in self._volumes if one.at.startswith(f"{at}/")}
        found = [name for name in names if any(covers(f"{at}/{name}", one) for one in within)]
        if not above and place.mode is not None:
            found += [name for name in names if self._root.has(f"{at}/{name}")]
        elif above:
            top = max(above, key=lambda one: len(one.at))
            found += self._in_volume(top, at[len(top.at) :], names)
        return [f"{directory}/{name}" for name in dict.fromkeys(found)]

    def _in_volume(self, volume: _Volume, rest: str, names: Iterable[str]) -> list[str]:
        try:
            with Rootfs.open(volume.source) as root:
                return [name for name in names if root.has(f"{rest}/{name}")]
        except InvalidArgument:  # the source is a file or missing: the OCI runtime reports that
            return []


def look(
    root: Rootfs,
    application: Sequence[str],
    agents: Sequence[str],
    mounts: Iterable[Mapping[str, Any]],
    resolved: Mapping[str, str],
) -> dict[str, str]:
    """By unit of ours, the path in the container of the first file that replaces it or adds to it.

    `application` and `agents` are names of units; `mounts` are the spec's, and `resolved` says where their destinations
    lead in the image. Only reads.
    """
    looker = _Looker(root, _volumes(mounts, resolved))
    claims: dict[str, str] = {}
    for directory in (*_BEFORE, *_BESIDE):
        wanted: dict[str, list[str]] = {}
        for unit in (*application, *agents):
            started_by = _APPLICATION if unit in application else _AGENTS
            whole = (unit, *(f"{one}/{started_by}" for one in _TARGETS)) if directory in _BEFORE else ()
            for name in (*whole, *_names(unit)):
                wanted.setdefault(name, []).append(unit)
        for path in looker.entries(directory, wanted):
            for unit in wanted[path[len(directory) + 1 :]]:
                claims.setdefault(unit, path)
    return claims

"""What an image or a pod's mount has where systemd would take it for one of our units, or add it to one.

Our units stand in /run/systemd/system. systemd prefers what is in /etc (systemd.unit(5), "Unit File Load Path"), adds
drop-ins from everywhere, and for `a-b.service` also those of `a-.service`: a link to /dev/null there takes a unit away,
and nobody is told. What a program of the image puts there while it boots cannot be seen before; so nothing that has to
hold rests on this, it only makes the mistake an early and a plain one.
"""

import posixpath
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.errors import InvalidArgument
from runtime.image.image import Rootfs

_BEFORE = (
    "/etc/systemd/system.control",
    "/etc/systemd/system",
    "/etc/systemd/system.attached",
    "/run/systemd/system.control",
    "/run/systemd/transient",
    "/run/systemd/generator.early",
)
"""Directories whose units come before those in /run/systemd/system. /run may be a volume that had a life before."""
_BESIDE = ("/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
"""Where drop-ins count, and units do not."""
_TARGETS = ("multi-user.target.d", "default.target.d")
_APPLICATION, _AGENTS = "50-pouchrich.conf", "60-agents.conf"
"""The drop-ins that have application and agents started; one of the same name in /etc stands in for them."""


@dataclass(frozen=True, slots=True)
class _Volume:
    """A bind mount of the spec: where it is in the image, and what it shows, a host path."""

    at: str
    source: str


def _names(unit: str) -> tuple[str, ...]:
    """What a directory may hold that changes `unit`: drop-in directories, also those of its name's beginnings."""
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


def _covers(directory: str, path: str) -> bool:
    return path == directory or path.startswith(f"{directory}/")


class _Looker:
    """Looks up entries, through the volumes that lie over the image."""

    def __init__(self, root: Rootfs, volumes: Sequence[_Volume]) -> None:
        self._root = root
        self._volumes = volumes

    def entries(self, directory: str, names: Iterable[str]) -> list[str]:
        """Those of `names` that `directory` has, each as a path in the container."""
        place = self._root.walk(directory)
        at = place.path
        above = [one for one in self._volumes if _covers(one.at, at)]
        within = {one.at for one in self._volumes if one.at.startswith(f"{at}/")}
        found = [name for name in names if any(_covers(f"{at}/{name}", one) for one in within)]
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
        except InvalidArgument:  # a file, or nothing: the OCI runtime will say so
            return []


def look(
    root: Rootfs,
    application: Sequence[str],
    agents: Sequence[str],
    mounts: Iterable[Mapping[str, Any]],
    resolved: Mapping[str, str],
) -> dict[str, str]:
    """For each unit of ours that something stands in for or is added to, the path in the container of the first such.

    `application` and `agents` are names of units; `mounts` are the spec's, and `resolved` says where their destinations
    lead in the image. Changes nothing.
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

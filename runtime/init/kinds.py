"""The kinds of init that PID 1 of a rich container can be, and what is particular about each for who works with one."""

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class InitKind:
    """What an init called `name` does that others do not.

    `has_units`: what it starts are units (systemd.unit(5)), so an agent may be one. `restarts`: it can start an
    application again that failed. `uses_inotify`: it does not boot without inotify instances of the node's.
    `passes_environment`: services have the environment of the line that starts them. `begins_anew`: told to power off
    while it does, it begins with that anew. `writes_to_its_streams`: what it starts has the streams that it was started
    with; others open /dev/console, and where there is none /dev/null.
    """

    name: str
    has_units: bool = False
    restarts: bool = False
    uses_inotify: bool = False
    passes_environment: bool = False
    begins_anew: bool = False
    writes_to_its_streams: bool = False


SYSTEMD = InitKind("systemd", has_units=True, restarts=True, uses_inotify=True, begins_anew=True)
SYSVINIT = InitKind("sysvinit", passes_environment=True)
OPENRC = InitKind("openrc")
BUSYBOX = InitKind("busybox", passes_environment=True, writes_to_its_streams=True)
DUMB_INIT = InitKind("dumb-init")

_KINDS: Mapping[str, InitKind] = {one.name: one for one in (SYSTEMD, SYSVINIT, OPENRC, BUSYBOX, DUMB_INIT)}


def kind_of(name: str) -> InitKind:
    """The kind called `name`; for another's name one that does nothing particular."""
    return _KINDS.get(name) or InitKind(name)

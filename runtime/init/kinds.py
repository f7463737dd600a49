"""The kinds of init that can be PID 1 of a rich container, and what is specific to each."""

from collections.abc import Mapping
from typing import NamedTuple


class InitKind(NamedTuple):
    """What an init called `name` does that others do not.

    `has_units`: it starts units (systemd.unit(5)), so an agent may be a unit. `can_restart`: it can start a failed
    application again. `uses_inotify`: it needs inotify instances of the node to boot. `passes_environment`: services
    have the environment of the inittab line that starts them. `begins_anew`: told to power off while it is powering
    off, it starts over. `writes_to_its_streams`: what it starts has the streams that the init was started with; other
    inits open /dev/console, or /dev/null where there is no console.
    """

    name: str
    has_units: bool = False
    can_restart: bool = False
    uses_inotify: bool = False
    passes_environment: bool = False
    begins_anew: bool = False
    writes_to_its_streams: bool = False


SYSTEMD = InitKind("systemd", has_units=True, can_restart=True, uses_inotify=True, begins_anew=True)
SYSVINIT = InitKind("sysvinit", passes_environment=True)
OPENRC = InitKind("openrc")
BUSYBOX = InitKind("busybox", passes_environment=True, writes_to_its_streams=True)
DUMB_INIT = InitKind("dumb-init")

_KINDS: Mapping[str, InitKind] = {one.name: one for one in (SYSTEMD, SYSVINIT, OPENRC, BUSYBOX, DUMB_INIT)}


def kind_of(name: str) -> InitKind:
    """The kind called `name`; for an unknown name a kind with all fields false."""
    return _KINDS.get(name) or InitKind(name)

"""The inits a rich container may have, by mode. `runtime.rich.mode` decides which of them a container gets.

Code that depends on a mode or on PID 1 reads a field of `InitMode` or of `InitKind` (`runtime.init.kinds`); no module
outside this folder compares the names.
"""

from collections.abc import Mapping

from runtime.init import dumb_init, kinds, possible, sbin_init, systemd
from runtime.init.base import InitMode

SYSTEMD = InitMode("systemd", systemd.make, possible.to_systemd, kind=kinds.SYSTEMD.name)
SBIN_INIT = InitMode("sbin-init", sbin_init.make, possible.to_sbin_init)
DUMB_INIT = InitMode("dumb-init", dumb_init.make, possible.to_dumb_init, kind=kinds.DUMB_INIT.name, is_real=False)

INIT_MODES: Mapping[str, InitMode] = {one.name: one for one in (SYSTEMD, SBIN_INIT, DUMB_INIT)}

AUTO = "auto"
"""Asks for SYSTEMD where possible, else for DUMB_INIT. Not itself a mode that a container has."""


def mode_for(kind: str) -> InitMode:
    """The mode of a container whose own command is an init of the kind `kind`."""
    return SYSTEMD if kind == SYSTEMD.kind else SBIN_INIT


def may_be_real(asked: str) -> bool:
    """Whether a container that asks for the mode `asked`, or for AUTO, may get an init of its image as PID 1."""
    return asked == AUTO or INIT_MODES[asked].is_real

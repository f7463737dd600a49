"""The inits a rich container may have, by mode. `runtime.rich.mode` tells which of them an image can serve."""

from collections.abc import Mapping

from runtime.init import dumb_init, sbin_init, systemd
from runtime.init.base import InitMode

INIT_MODES: Mapping[str, InitMode] = {
    one.name: one
    for one in (
        InitMode("systemd", systemd.make),
        InitMode("sbin-init", sbin_init.make),
        InitMode("dumb-init", dumb_init.make),
    )
}

"""The inits a rich container may have, by mode. A mode that is not here is not implemented."""

from collections.abc import Mapping

from runtime.init import dumb_init
from runtime.init.base import InitMode

INIT_MODES: Mapping[str, InitMode] = {
    "dumb-init": InitMode(name="dumb-init", steps=dumb_init.steps),
}

"""All that the spawner has imported made immortal, where the interpreter is our own (heap/immortal.c).

A pod server then writes to no page for having used what is on it, so there is nothing to share by comparison
(runtime.linux.heap): it has 1.4 MiB for itself in place of 2.1, and as much when it is asked each second.
"""

import gc
from collections.abc import Callable


def _maker() -> Callable[[list[object]], None] | None:
    try:
        from _immortal import make_immortal  # type: ignore[import-not-found]
    except ImportError:
        return None
    maker: Callable[[list[object]], None] = make_immortal
    return maker


def is_possible() -> bool:
    """Whether this Python can."""
    return _maker() is not None


def turn_on() -> bool:
    """Make all objects that there are immortal; return whether this Python can."""
    maker = _maker()
    if maker is not None:
        maker(gc.get_objects())
    return maker is not None

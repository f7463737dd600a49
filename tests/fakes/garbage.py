"""What only a garbage collection can free: reference cycles, mostly of an exception and the frame that caught it."""

import gc
from pathlib import Path
from types import FrameType

PACKAGES = ("runtime", "shim")
ROOTS = tuple(f"{Path(__file__).parents[2] / name}/" for name in PACKAGES)


def of_ours() -> list[object]:
    """The garbage since the last gc.collect() that is an object or a frame of the code under test.

    Other threads, such as those of the test runner, make garbage of their own meanwhile.
    """
    gc.set_debug(gc.DEBUG_SAVEALL)
    try:
        gc.collect()
        return [one for one in gc.garbage if _is_ours(one)]
    finally:
        gc.set_debug(0)
        gc.garbage.clear()


def _is_ours(one: object) -> bool:
    if isinstance(one, FrameType):
        return one.f_code.co_filename.startswith(ROOTS)
    return type(one).__module__.partition(".")[0] in PACKAGES

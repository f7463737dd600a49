"""The code that a pod server runs, apart in memory from what was imported with it and never runs.

Where Python cannot be kept from writing into code as it runs (`shim.spawner.adaptive`), a page with code that runs is
one that each pod server copies, and code lies where its module was read, mostly between code and documentation of no
use. Copies that are made one after the other lie together.

From CPython 3.13 on, a function that is given other code is never again called by a specialised instruction
(Objects/funcobject.c, func_set_code), and who calls it counts that in its own code, for ever. There nothing is
gathered.
"""

import gc
import sys
from collections.abc import Callable, Collection, Iterable
from types import CodeType, FrameType, FunctionType


def called_by(play: Callable[[], object]) -> list[CodeType]:
    """The code of all that this thread calls in the course of `play()`. Raises what that raises."""
    found: dict[int, CodeType] = {}

    def note(frame: FrameType, event: str, _: object) -> None:
        if event == "call":
            found[id(frame.f_code)] = frame.f_code

    sys.setprofile(note)
    try:
        play()
    finally:
        sys.setprofile(None)
    return list(found.values())


def defined_in(modules: Collection[str]) -> list[CodeType]:
    """The code of all functions of these modules."""
    return [function.__code__ for function in _functions() if function.__module__ in modules]


def gather(codes: Iterable[CodeType]) -> None:
    """Give each function with one of these codes, as the very object, a new copy of it, in CPython 3.11 and 3.12."""
    if sys.version_info >= (3, 13):
        return
    wanted = set(map(id, codes))
    made: dict[int, CodeType] = {}

    def copy(code: CodeType) -> CodeType:
        if id(code) not in made:
            inner = (copy(one) if id(one) in wanted else one for one in code.co_consts)  # of functions made by this one
            made[id(code)] = code.replace(co_consts=tuple(inner))
        return made[id(code)]

    for function in _functions():
        if id(function.__code__) in wanted:
            function.__code__ = copy(function.__code__)


def _functions() -> list[FunctionType]:
    return [one for one in gc.get_objects() if type(one) is FunctionType]

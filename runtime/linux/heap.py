"""The interpreter's memory as a file that forked processes share (heap/heap.c has the why and the how)."""

import ctypes
import gc
import os
import sys
import time
from bisect import bisect_left
from contextlib import suppress

M_ARENA_MAX = -8
MAX_RANGES = 64
"""RANGES of heap/heap.c."""

THREADS_TIMEOUT_S = 5.0
"""For threads that have done their work, but are not gone yet."""

_library: ctypes.PyDLL | None = None
"""Once the memory is shared, in this process or in the one that it was forked from."""


def use_one_arena() -> None:
    """Have all threads take memory from the same place, where the C library is glibc (mallopt(3), M_ARENA_MAX).

    A pod server's threads are short and seldom two at a time; each first one would be given an arena of its own.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def ranges() -> list[tuple[int, int]]:
    """(begin, end) of the mappings in which Python's objects live, the largest first.

    Those made by the interpreter are in anonymous mappings; `object`, 0 and the types that C code declares are in the
    executable's, libpython's and the extensions' own. To find them all it is enough to look at containers, at what
    modules name and what that refers to, and at the types of these: a quarter of all objects. Not by their size: the
    stacks that the C library keeps of threads that ended are as large, and would be made to take memory.
    """
    named = gc.get_referents(*[module.__dict__ for module in sys.modules.values() if module is not None])
    known = [*gc.get_objects(), *named, *gc.get_referents(*named), object, 0]
    objects = sorted({*map(id, known), *map(id, map(type, known))})
    found = []
    for begin, end in _writable():
        at = bisect_left(objects, begin)
        if at < len(objects) and objects[at] < end:
            found.append((begin, end))
    return sorted(found, key=lambda pair: pair[0] - pair[1])


def _writable() -> list[tuple[int, int]]:
    """The private mappings that can be written to, but for the stack."""
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            addresses, permissions, *_ = line.split()
            if permissions == "rw-p" and not line.endswith("[stack]\n"):
                begin, end = addresses.split("-")
                found.append((int(begin, 16), int(end, 16)))
    return found


def fill(library: str) -> None:
    """Leave no hole between objects: what is made from now on, here or in a forked process, has pages of its own.

    Takes up to 1 MB for good. `library` is the path of what heap/heap.c was made into. Raises OSError.
    """
    _load(library).heap_fill()


def share(library: str, found: list[tuple[int, int]]) -> None:
    """Put the mappings `found` into a file that all processes forked from now on share. May be called once.

    Raises OSError where the library or the kernel is missing something, TimeoutError where other threads still run
    after some seconds.
    """
    global _library
    end = time.monotonic() + THREADS_TIMEOUT_S
    while _threads() > 1:
        if time.monotonic() > end:
            raise TimeoutError("memory cannot be shared while other threads run")
        time.sleep(0.001)
    loaded = _load(library)
    there = _writable()  # looking for objects has made and freed some itself
    left = [(max(a, c), min(b, d)) for a, b in found for c, d in there if max(a, c) < min(b, d)][:MAX_RANGES]
    words = (ctypes.c_size_t * (2 * len(left)))(*[address for pair in left for address in pair])
    _clear_caches()
    failed = loaded.heap_share(words, len(left))
    if failed:
        raise OSError(-failed, os.strerror(-failed), "heap_share")
    _library = loaded


def _load(library: str) -> ctypes.PyDLL:
    loaded = ctypes.PyDLL(library)  # keeps the interpreter's lock
    try:
        loaded.heap_share.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        loaded.heap_give_back.restype = ctypes.c_long
        loaded.heap_fill.restype = ctypes.c_size_t
        loaded.heap_map.restype = None
    except AttributeError as err:
        raise OSError(f"{library}: {err}; hack/build-heap.sh builds it anew") from err
    return loaded


def _clear_caches() -> None:
    """Empty what looking up attributes fills, and holds names by: it is to be the same before and after."""
    if sys.version_info >= (3, 13):
        sys._clear_internal_caches()
    else:
        sys._clear_type_cache()


def map_shared() -> None:
    """Have what is shared mapped now rather than page by page when it is looked at. Copies nothing."""
    if _library is not None:
        _library.heap_map()


def is_shared() -> bool:
    """Whether there is anything to give back."""
    return _library is not None


def give_back() -> int | None:
    """Drop this process's copies of pages that hold again what they held when they were shared; return how many.

    None where nothing is shared, and while another thread runs, which could write to a page just looked at. About
    5 ms per thousand pages copied.
    """
    if _library is None or _threads() > 1:
        return None
    _clear_caches()
    return max(0, int(_library.heap_give_back()))


def _threads() -> int:
    """As the kernel counts them: one that Python has forgotten may still be on its way through the C library."""
    return len(os.listdir("/proc/self/task"))

"""The interpreter's memory as a file that forked processes share (heap/heap.c explains why and how)."""

import ctypes
import gc
import os
import sys
from bisect import bisect_left
from contextlib import suppress

from runtime.linux import threads

M_ARENA_MAX = -8
MAX_RANGES = 64
"""The number RANGES of heap/heap.c."""

_library: ctypes.PyDLL | None = None
"""Set once the memory is shared, in this process or in the one that it was forked from."""


def use_one_arena() -> None:
    """Have all threads allocate from one arena, where the C library is glibc (mallopt(3), M_ARENA_MAX).

    A pod server's threads are short, and seldom do two run at once; without this a thread would get its own arena.
    """
    with suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_ARENA_MAX, 1)


def ranges() -> list[tuple[int, int]]:
    """(begin, end) of the mappings in which Python's objects are, the largest first.

    Objects that the interpreter allocates are in anonymous mappings; `object`, 0 and the types that C code declares are
    in the mappings of the executable, libpython and the extensions. Looking at containers, at what modules name and
    what that refers to, and at the types of these finds all mappings, with a quarter of all objects. Their size is no
    criterion: the stacks that the C library keeps of ended threads are as large, and sharing them would cost memory.
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
    """The writable private mappings, except the stack."""
    found = []
    with open("/proc/self/maps") as file:
        for line in file:
            addresses, permissions, *_ = line.split()
            if permissions == "rw-p" and not line.endswith("[stack]\n"):
                begin, end = addresses.split("-")
                found.append((int(begin, 16), int(end, 16)))
    return found


def fill(library: str) -> None:
    """Fill the holes between objects: what is made from now on, here or in a forked process, has pages of its own.

    Takes up to 1 MB for good. `library` is the path of the library built from heap/heap.c. Raises OSError.
    """
    _load(library).heap_fill()


def share(library: str, found: list[tuple[int, int]]) -> None:
    """Put the mappings `found` into a file that all processes forked from now on share. May be called once.

    Raises OSError where the library or the kernel lacks something, TimeoutError where other threads still run after
    some seconds.
    """
    global _library
    threads.await_others()
    loaded = _load(library)
    there = _writable()  # the search for objects has made and freed some mappings itself
    left = [(max(a, c), min(b, d)) for a, b in found for c, d in there if max(a, c) < min(b, d)][:MAX_RANGES]
    words = (ctypes.c_size_t * (2 * len(left)))(*[address for pair in left for address in pair])
    _clear_caches()
    failed = loaded.heap_share(words, len(left))
    if failed:
        raise OSError(-failed, os.strerror(-failed), "heap_share")
    _library = loaded


def _load(library: str) -> ctypes.PyDLL:
    loaded = ctypes.PyDLL(library)  # calls into it keep the GIL
    try:
        loaded.heap_share.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
        loaded.heap_give_back.restype = ctypes.c_long
        loaded.heap_fill.restype = ctypes.c_size_t
        loaded.heap_map.restype = None
    except AttributeError as err:
        raise OSError(f"{library}: {err}; hack/build-heap.sh builds it anew") from err
    return loaded


def _clear_caches() -> None:
    """Empty the cache of attribute look-ups, which refers to names: it has to be the same before and after."""
    if sys.version_info >= (3, 13):
        sys._clear_internal_caches()
    else:
        sys._clear_type_cache()


def map_shared() -> None:
    """Map all shared pages now rather than one by one on access. Copies nothing."""
    if _library is not None:
        _library.heap_map()


def is_shared() -> bool:
    """Whether the memory is shared, so that `give_back` can do something."""
    return _library is not None


def give_back() -> int | None:
    """Drop this process's copies of pages whose content is again what was shared; return how many.

    None where nothing is shared, and while another thread runs, which could write to a page just compared. Takes about
    5 ms per thousand pages copied.
    """
    if _library is None or threads.count() > 1:
        return None
    _clear_caches()
    return max(0, int(_library.heap_give_back()))

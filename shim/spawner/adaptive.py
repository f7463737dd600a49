"""Turns off Python's specialising adaptive interpreter (PEP 659) for the code that pod servers share.

Adaptive code counts in its own instructions, so each pod server gets a private copy of every page with code that runs.

CPython 3.11 counts the calls of a code object up to 0, then specialises it, and does neither again once the counter is
0 (Include/internal/pycore_code.h, _PyCode_Warmup): code whose counter is 0 from the beginning stays as compiled. Later
versions specialise at once and cannot be kept from it, except our own (`shim.spawner.specializing`).
"""

import ctypes
import gc
import sys
from types import CodeType, FunctionType

UNCALLED = -8
"""The counter of code that was never called (QUICKENING_INITIAL_WARMUP_VALUE)."""


class _Code(ctypes.Structure):
    """The beginning of a code object (Include/cpython/code.h, CPython 3.11)."""

    _fields_ = (
        ("ob_refcnt", ctypes.c_ssize_t),
        ("ob_type", ctypes.c_void_p),
        ("ob_size", ctypes.c_ssize_t),
        ("co_consts", ctypes.c_void_p),
        ("co_names", ctypes.c_void_p),
        ("co_exceptiontable", ctypes.c_void_p),
        ("co_flags", ctypes.c_int),
        ("co_warmup", ctypes.c_short),
    )


def turn_off() -> bool:
    """Keep all functions that exist now from being specialised; return whether that worked."""
    if not _is_known():
        return False
    settled: dict[int, tuple[CodeType, CodeType]] = {}  # by id: equal codes are not one

    def settle(code: CodeType) -> CodeType:
        """`code` itself, or a copy if it, or the code of a function that it makes, has been specialised."""
        if id(code) not in settled:
            consts = tuple(settle(one) if type(one) is CodeType else one for one in code.co_consts)
            is_same = all(new is old for new, old in zip(consts, code.co_consts, strict=True))
            stays = code if is_same and _of(code).co_warmup else code.replace(co_consts=consts)
            _of(stays).co_warmup = 0
            settled[id(code)] = code, stays
        return settled[id(code)][1]

    for function in [one for one in gc.get_objects() if type(one) is FunctionType]:
        function.__code__ = settle(function.__code__)
    return True


def _of(code: CodeType) -> _Code:
    return _Code.from_address(id(code))


def _is_known() -> bool:
    """Whether this Python's code objects have the layout of `_Code`, and count."""
    if sys.implementation.name != "cpython" or sys.version_info[:2] != (3, 11):
        return False

    def nothing() -> None:
        """Called to see whether its counter changes."""

    counted = [_of(nothing.__code__).co_warmup]
    nothing()
    counted.append(_of(nothing.__code__).co_warmup)
    return counted == [UNCALLED, UNCALLED + 1] and _of(nothing.__code__).co_flags == nothing.__code__.co_flags

"""A timer with a descriptor (timerfd_create(2)), for code without an event loop."""

from __future__ import annotations

import contextlib
import ctypes
import os
import time

_TFD_NONBLOCK = os.O_NONBLOCK
_TFD_CLOEXEC = os.O_CLOEXEC


class _Timespec(ctypes.Structure):
    _fields_ = (("seconds", ctypes.c_long), ("nanoseconds", ctypes.c_long))


class _Itimerspec(ctypes.Structure):
    _fields_ = (("interval", _Timespec), ("value", _Timespec))


_libc = ctypes.CDLL(None, use_errno=True)
_libc.timerfd_create.argtypes = (ctypes.c_int, ctypes.c_int)
_libc.timerfd_settime.argtypes = (ctypes.c_int, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p)


def _check(result: int, operation: str) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), operation)
    return result


def create() -> int:
    """A disarmed monotonic timer, non-blocking and close-on-exec. The caller owns the descriptor."""
    return _check(_libc.timerfd_create(time.CLOCK_MONOTONIC, _TFD_NONBLOCK | _TFD_CLOEXEC), "timerfd_create")


def arm(fd: int, delay_s: float) -> None:
    """Make `fd` readable once, `delay_s` from now; 0 disarms."""
    seconds, rest = divmod(delay_s, 1)
    setting = _Itimerspec(value=_Timespec(int(seconds), int(rest * 1e9)))
    _check(_libc.timerfd_settime(fd, 0, ctypes.byref(setting), None), "timerfd_settime")


def clear(fd: int) -> None:
    """Make `fd` unreadable until the timer expires again."""
    with contextlib.suppress(BlockingIOError):
        os.read(fd, 8)

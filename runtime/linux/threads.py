"""This process's threads by the kernel's count: one that Python has forgotten may still be in the C library."""

import os
import time

ENDED_TIMEOUT_S = 5.0
"""Seconds to wait for threads that have done their work but are not gone yet."""


def count() -> int:
    """The number of threads, the calling one included (proc(5), /proc/PID/task). Raises OSError without /proc."""
    return len(os.listdir("/proc/self/task"))


def await_others() -> None:
    """Wait until the calling thread is the only one. Raises TimeoutError after ENDED_TIMEOUT_S, OSError."""
    end = time.monotonic() + ENDED_TIMEOUT_S
    while count() > 1:
        if time.monotonic() > end:
            raise TimeoutError("other threads still run")
        time.sleep(0.001)

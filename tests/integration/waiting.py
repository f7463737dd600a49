"""Waiting for something another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(check: Callable[[], T], what: str, *, timeout_s: float = 10.0, every_s: float = 0.02) -> T:
    """Call check until it returns something true, and return that. Raises AssertionError naming `what`."""
    end = time.monotonic() + timeout_s
    while True:
        if found := check():
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s} s for: {what}")
        time.sleep(every_s)

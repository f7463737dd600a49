"""Waiting for something another process does."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")
PATIENCE_S = 30.0
"""Enough for a machine that has much else to do."""


def until(check: Callable[[], T], what: str, *, timeout_s: float = PATIENCE_S, every_s: float = 0.02) -> T:
    """Call check until it returns something true, and return that. Raises AssertionError naming `what`."""
    end = time.monotonic() + timeout_s
    while True:
        if found := check():
            return found
        if time.monotonic() > end:
            raise AssertionError(f"waited {timeout_s} s for: {what}")
        time.sleep(every_s)

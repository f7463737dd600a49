"""Computes a value before it is needed, while the event loop is idle: mostly while it waits for a child process."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Prefetch(Generic[T]):
    """Calls `call` once: in the event loop after everything that is ready now, or in `value` if that comes first."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._error: Exception | None = None
        self._found: list[T] = []
        self._handle = asyncio.get_running_loop().call_soon(self._find)

    def _find(self) -> None:
        self._handle.cancel()  # drops the handle's reference to this method, which would be a reference cycle
        try:
            self._found.append(self._call())
        except Exception as err:
            self._error = err

    def value(self) -> T:
        """The return value of `call`. Raises what `call` raised."""
        if not self._found and self._error is None:
            self._find()
        if self._error is not None:
            raise self._error
        return self._found[0]

"""What will be needed, found out while the event loop has nothing else to do: while a child is waited for, mostly."""

import asyncio
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")


class Ahead(Generic[T]):
    """`call` is called, in the event loop, once all that is ready now has run; or by `value`, if that comes first."""

    def __init__(self, call: Callable[[], T]) -> None:
        self._call = call
        self._error: Exception | None = None
        self._found: list[T] = []
        self._handle = asyncio.get_running_loop().call_soon(self._find)

    def _find(self) -> None:
        self._handle.cancel()  # it forgets this method, and with it itself
        try:
            self._found.append(self._call())
        except Exception as err:
            self._error = err

    def value(self) -> T:
        """What the call has returned. Raises what it has raised."""
        if not self._found and self._error is None:
            self._find()
        if self._error is not None:
            raise self._error
        return self._found[0]

"""Every codec case is fed three ways: whole, byte by byte, and with a part of a next frame behind it."""

from collections.abc import Callable
from typing import Any, Protocol

import pytest


class Receiver(Protocol):
    """A connection, or what looks like one."""

    def receive_data(self, data: bytes) -> list[Any]: ...


Feed = Callable[[Receiver, bytes], list[Any]]


def _whole(receiver: Receiver, data: bytes) -> list[Any]:
    return receiver.receive_data(data)


def _byte_by_byte(receiver: Receiver, data: bytes) -> list[Any]:
    return [event for at in range(len(data)) for event in receiver.receive_data(data[at : at + 1])]


def _with_trailing_bytes(receiver: Receiver, data: bytes) -> list[Any]:
    return receiver.receive_data(data + b"\x00\x00\x00\x01\x00\x00")


@pytest.fixture(params=[_whole, _byte_by_byte, _with_trailing_bytes], ids=lambda f: f.__name__.strip("_"))
def feed(request: pytest.FixtureRequest) -> Feed:
    """Gives the bytes to the receiver's `receive_data` in one of three ways and returns all its events."""
    way: Feed = request.param
    return way

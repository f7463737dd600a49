"""A Task service made of functions, and a real server for it on a socket in a temporary directory."""

import asyncio
import socket
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from google.protobuf.message import Message

from protos.gen import task_pb2
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import bind

TASK = "containerd.task.v2.Task"
DESCRIPTOR = task_pb2.DESCRIPTOR.services_by_name["Task"]

Answer = Callable[[Any], Awaitable[Message | None]]


# So much of the stack is kept of where a task, a future or a callback was made.
FRAMES = 3


def run(scenario: Coroutine[Any, Any, None]) -> None:
    """Run it in asyncio's debug mode.

    That keeps for each task, future and callback where it was made, all of pytest's frames if it is left to: half of
    the time of such a test.
    """
    with (
        patch.object(asyncio.constants, "DEBUG_STACK_DEPTH", FRAMES),
        patch.object(sys, "tracebacklimit", FRAMES, create=True),  # of futures, which ask traceback itself
    ):
        asyncio.run(scenario, debug=True)


class NotThere(Exception):
    """An error that the tests' status table knows."""


def status_of(exc: Exception) -> tuple[int, str] | None:
    return (5, str(exc)) if isinstance(exc, NotThere | TimeoutError) else None


class FakeTask:
    """Answers the methods it was given; the others, which `bind` wants to see, return nothing."""

    def __init__(self, **answers: Answer) -> None:
        self._answers = answers

    def __getattr__(self, name: str) -> Answer:
        return self._answers.get(name, self._nothing)

    async def _nothing(self, request: Message) -> None:
        return None


@asynccontextmanager
async def serving(tmp_path: Path, **answers: Answer) -> AsyncIterator[tuple[TtrpcServer, str]]:
    """A server of FakeTask(**answers), and the path of its socket."""
    server = TtrpcServer([bind(DESCRIPTOR, FakeTask(**answers))], status_of=status_of)
    path = str(tmp_path / "s")
    await server.start(listener(path))
    try:
        yield server, path
    finally:
        server.close()
        await settle()


@asynccontextmanager
async def connected(path: str) -> AsyncIterator[TtrpcClient]:
    client = await TtrpcClient.connect(path)
    try:
        yield client
    finally:
        client.close()
        await settle()


def listener(path: str) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen()
    return sock


async def settle() -> None:
    """Let everything that is ready run: callbacks, and what the kernel already holds for a socket."""
    for _ in range(50):
        await asyncio.sleep(0)


async def state(client: TtrpcClient, id: str = "", timeout_s: float | None = None) -> task_pb2.StateResponse:
    request = task_pb2.StateRequest(id=id)
    return await client.call(TASK, "State", request, task_pb2.StateResponse, timeout_s)


async def echo(request: task_pb2.StateRequest) -> task_pb2.StateResponse:
    return task_pb2.StateResponse(id=request.id)


async def forever(request: object) -> None:
    await asyncio.Event().wait()

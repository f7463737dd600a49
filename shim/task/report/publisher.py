"""Sends events to containerd: one queue and one forwarder, so that events arrive in the order in which they happened.

Publishing never waits. While containerd is away, the forwarder reconnects and retries for about as long as containerd's
own shims do. Events that it then cannot deliver are dropped, oldest first, and clients resynchronise by State
(containerd, runtime/v2/shim/publisher.go). No event overtakes an earlier one.
"""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Sequence

from google.protobuf.any_pb2 import Any
from google.protobuf.empty_pb2 import Empty
from google.protobuf.message import Message

from protos.gen import events_pb2, events_service_pb2
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.errors import RemoteError, TtrpcError

SERVICE = "containerd.services.events.ttrpc.v1.Events"
FORWARD_TIMEOUT_S = 5.0
RETRY_DELAYS_S = (1.0, 2.0, 3.0, 4.0, 5.0)
QUEUE_LIMIT = 2048

TOPICS: dict[type[Message], str] = {
    events_pb2.TaskCreate: "/tasks/create",
    events_pb2.TaskStart: "/tasks/start",
    events_pb2.TaskExecAdded: "/tasks/exec-added",
    events_pb2.TaskExecStarted: "/tasks/exec-started",
    events_pb2.TaskExit: "/tasks/exit",
    events_pb2.TaskDelete: "/tasks/delete",
    events_pb2.TaskOOM: "/tasks/oom",
    events_pb2.TaskPaused: "/tasks/paused",
    events_pb2.TaskResumed: "/tasks/resumed",
}

_log = logging.getLogger(__name__)


class Publisher:
    """Forwards events of one namespace to the ttrpc socket `address`; with an empty address it drops them."""

    def __init__(self, address: str, namespace: str, *, retry_delays_s: Sequence[float] = RETRY_DELAYS_S) -> None:
        self._address = address.removeprefix("unix://")
        self._namespace = namespace
        self._retry_delays_s = retry_delays_s
        self._queue: deque[tuple[events_service_pb2.Envelope, asyncio.Future[None]]] = deque()
        self._forwarder: asyncio.Task[None] | None = None
        self._client: TtrpcClient | None = None

    def publish(self, event: Message) -> "asyncio.Future[None]":
        """Queue `event`, one of TOPICS. The returned future is done once containerd has the event or it was dropped."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if not self._address:
            done.set_result(None)
            return done
        if len(self._queue) >= QUEUE_LIMIT:
            _log.error(
                "event %s dropped: containerd has accepted none of the last %d",
                self._queue[0][0].topic,
                QUEUE_LIMIT,
            )
            _settle(self._queue.popleft()[1])
        packed = Any(type_url=event.DESCRIPTOR.full_name, value=event.SerializeToString())
        envelope = events_service_pb2.Envelope(namespace=self._namespace, topic=TOPICS[type(event)], event=packed)
        envelope.timestamp.FromNanoseconds(time.time_ns())
        self._queue.append((envelope, done))
        if self._forwarder is None:
            self._forwarder = asyncio.get_running_loop().create_task(self._forward_all())
        return done

    async def close(self, timeout_s: float) -> None:
        """Deliver the queued events, within `timeout_s`, and disconnect."""
        if self._forwarder is not None:
            _, late = await asyncio.wait([self._forwarder], timeout=timeout_s)
            if late:
                self._forwarder.cancel()
                _log.error("%d events not delivered before shutdown", len(self._queue))
        self._hang_up()

    async def _forward_all(self) -> None:
        # Only this task removes from the left while it works on the left-most, so order holds across retries.
        try:
            while self._queue:
                envelope, done = self._queue[0]
                await self._deliver(envelope)
                _settle(done)
                if self._queue and self._queue[0][0] is envelope:
                    self._queue.popleft()
        finally:
            self._forwarder = None

    async def _deliver(self, envelope: events_service_pb2.Envelope) -> None:
        for delay in (0.0, *self._retry_delays_s, None):
            try:
                await self._forward(envelope)
                return
            except RemoteError as err:
                _log.error("event %s refused: %s", envelope.topic, err)
                return
            except (TtrpcError, OSError, TimeoutError) as err:
                self._hang_up()
                if delay is None:
                    _log.error("event %s dropped: %s", envelope.topic, err)
                else:
                    await asyncio.sleep(delay)

    async def _forward(self, envelope: events_service_pb2.Envelope) -> None:
        if self._client is None:
            async with asyncio.timeout(FORWARD_TIMEOUT_S):
                self._client = await TtrpcClient.connect(self._address)
        request = events_service_pb2.ForwardRequest(envelope=envelope)
        await self._client.call(SERVICE, "Forward", request, Empty, timeout_s=FORWARD_TIMEOUT_S)

    def _hang_up(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            client.close()


def _settle(done: "asyncio.Future[None]") -> None:
    if not done.done():
        done.set_result(None)

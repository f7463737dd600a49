"""Events on their way to a real ttrpc server that comes and goes."""

import asyncio
import logging
import os
import socket
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from protos.gen import events_pb2, events_service_pb2
from runtime.errors import InvalidArgument
from shim.pod import status
from shim.task.report import publisher
from shim.task.report.publisher import Publisher
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import Method, Service
from tests.fakes.loop import in_loop, until

SOON = (0.01,) * 5


class Containerd:
    """The Events service at a socket."""

    def __init__(self, path: Path) -> None:
        self.path = str(path)
        self.got: list[events_service_pb2.Envelope] = []
        self.refuses = False
        self.asked = 0
        self.stalls = asyncio.Event()
        self.stalls.set()
        self._server: TtrpcServer | None = None

    async def _forward(self, request: events_service_pb2.ForwardRequest) -> Empty:
        await self.stalls.wait()
        self.asked += 1
        if self.refuses:
            raise InvalidArgument("topic")
        self.got.append(request.envelope)
        return Empty()

    async def start(self) -> None:
        method = Method("Forward", self._forward, events_service_pb2.ForwardRequest, Empty)  # type: ignore[arg-type]
        self._server = TtrpcServer([Service(publisher.SERVICE, {"Forward": method})], status_of=status.status_of)
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(self.path)
        listener.listen()
        await self._server.start(listener)

    def stop(self) -> None:
        assert self._server is not None
        self._server.close()
        os.unlink(self.path)

    def pids(self) -> list[int]:
        return [events_pb2.TaskStart.FromString(one.event.value).pid for one in self.got]


def event(number: int) -> events_pb2.TaskStart:
    return events_pb2.TaskStart(container_id="c", pid=number)


@in_loop
async def test_who_waits_is_told_when_containerd_has_an_event_and_when_it_is_dropped(tmp_path: Path):
    containerd = Containerd(tmp_path / "s")
    await containerd.start()
    sender = Publisher(f"unix://{containerd.path}", "k8s.io", retry_delays_s=(0.0,))
    await asyncio.wait_for(sender.publish(event(1)), 10)
    assert containerd.pids() == [1]
    containerd.stop()
    await asyncio.wait_for(sender.publish(event(2)), 10)
    assert containerd.pids() == [1]
    await asyncio.wait_for(Publisher("", "k8s.io").publish(event(3)), 10)
    await sender.close(1)


@in_loop
async def test_an_event_arrives_with_its_topic_namespace_and_time(tmp_path: Path):
    containerd = Containerd(tmp_path / "s")
    await containerd.start()
    sender = Publisher(f"unix://{containerd.path}", "k8s.io")
    sender.publish(event(1))
    await sender.close(1)
    (got,) = containerd.got
    assert (got.namespace, got.topic, got.event.type_url) == ("k8s.io", "/tasks/start", "containerd.events.TaskStart")
    assert got.timestamp.seconds > 1_600_000_000
    containerd.stop()


def test_every_event_that_is_published_has_a_topic():
    assert len(set(publisher.TOPICS.values())) == len(publisher.TOPICS)
    assert all(topic.startswith("/tasks/") for topic in publisher.TOPICS.values())


@in_loop
async def test_order_holds_across_a_restart(tmp_path: Path):
    containerd = Containerd(tmp_path / "s")
    await containerd.start()
    sender = Publisher(containerd.path, "ns", retry_delays_s=(0.02,) * 20)
    for number in range(5):
        sender.publish(event(number))
    await until(lambda: len(containerd.got) == 5)
    containerd.stop()
    for number in range(5, 10):
        sender.publish(event(number))
    await asyncio.sleep(0.05)
    await containerd.start()
    sender.publish(event(10))
    await until(lambda: len(containerd.got) == 11)
    assert containerd.pids() == list(range(11))
    await sender.close(1)
    containerd.stop()


@in_loop
async def test_an_event_is_dropped_after_its_retries_and_the_next_gets_its_own(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    sender = Publisher(str(tmp_path / "nobody"), "ns", retry_delays_s=SOON)
    sender.publish(event(1))
    sender.publish(event(2))
    with caplog.at_level(logging.ERROR):
        await sender.close(5)
    assert [record.getMessage().startswith("event /tasks/start dropped") for record in caplog.records] == [True] * 2


@in_loop
async def test_an_event_that_containerd_refuses_is_not_tried_again(tmp_path: Path):
    containerd = Containerd(tmp_path / "s")
    containerd.refuses = True
    await containerd.start()
    sender = Publisher(containerd.path, "ns")
    sender.publish(event(1))
    async with asyncio.timeout(1):
        await sender.close(5)
    assert (containerd.asked, containerd.got) == (1, [])
    containerd.stop()


@in_loop
async def test_the_queue_is_bounded_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(publisher, "QUEUE_LIMIT", 10)
    containerd = Containerd(tmp_path / "s")
    containerd.stalls.clear()
    await containerd.start()
    sender = Publisher(containerd.path, "ns")
    sender.publish(event(0))
    await asyncio.sleep(0.05)  # under way
    for number in range(1, 30):
        sender.publish(event(number))
    containerd.stalls.set()
    await sender.close(5)
    assert containerd.pids() == [0, *range(20, 30)]
    containerd.stop()


@in_loop
async def test_close_delivers_what_is_queued_but_not_for_ever(tmp_path: Path):
    containerd = Containerd(tmp_path / "s")
    await containerd.start()
    sender = Publisher(containerd.path, "ns")
    for number in range(50):
        sender.publish(event(number))
    await sender.close(5)
    assert containerd.pids() == list(range(50))
    stuck = Publisher(containerd.path, "ns")
    containerd.stalls.clear()
    stuck.publish(event(1))
    async with asyncio.timeout(2):
        await stuck.close(0.1)
    containerd.stop()


@in_loop
async def test_without_an_address_events_go_nowhere():
    sender = Publisher("", "ns")
    sender.publish(event(1))
    assert len(asyncio.all_tasks()) == 1
    await sender.close(1)

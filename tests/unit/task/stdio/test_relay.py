"""Bytes through the relay: between real pipes (spliced) and through a terminal's or socket's copy path."""

import asyncio
import hashlib
import os
import pty
import resource
import socket
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from shim.task.stdio import relay as relay_module
from shim.task.stdio.relay import Relay
from tests.fakes.loop import in_loop, until

MIB = 1 << 20


def nonblocking_pipe() -> tuple[int, int]:
    return os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)


def fill(fd: int) -> int:
    """Write until the descriptor takes no more; how much it took."""
    written = 0
    while True:
        try:
            written += os.write(fd, bytes(4096))
        except BlockingIOError:
            return written


def take(fd: int) -> bytes:
    """All that is there now."""
    found = b""
    while True:
        try:
            data = os.read(fd, MIB)
        except BlockingIOError:
            return found
        if not data:
            return found
        found += data


class Wire:
    """`left` writes into the relay's source, `right` reads from its target; both sides' descriptors."""

    def __init__(self, make_source: Callable[[], tuple[int, int]]) -> None:
        self.source, self.left = make_source()
        self.right, self.target = nonblocking_pipe()
        self.ended = 0

    def end(self) -> None:
        self.ended += 1

    def relay(self) -> Relay:
        return Relay(asyncio.get_running_loop(), self.source, self.target, self.end)

    def close(self) -> None:
        for fd in (self.source, self.left, self.right, self.target):
            try:
                os.close(fd)
            except OSError:
                continue


def socket_pair() -> tuple[int, int]:
    """Not a pipe, so never spliced."""
    ours, theirs = socket.socketpair()
    ours.setblocking(False)
    theirs.setblocking(False)
    return ours.detach(), theirs.detach()


@pytest.fixture(params=[nonblocking_pipe, socket_pair], ids=["splice", "copy"])
def wire(request: pytest.FixtureRequest) -> Iterator[Wire]:
    wire = Wire(request.param)
    yield wire
    wire.close()


def count_wakeups(monkeypatch: pytest.MonkeyPatch, relay: Relay) -> list[int]:
    """How often the event loop selects from now on."""
    loop = asyncio.get_running_loop()
    selector = loop._selector
    counts: list[int] = []
    select = selector.select

    def counted(timeout: float | None = None) -> object:
        counts.append(1)
        return select(timeout)

    monkeypatch.setattr(selector, "select", counted)
    return counts


@in_loop
async def test_what_is_written_arrives_and_the_end_is_told_once(wire: Wire):
    relay = wire.relay()
    os.write(wire.left, b"hello")
    await until(lambda: take(wire.right) == b"hello")
    os.close(wire.left)
    await until(lambda: wire.ended)
    relay.close()
    assert wire.ended == 1


@in_loop
async def test_bytes_before_the_end_are_not_lost_to_it(wire: Wire):
    os.write(wire.left, b"last words")
    os.close(wire.left)
    wire.relay()
    await until(lambda: wire.ended)
    assert take(wire.right) == b"last words"


@in_loop
async def test_a_full_target_holds_the_writer_back_without_a_busy_loop(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    relay = wire.relay()
    sent = 0
    while True:  # until everything between the two ends is full
        more = fill(wire.left)
        sent += more
        await asyncio.sleep(0.01)
        if not more:
            break
    wakeups = count_wakeups(monkeypatch, relay)
    await asyncio.sleep(0.1)
    assert len(wakeups) <= 4
    got = 0
    while got < sent:
        got += len(take(wire.right))
        await asyncio.sleep(0)
    assert got == sent
    relay.close()


@in_loop
async def test_a_blocked_relay_whose_writer_has_gone_is_no_busy_loop_and_loses_nothing(
    wire: Wire, monkeypatch: pytest.MonkeyPatch
):
    filled = fill(wire.target)
    relay = wire.relay()
    os.write(wire.left, b"behind")
    os.close(wire.left)
    await asyncio.sleep(0.02)
    wakeups = count_wakeups(monkeypatch, relay)
    await asyncio.sleep(0.1)
    assert len(wakeups) <= 4
    assert not wire.ended
    assert len(take(wire.right)) == filled
    await until(lambda: wire.ended)
    assert take(wire.right) == b"behind"


@in_loop
async def test_many_small_writes_to_a_slow_reader_are_no_busy_loop(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    relay = wire.relay()
    for number in range(40):  # spliced, each takes one of the pipe's 16 slots however small it is
        os.write(wire.left, b"%d\n" % number)
        await asyncio.sleep(0.001)
    wakeups = count_wakeups(monkeypatch, relay)
    await asyncio.sleep(0.1)
    assert len(wakeups) <= 4
    os.close(wire.left)
    got = b""
    while not wire.ended:
        got += take(wire.right)
        await asyncio.sleep(0.001)
    assert got + take(wire.right) == b"".join(b"%d\n" % number for number in range(40))


@in_loop
async def test_an_idle_relay_causes_no_wakeups(wire: Wire, monkeypatch: pytest.MonkeyPatch):
    relay = wire.relay()
    wakeups = count_wakeups(monkeypatch, relay)
    await asyncio.sleep(0.1)
    assert len(wakeups) <= 3
    relay.close()


@in_loop
async def test_a_target_that_nobody_reads_any_more_ends_the_relay(wire: Wire):
    wire.relay()
    os.close(wire.right)
    os.write(wire.left, b"x")
    await until(lambda: wire.ended)
    assert wire.ended == 1


@in_loop
async def test_a_target_that_breaks_while_it_is_full_ends_the_relay(wire: Wire):
    fill(wire.target)
    wire.relay()
    os.write(wire.left, b"x")
    await asyncio.sleep(0.01)
    os.close(wire.right)
    await until(lambda: wire.ended)
    assert wire.ended == 1


@pytest.fixture
def full_disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wire]:
    """A wire from a pipe to what is a file on a full disk, which is tried again after 10 ms."""
    monkeypatch.setattr(relay_module, "NO_SPACE_PAUSE_S", 0.01)
    wire = Wire(nonblocking_pipe)
    full = os.open("/dev/full", os.O_WRONLY)
    os.dup2(full, wire.target)
    os.close(full)
    yield wire
    wire.close()


@in_loop
async def test_a_full_disk_holds_the_writer_back_until_there_is_space(full_disk: Wire, tmp_path: Path):
    relay = full_disk.relay()
    os.write(full_disk.left, b"one ")
    await asyncio.sleep(0.05)
    held_back = fill(full_disk.left)
    assert held_back
    assert not full_disk.ended
    file = os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT)
    os.dup2(file, full_disk.target)
    os.close(file)
    os.close(full_disk.left)
    await until(lambda: full_disk.ended)
    assert (tmp_path / "log").read_bytes() == b"one " + bytes(held_back)
    relay.close()


@contextmanager
def failing_file(monkeypatch: pytest.MonkeyPatch, path: Path) -> Iterator[Wire]:
    """A wire from a pipe to a file that takes nothing within the context (EFBIG), tried again after 1 ms."""
    monkeypatch.setattr(relay_module, "NO_SPACE_PAUSE_S", 0.001)
    wire = Wire(nonblocking_pipe)
    file = os.open(path, os.O_WRONLY | os.O_CREAT)
    os.dup2(file, wire.target)
    os.close(file)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, hard))
    try:
        yield wire
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


async def ended(wire: Wire) -> None:
    """The writer goes, and then the relay."""
    assert not wire.ended
    os.close(wire.left)
    await until(lambda: wire.ended)
    wire.close()


@in_loop
async def test_a_file_that_cannot_be_written_to_holds_the_writer_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    """As one on a network file system that does not answer; the writer must not end by SIGPIPE."""
    with failing_file(monkeypatch, tmp_path / "log") as wire:
        relay = wire.relay()
        os.write(wire.left, b"one ")
        await until(lambda: relay._tries > 2)
        assert not wire.ended
    await ended(wire)
    assert (tmp_path / "log").read_bytes() == b"one "


@in_loop
async def test_what_a_file_does_not_take_is_lost_in_the_end_and_its_writer_goes_on(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    with failing_file(monkeypatch, tmp_path / "log") as wire:
        relay = wire.relay()
        os.write(wire.left, b"one ")
        await until(lambda: relay._target is None)
        for _ in range(4):  # more than the pipe holds
            await until(lambda: fill(wire.left) > 0)
    await ended(wire)


@in_loop
async def test_a_relay_may_be_closed_while_the_disk_is_full(full_disk: Wire):
    relay = full_disk.relay()
    os.write(full_disk.left, b"one")
    await until(lambda: relay._pause is not None)
    relay.close()
    assert relay._pause is not None
    assert (full_disk.ended, relay._pause.cancelled()) == (1, True)


@in_loop
async def test_a_full_disk_is_told_of_once_and_no_end_waits_for_it(full_disk: Wire, caplog: pytest.LogCaptureFixture):
    full_disk.relay()
    os.write(full_disk.left, b"one")
    await asyncio.sleep(0.05)
    assert not full_disk.ended
    os.close(full_disk.left)
    await until(lambda: full_disk.ended)
    words = "/dev/full: No space left on device: "
    assert caplog.messages == [f"{words}a container's output waits", f"{words}the last of a container's output is lost"]


@pytest.mark.parametrize("full", [False, True])
@in_loop
async def test_closing_midway_tells_the_end_once_and_moves_no_more(wire: Wire, full: bool):
    if full:
        fill(wire.target)
    relay = wire.relay()
    os.write(wire.left, b"x")
    if full:
        await asyncio.sleep(0.01)
    relay.close()
    relay.close()
    assert wire.ended == 1
    take(wire.right)
    await asyncio.sleep(0.01)
    assert take(wire.right) == b""


@in_loop
async def test_fifty_megabytes_arrive_exactly_at_a_slow_reader(wire: Wire):
    total = 50 * MIB
    block = os.urandom(MIB)
    wanted, got = hashlib.sha256(), hashlib.sha256()
    loop = asyncio.get_running_loop()

    async def write() -> None:
        left = total
        writable = asyncio.Event()
        loop.add_writer(wire.left, writable.set)
        while left:
            try:
                sent = os.write(wire.left, block[: min(left, MIB)])
            except BlockingIOError:
                writable.clear()
                await writable.wait()
                continue
            wanted.update(block[:sent])
            left -= sent
        loop.remove_writer(wire.left)
        os.close(wire.left)

    wire.relay()
    writing = asyncio.create_task(write())
    size = pauses = 0
    while not (wire.ended and writing.done()):
        data = take(wire.right)
        size += len(data)
        got.update(data)
        pauses += 1
        await asyncio.sleep(0.001 if pauses % 50 == 0 else 0)
    data = take(wire.right)
    got.update(data)
    assert size + len(data) == total
    assert got.digest() == wanted.digest()


@in_loop
async def test_a_terminals_last_words_arrive_and_its_hangup_is_an_end():
    master, slave = pty.openpty()
    tty.setraw(slave)
    os.set_blocking(master, False)
    right, target = nonblocking_pipe()
    ended: list[int] = []
    Relay(asyncio.get_running_loop(), master, target, lambda: ended.append(1))
    os.write(slave, b"bye")
    os.close(slave)
    await until(lambda: ended)
    assert take(right) == b"bye"
    for fd in (master, right, target):
        os.close(fd)


@in_loop
async def test_without_a_target_what_comes_is_discarded():
    source, left = nonblocking_pipe()
    ended: list[int] = []
    Relay(asyncio.get_running_loop(), source, None, lambda: ended.append(1))
    for _ in range(4):
        fill(left)
        await asyncio.sleep(0.01)
    os.close(left)
    await until(lambda: ended)
    os.close(source)
    assert ended == [1]


@in_loop
async def test_a_relay_that_is_to_finish_ends_without_its_sources_end(wire: Wire):
    relay = wire.relay()
    relay.finish()
    relay.finish()
    assert wire.ended == 1
    os.write(wire.left, b"late")
    await asyncio.sleep(0)
    assert take(wire.right) == b""


@in_loop
async def test_what_was_written_before_is_copied_first_however_slow_the_reader(wire: Wire):
    relay = wire.relay()
    written = 0
    for _ in range(5):
        written += fill(wire.left)
        await asyncio.sleep(0.01)
    relay.finish()
    assert not wire.ended
    got = 0
    while not wire.ended:
        with suppress(BlockingIOError):
            got += len(os.read(wire.right, 1000))
        await asyncio.sleep(0)
    got += len(take(wire.right))
    assert got == written

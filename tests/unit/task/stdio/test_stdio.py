"""The forms of stdio with real FIFOs, pipes and terminals, and a test in the place of the process."""

import array
import asyncio
import os
import pty
import socket
import tty
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.errors import InvalidArgument, RuntimeFailed
from runtime.linux import readable
from shim.task.reaper import Reaper
from shim.task.stdio import console, stdio
from shim.task.stdio.stdio import Owner, PipeIO, StdioPaths
from shim.task.stdio.streams import open_stdio
from shim.task.stdio.terminal import TerminalIO
from tests.fakes.loop import in_loop, open_fds, until


class Client:
    """A client's FIFOs in a directory."""

    def __init__(self, directory: Path) -> None:
        self.stdin, self.stdout, self.stderr = (str(directory / name) for name in ("in", "out", "err"))
        for path in (self.stdin, self.stdout, self.stderr):
            os.mkfifo(path)

    def read(self, path: str) -> int:
        return os.open(path, os.O_RDONLY | os.O_NONBLOCK)


@pytest.fixture
def client(tmp_path: Path) -> Client:
    return Client(tmp_path)


async def opened(
    paths: StdioPaths,
    *,
    bundle: Path = Path(),
    direct: bool = False,
    owner: Owner | None = None,
    reaper: Reaper | None = None,
) -> stdio.Stdio:
    reaper = reaper or Reaper(asyncio.get_running_loop())
    names = {"bundle": str(bundle), "container_id": "c", "namespace": "ns"}
    return await open_stdio(paths, owner or Owner(), **names, reaper=reaper, direct=direct)


def process_ends(form: stdio.Stdio) -> dict[int, int]:
    """What the process would hold."""
    return {fd: os.dup(ours) for fd, ours in (form.child_fds() or {}).items()}


def got(fd: int) -> bytes | None:
    """What is there to read, b"" at the end, None where it may still come."""
    try:
        return os.read(fd, 1 << 16)
    except BlockingIOError:
        return None


def close(*fds: int) -> None:
    for fd in fds:
        os.close(fd)


@in_loop
async def test_a_client_sees_the_end_of_streams_that_no_process_will_have(client: Client):
    before = open_fds()
    out, err = client.read(client.stdout), client.read(client.stderr)
    form = await opened(StdioPaths(client.stdin, client.stdout, client.stderr), direct=True)
    assert got(out) is None
    form.discard()
    assert got(out) == got(err) == b""
    await form.attach()
    async with asyncio.timeout(1):
        await form.drain()
    await form.close()
    close(out, err)
    assert open_fds() == before


@in_loop
async def test_the_end_reaches_the_client_as_soon_as_the_last_holder_closes(client: Client):
    before = open_fds()
    out, err = client.read(client.stdout), client.read(client.stderr)
    form = await opened(StdioPaths("", client.stdout, client.stderr))
    ends = process_ends(form)
    stray = os.dup(ends[1])
    await form.attach()
    os.write(ends[1], b"to out")
    os.write(ends[2], b"to err")
    close(*ends.values())
    await until(lambda: got(err) == b"to err")
    await until(lambda: got(err) == b"")
    await until(lambda: got(out) == b"to out")
    assert got(out) is None  # a stray child still holds it
    os.close(stray)
    await until(lambda: got(out) == b"")  # before any close()
    await form.drain()
    await form.close()
    await form.close()
    close(out, err)
    assert open_fds() == before


@in_loop
async def test_a_client_that_dies_is_replaced_without_loss(client: Client):
    first = client.read(client.stdout)
    form = await opened(StdioPaths("", client.stdout))
    ends = process_ends(form)
    await form.attach()
    os.write(ends[1], b"one")
    await until(lambda: got(first) == b"one")
    os.close(first)
    os.write(ends[1], b"two")
    await asyncio.sleep(0.01)
    second = client.read(client.stdout)
    await until(lambda: got(second) == b"two")
    close(*ends.values())
    await until(lambda: got(second) == b"")
    await form.close()
    os.close(second)


@in_loop
async def test_direct_outputs_are_the_clients_fifos(client: Client):
    before = open_fds()
    out, err = client.read(client.stdout), client.read(client.stderr)
    form = await opened(StdioPaths("", client.stdout, f"fifo://{client.stderr}"), direct=True)
    ends = process_ends(form)
    assert {fd: os.readlink(f"/proc/self/fd/{ours}") for fd, ours in ends.items()} == {
        1: client.stdout,
        2: client.stderr,
    }
    assert all(os.get_blocking(end) for end in ends.values())  # a full FIFO holds the process up and is no error to it
    await form.attach()
    os.write(ends[1], b"to out")
    close(*ends.values())
    assert got(out) == b"to out"
    assert (got(out), got(err)) == (b"", b"")  # the end, before any close()
    await form.drain()
    await form.close()
    await form.close()
    close(out, err)
    assert open_fds() == before


@in_loop
async def test_a_client_of_a_direct_output_that_dies_is_replaced_without_loss(client: Client):
    first = client.read(client.stdout)
    form = await opened(StdioPaths("", client.stdout), direct=True)
    ends = process_ends(form)
    await form.attach()
    os.close(first)
    os.write(ends[1], b"no EPIPE")
    second = client.read(client.stdout)
    assert got(second) == b"no EPIPE"
    close(*ends.values(), second)
    await form.close()


@in_loop
async def test_what_nobody_reads_yet_is_copied_even_where_direct_was_allowed(client: Client):
    before = open_fds()
    err = client.read(client.stderr)
    form = await opened(StdioPaths("", client.stdout, client.stderr), direct=True)
    kinds = {fd: os.readlink(f"/proc/self/fd/{ours}") for fd, ours in (form.child_fds() or {}).items()}
    assert kinds[1].startswith("pipe:")
    assert kinds[2] == client.stderr
    await form.close()
    os.close(err)
    assert open_fds() == before


@in_loop
async def test_a_direct_output_belongs_to_the_processs_user(client: Client):
    if os.geteuid() != 0:
        pytest.skip("only root gives files away")
    out = client.read(client.stdout)
    form = await opened(StdioPaths("", client.stdout), direct=True, owner=Owner(1000, 1001))
    assert (os.stat(client.stdout).st_uid, os.stat(client.stdout).st_gid) == (1000, 1001)
    await form.close()
    os.close(out)


@in_loop
async def test_the_pipes_belong_to_the_processs_user(client: Client, monkeypatch: pytest.MonkeyPatch):
    given: dict[int, tuple[int, int]] = {}
    chown = lambda fd, uid, gid: given.update({os.fstat(fd).st_ino: (uid, gid)})  # noqa: E731
    monkeypatch.setattr(stdio.os, "fchown", chown)
    form = await opened(StdioPaths(client.stdin, client.stdout, client.stderr), owner=Owner(1000, 1001))
    ends = (form.child_fds() or {}).values()
    assert {os.fstat(fd).st_ino: (1000, 1001) for fd in ends} == given
    assert len(given) == 3
    await form.close()


@in_loop
async def test_a_direct_output_that_is_missing_leaves_nothing_open(client: Client):
    before = open_fds()
    out = client.read(client.stdout)
    with pytest.raises(FileNotFoundError):
        await opened(StdioPaths("", client.stdout, client.stderr + "x"), direct=True)
    os.close(out)
    assert open_fds() == before


@in_loop
async def test_a_plain_file_is_never_given_to_the_process(tmp_path: Path):
    path = tmp_path / "log"
    path.write_bytes(b"")
    form = await opened(StdioPaths("", str(path)), direct=True)
    assert os.readlink(f"/proc/self/fd/{(form.child_fds() or {})[1]}").startswith("pipe:")
    await form.close()


@pytest.mark.parametrize("when", ["before", "after"])
@in_loop
async def test_stdin_ends_with_close_io_and_the_clients_writer(client: Client, when: str):
    writer_end = os.open(client.stdin, os.O_RDWR)  # so that the client can open it without waiting
    form = await opened(StdioPaths(client.stdin))
    ends = process_ends(form)
    os.set_blocking(ends[0], False)
    if when == "before":
        form.close_stdin()
    await form.attach()
    writer = os.open(client.stdin, os.O_WRONLY)
    os.close(writer_end)
    if when == "after":
        form.close_stdin()
    os.write(writer, b"words")
    await until(lambda: got(ends[0]) == b"words")
    assert got(ends[0]) is None
    os.close(writer)
    await until(lambda: got(ends[0]) == b"")
    await form.close()
    close(*ends.values())


@in_loop
async def test_stdin_stays_open_without_close_io(client: Client):
    form = await opened(StdioPaths(client.stdin))
    ends = process_ends(form)
    os.set_blocking(ends[0], False)
    await form.attach()
    for word in (b"one", b"two"):  # two clients, one after the other
        writer = os.open(client.stdin, os.O_WRONLY)
        os.write(writer, word)
        os.close(writer)
        await until(lambda word=word: got(ends[0]) == word)
    assert got(ends[0]) is None
    await form.close()
    close(*ends.values())


@in_loop
async def test_a_stray_child_bounds_the_drain(client: Client, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(stdio, "DRAIN_TIMEOUT_S", 0.1)
    reader = client.read(client.stdout)
    form = await opened(StdioPaths("", client.stdout))
    ends = process_ends(form)
    await form.attach()
    async with asyncio.timeout(1):
        await form.drain()
    await form.close()
    assert got(reader) == b""
    close(reader, *ends.values())


@in_loop
async def test_what_the_process_wrote_last_is_drained_to_a_slow_client(client: Client):
    reader = client.read(client.stdout)
    form = await opened(StdioPaths("", client.stdout))
    ends = process_ends(form)
    await form.attach()
    os.write(ends[1], b"x" * 60_000)
    await asyncio.sleep(0.01)
    os.write(ends[1], b"y" * 60_000)
    close(*ends.values())
    draining = asyncio.create_task(form.drain())
    total = b""
    while (data := got(reader)) != b"":
        total += data or b""
        await asyncio.sleep(0.001)
    await draining
    assert total == b"x" * 60_000 + b"y" * 60_000
    await form.close()
    os.close(reader)


@in_loop
async def test_closed_while_it_waits_for_a_reader_it_lets_go_of_what_comes_then(client: Client):
    before = open_fds()
    form = await opened(StdioPaths("", client.stdout))
    attaching = asyncio.create_task(form.attach())
    await asyncio.sleep(0.02)
    await form.close()
    reader = client.read(client.stdout)
    await attaching
    os.close(reader)
    assert open_fds() == before


@in_loop
async def test_a_form_that_was_never_attached_closes_whole(client: Client):
    before = open_fds()
    form = await opened(StdioPaths(client.stdin, client.stdout, client.stderr))
    await form.close()
    assert open_fds() == before


@in_loop
async def test_a_file_is_nobody_elses_to_write_whatever_the_umask(tmp_path: Path):
    path = tmp_path / "new" / "log"
    form = await opened(StdioPaths("", f"file://{path}"))
    before = os.umask(0)
    try:
        await form.attach()
    finally:
        os.umask(before)
    assert [each.stat().st_mode & 0o777 for each in (path.parent, path)] == [0o755, 0o644]
    await form.close()


@in_loop
async def test_a_file_takes_both_streams(tmp_path: Path):
    before = open_fds()
    path = tmp_path / "new" / "log"
    form = await opened(StdioPaths("", f"file://{path}", "whatever"))
    ends = process_ends(form)
    await form.attach()
    os.write(ends[1], b"out\n")
    await until(lambda: path.exists() and path.read_text() == "out\n")
    os.write(ends[2], b"err\n")
    await until(lambda: path.read_text() == "out\nerr\n")
    close(*ends.values())
    await form.drain()
    await form.close()
    assert open_fds() == before


@pytest.mark.parametrize(
    ("paths", "fds"),
    [
        (StdioPaths(), set()),
        (StdioPaths("i"), {0}),
        (StdioPaths("", "o"), {1}),
        (StdioPaths("", "", "e"), {2}),
        (StdioPaths("i", "fifo:///o", "fifo:///e"), {0, 1, 2}),
    ],
)
@in_loop
async def test_the_requests_words_decide_the_form(paths: StdioPaths, fds: set[int]):
    form = await opened(paths)
    assert type(form) is PipeIO
    assert set(form.child_fds()) == fds
    await form.close()


@in_loop
async def test_without_streams_nothing_is_open_and_nothing_is_waited_for():
    before = open_fds()
    form = await opened(StdioPaths())
    assert (form.console_socket, form.child_fds(), open_fds()) == ("", {}, before)
    await form.attach()
    form.close_stdin()
    form.resize(width=1, height=1)
    form.process_ended()
    form.discard()
    async with asyncio.timeout(1):
        await form.drain()
    await form.close()
    assert open_fds() == before


@pytest.mark.parametrize("scheme", ["", "fifo://"])
@in_loop
async def test_no_file_of_the_nodes_is_an_input(tmp_path: Path, scheme: str):
    """By its descriptor a container could write to it, or get out of its root by a directory's."""
    (tmp_path / "in").write_bytes(b"text")
    for path in (tmp_path, tmp_path / "in", "/dev/zero"):
        with pytest.raises(InvalidArgument, match=r"^stdin: found .* allowed a FIFO or /dev/null$"):
            await opened(StdioPaths(f"{scheme}{path}"))
    assert (await opened(StdioPaths(f"{scheme}{os.devnull}"))).child_fds() == {}


@in_loop
async def test_no_input_for_a_terminal_is_none(tmp_path: Path):
    before = open_fds()
    form = await opened(StdioPaths(os.devnull, terminal=True), bundle=tmp_path)
    slave = send_master(form.console_socket)
    await form.attach()
    assert not [one for one in open_fds() - before if one.endswith(os.devnull)]
    os.close(slave)
    await form.close()


@in_loop
async def test_an_unknown_scheme_is_refused():
    with pytest.raises(InvalidArgument, match=r"^stdout: unknown STDIO scheme ttrpc\+unix, allowed: fifo, file"):
        await opened(StdioPaths("", "ttrpc+unix://x?streaming_id=y"))


# Terminals


def send_master(path: str, *, with_fd: bool = True) -> int:
    """Do what an OCI runtime does; return the process's end of the terminal."""
    master, slave = pty.openpty()
    tty.setraw(slave)
    with socket.socket(socket.AF_UNIX) as sender:
        sender.connect(path)
        if with_fd:
            rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [master]))]
            sender.sendmsg([b"/dev/pts/0"], rights)
    os.close(master)
    return slave


@in_loop
async def test_a_terminal_is_received_sized_and_copied_both_ways(client: Client, tmp_path: Path):
    before = open_fds()
    reader = client.read(client.stdout)
    bundle = tmp_path / ("deep" * 60)  # longer than a socket's path
    bundle.mkdir()
    form = await opened(StdioPaths(client.stdin, client.stdout, "", True), bundle=bundle)
    assert isinstance(form, TerminalIO)
    (made,) = bundle.iterdir()  # in the bundle, which containerd removes, and in which others may search
    assert made.stat().st_mode & 0o777 == 0o600
    assert form.child_fds() is None
    form.resize(width=65536 + 80, height=24)  # before there is one
    slave = send_master(form.console_socket)
    await form.attach()
    assert list(bundle.iterdir()) == []
    assert os.get_terminal_size(slave) == (80, 24)
    form.resize(width=100, height=50)
    assert os.get_terminal_size(slave) == (100, 50)
    writer = os.open(client.stdin, os.O_WRONLY)
    os.write(writer, b"typed")
    os.set_blocking(slave, False)
    await until(lambda: got(slave) == b"typed")
    os.write(slave, b"shown")
    os.close(slave)
    await until(lambda: got(reader) == b"shown")
    form.process_ended()
    await until(lambda: got(reader) == b"")
    await form.drain()
    await form.close()
    close(reader, writer)
    assert open_fds() == before


@in_loop
async def test_a_terminal_that_nobody_holds_for_a_while_has_not_ended(client: Client, tmp_path: Path):
    """As /dev/console is with an init that opens it for each line."""
    reader = client.read(client.stdout)
    form = await opened(StdioPaths("", client.stdout, "", True), bundle=tmp_path)
    slave = send_master(form.console_socket)
    again = os.open(f"/proc/self/fd/{slave}", os.O_PATH)
    await form.attach()
    for line in (b"one", b"two"):
        os.write(slave, line)
        os.close(slave)
        await until(lambda line=line: got(reader) == line)
        await asyncio.sleep(0)
        slave = os.open(f"/proc/self/fd/{again}", os.O_RDWR | os.O_NOCTTY)
    close(slave, again)
    form.process_ended()
    await until(lambda: got(reader) == b"")
    await form.drain()
    await form.close()
    close(reader)


@in_loop
async def test_a_terminal_whose_process_ends_before_it_is_attached_ends(client: Client, tmp_path: Path):
    reader = client.read(client.stdout)
    form = await opened(StdioPaths("", client.stdout, "", True), bundle=tmp_path)
    slave = send_master(form.console_socket)
    os.write(slave, b"said")
    form.process_ended()
    os.close(slave)
    await form.attach()
    await until(lambda: got(reader) == b"said")
    await until(lambda: got(reader) == b"")
    await form.close()
    close(reader)


@in_loop
async def test_a_terminal_ends_with_its_process_whoever_else_holds_it(client: Client, tmp_path: Path):
    """A job in the background, for instance: containerd's CRI waits for the end of an exec's output without a limit."""
    reader = client.read(client.stdout)
    form = await opened(StdioPaths("", client.stdout, "", True), bundle=tmp_path)
    slave = send_master(form.console_socket)
    await form.attach()
    os.write(slave, bytes(3000) + b"last words")
    form.process_ended()
    told = b""
    while (more := got(reader)) != b"":
        told += more or b""
        await asyncio.sleep(0)
    assert told == bytes(3000) + b"last words"
    await form.drain()
    await form.close()
    close(reader, slave)


@in_loop
async def test_the_end_of_a_terminals_input_hangs_it_up_once_its_output_is_read(client: Client, tmp_path: Path):
    reader = client.read(client.stdout)
    form = await opened(StdioPaths(client.stdin, client.stdout, "", True), bundle=tmp_path)
    slave = send_master(form.console_socket)
    await form.attach()
    writer = os.open(client.stdin, os.O_WRONLY)
    os.write(writer, b"typed")
    os.set_blocking(slave, False)
    await until(lambda: got(slave) == b"typed")
    os.close(writer)
    await asyncio.sleep(0.05)
    os.write(slave, b"shown")  # the client may come back until it has said that it does not
    form.close_stdin()
    await until(lambda: readable.has_hung_up(slave))
    await until(lambda: got(reader) == b"shown")
    await until(lambda: got(reader) == b"")
    await form.drain()
    form.resize(width=1, height=1)
    await form.close()
    close(reader, slave)


@in_loop
async def test_a_logging_program_that_stops_reading_a_terminals_output_holds_up_nobody_else(tmp_path: Path):
    program = tmp_path / "logger"
    program.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\nexec 5>&-\nexec sleep 30\n")
    program.chmod(0o755)
    reaper = Reaper(asyncio.get_running_loop())
    reaper.install()
    form = await opened(StdioPaths("", f"binary://{program}", "", True), bundle=tmp_path, reaper=reaper)
    slave = send_master(form.console_socket)
    await form.attach()
    os.set_blocking(slave, False)

    def is_full() -> bool:
        try:
            os.write(slave, bytes(4096))
        except BlockingIOError:
            return True
        return False

    for _ in range(20):
        await until(is_full)
        await asyncio.sleep(0.005)
    os.kill(int((tmp_path / "pid").read_text()), 0)  # else the event loop has waited for the program's end
    os.close(slave)
    await form.close()


@in_loop
async def test_a_terminal_without_stdout_does_not_hold_its_process_up(tmp_path: Path):
    form = await opened(StdioPaths(terminal=True), bundle=tmp_path)
    slave = send_master(form.console_socket)
    await form.attach()
    os.set_blocking(slave, False)
    written = 0

    def write() -> bool:
        nonlocal written
        with suppress(BlockingIOError):
            written += os.write(slave, bytes(4096))
        return written > 200_000

    await until(write)
    os.close(slave)
    form.process_ended()
    await form.drain()
    await form.close()


@in_loop
async def test_a_runtime_that_sends_no_terminal_is_an_error(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    before = open_fds()
    form = await opened(StdioPaths(terminal=True), bundle=tmp_path)
    slave = send_master(form.console_socket, with_fd=False)
    with pytest.raises(RuntimeFailed, match="it connected but sent no console"):
        await form.attach()
    os.close(slave)
    await form.close()
    monkeypatch.setattr(console, "RECEIVE_TIMEOUT_S", 0.05)
    form = await opened(StdioPaths(terminal=True), bundle=tmp_path)
    with pytest.raises(RuntimeFailed, match="it sent no console"):
        await form.attach()
    await form.close()
    assert os.listdir(tmp_path) == []
    assert open_fds() == before

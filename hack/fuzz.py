#!/usr/bin/env python3
"""Send a real pod server well-framed requests with hostile payloads, and check that it survives unchanged.

Usage: hack/fuzz.py [--requests N] [--seed N] [--prefix DIR] [--oci PATH]

The installed shim is started as containerd starts it, with a real OCI runtime. The pod server must answer every request
within a minute and live to the end, and no answer may report a bug. After its victim container is deleted it must have
as many descriptors as after the first tenth of the requests, and hardly more memory. Otherwise the exit status is 1.
Needs root and `hack/install.sh --prefix DIR`.
"""

import argparse
import asyncio
import os
import random
import shutil
import socket
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fuzzing.requests import Sent
    from fuzzing.server import Load

HACK = Path(__file__).resolve().parent
BATCH = 1000
DRAINS_S = 30.0
GROWTH = 4 << 20
"""How many more bytes the server may hold at the end than after a tenth of the requests."""


def parse() -> argparse.Namespace:
    assert __doc__ is not None
    cache = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich")
    prefix = Path(os.environ.get("POUCHRICH_PREFIX") or cache / "prefix")
    crun = cache / "runtimes" / "crun-1.21" / "bin" / "crun"
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--requests", type=int, default=100_000, help="default 100000")
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 20), help="of the requests; default random")
    parser.add_argument("--prefix", type=Path, default=prefix, help="where the shim is installed")
    parser.add_argument(
        "--oci", default=str(crun) if crun.exists() else shutil.which("crun") or "/usr/bin/crun", help="crun"
    )
    return parser.parse_args()


def use_installed_python(prefix: Path) -> None:
    """Re-execute in the environment of the installation, which has protobuf; the code is this checkout's."""
    wanted = (prefix / "lib" / "pouchrich" / "current").resolve() / "venv"
    if Path(sys.prefix) != wanted:
        python = wanted / "bin" / "python3"
        if not python.exists():
            sys.exit(f"fuzz: {python}: not there, run: hack/install.sh --prefix {prefix}")
        os.execv(python, [str(python), __file__, *sys.argv[1:]])
    sys.path[:0] = [str(HACK), str(HACK.parent)]


async def prepare(given: argparse.Namespace, place: object) -> tuple[str, int, bytes, str, str]:
    """Start a pod server with a container that stays.

    Return its socket and pid, the victim's Create request and id, and the directory of the first container.
    """
    from benchmark.contest import Shim, Task
    from benchmark.place import Place

    from protos.gen import task_pb2

    assert isinstance(place, Place)
    # Without a spawner, whose child gets ever more private memory for a while, by writing to shared pages. And with a
    # C library that frees large messages at once, instead of keeping some of them (mallopt(3)).
    alone = (("POUCHRICH_SPAWNER", "off"), ("MALLOC_MMAP_THRESHOLD_", "65536"))
    shim = Shim("ours", str(given.prefix.resolve() / "bin" / "containerd-shim-pouchrich-v2"), given.oci, env=alone)
    stays, victim = (place.bundle(["/bin/sleep", "1000000"], rich=False) for _ in range(2))
    address, _ = shim.start(stays)
    task = await Task.connect(shim, stays, address)
    pid = await task.shim_pid()
    await task.create()
    await task.start()
    request = task_pb2.CreateTaskRequest(id=victim.id, bundle=str(victim.path))
    request.rootfs.add(type="overlay", source="overlay", options=victim.overlay_options)
    request.options.ParseFromString(shim.options())
    return address.removeprefix("unix://"), pid, request.SerializeToString(), victim.id, str(stays.path)


def fuzz(given: argparse.Namespace) -> list[str]:
    """Run the requests; return what is wrong at the end."""
    from benchmark.place import Place, enter
    from fuzzing.requests import Hostile, removal
    from fuzzing.server import BUGS, Connection, Hang, Tally, load

    enter()
    place = Place()
    wrong: list[str] = []
    tally = Tally()
    try:
        directory = place.base / "fuzz"
        (directory / "directory").mkdir(parents=True)
        (directory / "file").touch()
        os.mkfifo(directory / "fifo")
        socket.socket(socket.AF_UNIX).bind(str(directory / "socket"))
        path, pid, create, victim, bundle = asyncio.run(prepare(given, place))
        hostile = Hostile(given.seed, str(directory), victim, create)
        chance = random.Random(given.seed)
        log = os.open(f"{bundle}/log", os.O_RDONLY | os.O_NONBLOCK)
        early: Load | None = None
        began = time.monotonic()
        try:
            while tally.answered < given.requests:
                connection = Connection(path)
                for _ in range(chance.choice((1, 3, 10))):
                    connection.send_all([hostile.next() for _ in range(BATCH)], tally)
                if chance.random() < 0.3:
                    connection.leave([hostile.next() for _ in range(5)])
                else:
                    connection.close()
                tally.bugs += [f"log: {line[:3000]}" for line in _bugs(log)][: BUGS - len(tally.bugs)]
                if early is None and tally.answered >= given.requests // 10:
                    _remove(path, removal(victim))
                    early = _settled(pid, load)
            _remove(path, removal(victim))
        except (Hang, ConnectionError, KeyError, AssertionError) as error:
            wrong.append(f"after {tally.answered} answers: {type(error).__name__}: {str(error)[:2000]}")
        took = time.monotonic() - began
        if not os.path.exists(f"/proc/{pid}/fd") or Path(f"/proc/{pid}/stat").read_text().split()[2] == "Z":
            wrong.append("the server has ended")
        else:
            late = _settled(pid, load, at_most=early.descriptors if early else sys.maxsize)
            early = early or late
            print(f"fuzz: {early} after a tenth, {late} at the end")
            if late.descriptors > early.descriptors:
                wrong.append(f"descriptors: {early.descriptors} after a tenth, {late.descriptors} at the end")
            if late.memory > early.memory + GROWTH:
                wrong.append(f"memory: {early.memory} bytes after a tenth, {late.memory} at the end")
    finally:
        os.chdir("/")
        place.close()
    print(f"fuzz: {tally.answered} answers in {took:.0f} s from seed {given.seed}, by code {dict(tally.codes)}")
    return wrong + [f"a bug: {text}" for text in tally.bugs]


def _remove(path: str, requests: "Sequence[Sent]") -> None:
    """Send `requests` again and again, one after the other, until the last one is answered with NOT_FOUND.

    Raises Hang after a minute.
    """
    from fuzzing.server import HANG_S, NOT_FOUND, Connection, Hang, Tally

    end = time.monotonic() + HANG_S
    last = Tally()
    while not last.codes[NOT_FOUND]:
        if time.monotonic() > end:
            raise Hang("the victim cannot be deleted")
        connection = Connection(path)
        for request in requests:
            last = Tally()
            connection.send_all([request], last)
        connection.close()


def _settled(pid: int, load: "Callable[[int], Load]", *, at_most: int = sys.maxsize) -> "Load":
    """The server's load after some idle seconds, and once it has at most `at_most` descriptors or DRAINS_S have passed.

    The streams of a process drain for ten seconds, and a terminal is waited for as long.
    """
    time.sleep(4.0)
    end = time.monotonic() + DRAINS_S
    while (found := load(pid)).descriptors > at_most and time.monotonic() < end:
        time.sleep(0.5)
    return found


def _bugs(log: int) -> list[str]:
    """The bugs in the server's log since it was last read."""
    text = b""
    with suppress(BlockingIOError):
        while piece := os.read(log, 1 << 20):
            text += piece
    return [line for line in text.decode(errors="replace").splitlines() if "bug in " in line or "Traceback" in line]


def main() -> int:
    given = parse()
    if os.geteuid() != 0:
        sys.exit("fuzz: needs root")
    use_installed_python(given.prefix.resolve())
    wrong = fuzz(given)
    for text in wrong:
        print(f"fuzz: {text}")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())

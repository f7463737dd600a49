"""The measurements. Each function takes the shims in one interleaved run and returns samples by shim and row.

Times are seconds, memory is bytes. Every shim gets the same containers in the same order, one after the other within
a round, so that other load of the machine affects all alike.
"""

import asyncio
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from benchmark.contest import Shim, Task, cpu_seconds
from benchmark.daemon import Containerd
from benchmark.place import Bundle, Place, mount, reap

Samples = dict[str, dict[str, list[float]]]
"""Shim's name -> row -> samples."""

PIECE = 1 << 20


def samples() -> Samples:
    """An empty collection."""
    return defaultdict(lambda: defaultdict(list))


async def life(place: Place, shims: Sequence[Shim], rounds: int) -> Samples:
    """One container that runs `true`, from `start` to `delete`, and the same by the OCI runtime alone."""
    found = samples()
    for turn in range(-2, rounds):  # two more to warm up page cache and spawner
        for shim in shims:
            took = await _one_life(place, shim)
            if turn >= 0:
                for row, seconds in took.items():
                    found[shim.name][row].append(seconds)
        if turn >= 0:
            found["oci"]["run"].append(_oci_alone(place, shims[0].oci))
        reap()
    return found


async def _one_life(place: Place, shim: Shim) -> dict[str, float]:
    bundle = place.bundle(["/bin/true"], rich=shim.rich)
    clock = time.perf_counter
    address, start = shim.start(bundle)
    t0 = clock()
    task = await Task.connect(shim, bundle, address)
    pid = await task.shim_pid()
    t1 = clock()
    await task.create()
    t2 = clock()
    waiting = asyncio.create_task(task.wait())
    await asyncio.sleep(0)
    await task.start()
    t3 = clock()
    await waiting
    t4 = clock()
    await task.delete()
    t5 = clock()
    await task.shutdown()
    t6 = clock()
    await _gone(pid)  # a shim's last work must not disturb the next shim's turn
    delete = shim.delete(bundle)
    bundle.remove()
    return {
        "start command": start,
        "first answer": t1 - t0,
        "Create": t2 - t1,
        "Start": t3 - t2,
        "exit to Wait": t4 - t3,
        "Delete": t5 - t4,
        "run": t5 - t1,
        "delete command": delete,
        "whole": start + (t6 - t0) + delete,
    }


async def _gone(pid: int) -> None:
    for _ in range(500):
        reap()
        if not is_there(pid):
            return
        await asyncio.sleep(0.005)


def is_there(pid: int) -> bool:
    """Whether a process exists."""
    return Path(f"/proc/{pid}").exists()


def _oci_alone(place: Place, oci: str) -> float:
    """Time the OCI runtime's own create, start and delete, and the mount of the root file system."""
    bundle = place.bundle(["/bin/true"], rich=False)
    words = [oci, "--root", "/run/bench/alone"]
    began = time.perf_counter()
    mount("overlay", bundle.rootfs, "overlay", ",".join(bundle.overlay_options))
    _run([*words, "create", "--bundle", str(bundle.path), "--pid-file", f"{bundle.path}/init.pid", bundle.id])
    pid = int((bundle.path / "init.pid").read_text())
    _run([*words, "start", bundle.id])
    os.waitpid(pid, 0)  # our child, because this process is a subreaper
    _run([*words, "delete", bundle.id])
    _run(["/bin/umount", bundle.rootfs])
    took = time.perf_counter() - began
    bundle.remove()
    return took


def _run(argv: list[str]) -> None:
    null = [(os.POSIX_SPAWN_OPEN, fd, os.devnull, os.O_RDWR, 0) for fd in (0, 1)]
    pid = os.posix_spawn(argv[0], argv, os.environ, file_actions=null)
    if os.waitpid(pid, 0)[1]:
        raise RuntimeError(f"{' '.join(argv)}: failed")


async def execs(place: Place, shims: Sequence[Shim], rounds: int) -> Samples:
    """Exec, Start, Wait, Delete of `true` in a running container."""
    found = samples()
    tasks = [await running(place, shim) for shim in shims]
    for turn in range(-2, rounds):
        for task in tasks:
            took = await one_exec(task, f"exec{turn + 2}")
            if turn >= 0:
                found[task.shim.name]["exec"].append(took)
    for task in tasks:
        await task.end()
    return found


async def one_exec(task: Task, name: str) -> float:
    """Exec, Start, Wait, Delete of `true`; return the seconds it took."""
    began = time.perf_counter()
    await task.exec(name, ["/bin/true"])
    waiting = asyncio.create_task(task.wait(name))
    await task.start(name)
    await waiting
    await task.delete(name)
    return time.perf_counter() - began


def ctr_runs(containerd: Containerd, shims: Sequence[Shim], counts: Sequence[int], rounds: int) -> Samples:
    """`ctr run` of N containers at once by a real containerd; the time until the last client has ended."""
    found = samples()
    for turn in range(-1, rounds):  # one more to warm up each shim and the spawner
        for count in counts if turn >= 0 else (1,):
            for shim in shims:
                took = containerd.run(shim, count)
                if turn >= 0:
                    found[shim.name][f"ctr run of {count}"].append(took)
    return found


async def running(place: Place, shim: Shim, args: Sequence[str] = ("/bin/sleep", "1000000")) -> Task:
    """A running container."""
    bundle = place.bundle(list(args), rich=shim.rich)
    address, _ = await asyncio.to_thread(shim.start, bundle)
    task = await Task.connect(shim, bundle, address)
    await task.create()
    await task.start()
    return task


async def bursts(place: Place, shims: Sequence[Shim], counts: Sequence[int], rounds: int) -> Samples:
    """N pods at once, each from `start` to `delete`; the time until the last is gone."""
    found = samples()
    for _ in range(rounds):
        for count in counts:
            for shim in shims:
                bundles = [place.bundle(["/bin/true"], rich=shim.rich) for _ in range(count)]
                began = time.perf_counter()
                await asyncio.gather(*(_whole_life(shim, bundle) for bundle in bundles))
                found[shim.name][f"burst of {count}"].append(time.perf_counter() - began)
                reap()
    return found


async def _whole_life(shim: Shim, bundle: Bundle) -> None:
    address, _ = await asyncio.to_thread(shim.start, bundle)
    task = await Task.connect(shim, bundle, address)
    await task.create()
    waiting = asyncio.create_task(task.wait())
    await task.start()
    await waiting
    await task.delete()
    await task.shutdown()
    await asyncio.to_thread(shim.delete, bundle)
    bundle.remove()


async def stdout(place: Place, shims: Sequence[Shim], mib: int, rounds: int) -> Samples:
    """Bytes per second of a container's standard output, and the shim's CPU seconds per GiB of it."""
    found = samples()
    pattern = os.urandom(PIECE)
    (place.lower / "pattern").write_bytes(pattern)
    for _ in range(rounds):
        for shim in shims:
            loop = f"i=0; while [ $i -lt {mib} ]; do cat /pattern; i=$((i+1)); done"
            bundle = place.bundle(["/bin/sh", "-c", loop], rich=shim.rich)
            fifo = f"{bundle.path}/stdout"
            errors = f"{bundle.path}/stderr"  # containerd's shim needs both
            os.mkfifo(fifo)
            os.mkfifo(errors)
            silent = os.open(errors, os.O_RDONLY | os.O_NONBLOCK)
            reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
            os.set_blocking(reader, True)
            address, _ = shim.start(bundle)
            task = await Task.connect(shim, bundle, address)
            pid = await task.shim_pid()
            await task.create(stdout=fifo, stderr=errors)
            before = cpu_seconds(pid)
            waiting = asyncio.create_task(task.wait())
            began = time.perf_counter()
            reading = asyncio.create_task(asyncio.to_thread(_read_pattern, reader, pattern, mib * PIECE))
            await task.start()
            await reading
            took = time.perf_counter() - began
            await waiting
            found[shim.name]["stdout B/s"].append(mib * PIECE / took)
            found[shim.name]["stdout CPU s/GiB"].append((cpu_seconds(pid) - before) * 1024 / mib)
            os.close(reader)
            os.close(silent)
            await task.delete()
            await task.shutdown()
            shim.delete(bundle)
            bundle.remove()
            reap()
    return found


def _read_pattern(fd: int, pattern: bytes, size: int) -> None:
    """Read `size` bytes that must be repetitions of `pattern`. Raises RuntimeError."""
    at = 0
    buffer = bytearray(1 << 16)
    view, twice = memoryview(buffer), pattern * 2  # bytes are compared at 10 GB/s, two memoryviews at 0.6
    while at < size:
        count = os.readv(fd, [buffer])
        if not count:
            raise RuntimeError(f"standard output ended after {at} of {size} bytes")
        if not twice.startswith(view[:count], at % len(pattern)):
            raise RuntimeError(f"standard output differs after byte {at}")
        at += count

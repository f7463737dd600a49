"""One run: selects the shims and rows, and leaves the place as it was."""

import argparse
import os
import sys
from pathlib import Path

from benchmark import contest, memory, rows
from benchmark.contest import Shim
from benchmark.daemon import Containerd
from benchmark.place import Place, enter

OURS = "containerd-shim-pouchrich-v2"
GO = "containerd-shim-runc-v2"


def shims(given: argparse.Namespace) -> list[Shim]:
    """The installed shims, ours first."""
    ours = str(given.prefix.resolve() / "bin" / OURS)
    found = [Shim("ours", ours, given.oci)]
    if given.no_spawner:
        found.append(Shim("ours-alone", ours, given.oci, env=(("POUCHRICH_SPAWNER", "off"),)))
    if given.rich:
        found.append(Shim("ours-rich", ours, given.oci, rich=True))
    for name, path in (("go-2.1", given.runtimes / "containerd-2.1" / "bin" / GO), ("go-1.6", Path("/usr/bin") / GO)):
        if path.exists():
            found.append(Shim(name, str(path), given.oci))
        else:
            print(f"bench: {path}: not there, left out", file=sys.stderr)
    return [shim for shim in found if not given.shim or any(word in shim.name for word in given.shim)]


async def run(given: argparse.Namespace) -> dict[str, dict[str, list[float]]]:
    """Measure; return all samples by shim and row."""
    enter()
    place = Place()
    found = rows.samples()
    events = await contest.receive_events()
    contestants = shims(given)
    try:
        for row in given.row:
            print(f"bench: {row} …", file=sys.stderr)
            for name, values in (await _measure(row, place, contestants, given)).items():
                found[name].update(values)
    finally:
        events.close()
        os.chdir("/")
        place.close()
    return {name: dict(values) for name, values in found.items()}


async def _measure(row: str, place: Place, shims: list[Shim], given: argparse.Namespace) -> rows.Samples:
    if row == "life":
        return await rows.life(place, shims, given.rounds)
    if row == "exec":
        return await rows.execs(place, shims, given.rounds)
    if row == "burst":
        return await rows.bursts(place, shims, given.bursts, max(3, given.rounds // 10))
    if row == "stdout":
        return await rows.stdout(place, shims, given.mib, 3)
    if row == "flat":
        return await memory.flat(place, shims, given.execs, given.settle)
    if row == "stats":
        return await memory.stats(place, shims, given.calls, given.rounds // 3)
    if row == "ctr":
        alike = [shim for shim in shims if not shim.env]  # through containerd, shims get the daemon's environment
        return rows.ctr_runs(containerd(place, given), alike, given.ctr, 3)
    return await memory.memory(place, shims, given.pods, given.settle)


def containerd(place: Place, given: argparse.Namespace) -> Containerd:
    """containerd 2.1 if it was fetched, with the crun fetched for it: its specs are too new for an older crun.

    Else the machine's own containerd.
    """
    programs, crun = given.runtimes / "containerd-2.1" / "bin", given.runtimes / "crun-1.21" / "bin" / "crun"
    if (programs / "containerd").exists():
        return Containerd(place, programs, str(crun) if crun.exists() else given.oci)
    return Containerd(place, Path("/usr/bin"), given.oci)

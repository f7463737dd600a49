"""A whole run: rounds until there were enough faults; after a round that left something, on a fresh node."""

import argparse
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from hack.chaos import plan, rounds
from hack.chaos.disk import PLACE, Disk
from hack.chaos.rounds import Ground, Outcome
from tests.integration import binaries, images
from tests.integration.node import running

SHARED = Path("/run/chaos")
ROUNDS_WITHOUT_FAULTS = 5
"""After this many rounds in a row without a fault, the wanted kinds cannot hit anything."""


def versions(given: argparse.Namespace) -> str:
    """The versions of the run's programs, in a line."""
    programs = [binaries.containerd(given.containerd), binaries.oci(given.containerd, given.oci)]
    return ", ".join(_said(path).splitlines()[0] for path in programs)


def _said(program: Path) -> str:
    return subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout


def run(given: argparse.Namespace, faults: int, say: Callable[[str], None]) -> Outcome:
    """Play rounds of `faults` faults each until there were given.faults; return their combined outcome."""
    whole = Outcome()
    disk = Disk()
    try:
        tars = images.write_all(PLACE / "images")
        number, idle = given.round or 0, 0
        while whole.faults.total() < given.faults and idle < ROUNDS_WITHOUT_FAULTS:
            with _ground(given, disk, tars) as ground:
                clean = True
                while clean and whole.faults.total() < given.faults and idle < ROUNDS_WITHOUT_FAULTS:
                    drawn = plan.draw(given.seed, number, faults=faults, modes=given.mode, kinds=given.kind)
                    outcome, clean = rounds.play(ground, drawn, say)
                    whole.add(outcome)
                    _tell(given, ground, number, outcome, whole, say)
                    idle = 0 if outcome.faults else idle + 1
                    number += 1
                    if given.round is not None:
                        return whole
    finally:
        disk.close()
    return whole


@contextmanager
def _ground(given: argparse.Namespace, disk: Disk, tars: list[Path]) -> Iterator[Ground]:
    with running(given.containerd, given.oci, tars) as node:
        ground = Ground(node, given.shim, disk, shared=SHARED)
        yield ground
        ground.pods.client.close()


def _tell(
    given: argparse.Namespace,
    ground: Ground,
    number: int,
    outcome: Outcome,
    whole: Outcome,
    say: Callable[[str], None],
) -> None:
    for one in outcome.wrong:
        say(f"  {one.what}: {one.whose} {one.detail}")
    if outcome.apart:
        say(f"  apart: {dict(outcome.apart)}")
    if given.evidence and (outcome.wrong or any(what.startswith("left") for what in outcome.apart)):
        given.evidence.mkdir(parents=True, exist_ok=True)
        name = f"{given.shim}-{given.oci}-{given.seed}-{number}"
        shutil.copy(ground.node.log, given.evidence / f"{name}.log")
        (given.evidence / f"{name}.txt").write_text("\n".join(outcome.evidence) + "\n")
    if given.json:
        about = {"seed": given.seed, "shim": given.shim, "oci": given.oci, "versions": versions(given)}
        given.json.write_text(json.dumps({**about, **whole.as_json()}, indent=1) + "\n")

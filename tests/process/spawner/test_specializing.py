"""shim.spawner.specializing, in the interpreter of a release (heap/specialize.c) and in any other."""

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest

ROOT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich")
OURS = CACHE / "release-python" / "bin" / "python3"

BEFORE = """
import ctypes, dis
from shim.spawner import specializing

class Thing:
    def __init__(self, number):
        self.number = number

def early(things):
    total = 0
    for thing in things:
        total += thing.number if thing.number > 1 else len(things)
    return total

def late(things):
    return early(things) + sum(thing.number for thing in things)

def specialized(function):
    plain, now = (dis.get_instructions(function, adaptive=how) for how in (False, True))
    return {b.opname for a, b in zip(plain, now) if a.opname != b.opname}

def memory(*functions):
    skip = 16  # what counts references, and names the type
    return [ctypes.string_at(id(f.__code__) + skip, f.__code__.__sizeof__() - skip) for f in functions]

THINGS = [Thing(number) for number in range(3)]
"""


def run(python: Path | str, script: str) -> None:
    command = [python, "-BS", "-c", f"import sys; sys.path.insert(0, {str(ROOT)!r})\n{BEFORE}{dedent(script)}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


@pytest.fixture
def ours() -> Path:
    if not OURS.exists():
        pytest.skip("needs hack/release.sh's Python")
    return OURS


def test_code_that_was_specialized_stays_so_and_none_is_written_to(ours: Path):
    run(
        ours,
        """
        for _ in range(20):
            early(THINGS)
        found = specialized(early)
        assert {"LOAD_ATTR_INSTANCE_VALUE", "FOR_ITER_LIST"} <= found, found
        specializing.turn(on=False)
        before = memory(early, late)
        for _ in range(1000):
            assert late(THINGS) == 11
            assert early({Thing(2)}) == 2  # of other types than the code is specialized for
        assert memory(early, late) == before
        assert specialized(early) == found
        assert not specialized(late)
        """,
    )


def test_it_can_be_turned_on_again(ours: Path):
    run(
        ours,
        """
        specializing.turn(on=False)
        for _ in range(20):
            late(THINGS)
        assert not specialized(late)
        specializing.turn(on=True)
        for _ in range(20):
            late(THINGS)
        assert specialized(late)
        """,
    )


def test_another_python_is_left_alone():
    run(
        sys.executable,
        """
        sys.modules["_specialize"] = None  # an import of it fails
        specializing.turn(on=False)
        for _ in range(20):
            late(THINGS)
        assert specialized(late)
        """,
    )

"""Each in an interpreter of its own: what is turned off stays so."""

import subprocess
import sys
from textwrap import dedent

import pytest

BEFORE = """
import dis, sys
from shim.spawner import adaptive

def fresh(number):
    return number + 1

def warm(numbers):
    total = 0
    for number in numbers:
        total += number
    return total

def outer(number):
    def inner(step=2):
        return number + step
    return inner

class Thing:
    def __init__(self, number):
        self.number = number

    @property
    def doubled(self):
        return 2 * self.number

def play():
    return fresh(1), warm([1, 2]), outer(3)(), outer(3)(step=4), Thing(4).doubled

def adapted(function):
    plain, now = (dis.get_instructions(function, adaptive=how) for how in (False, True))
    return [b.opname for a, b in zip(plain, now) if a.opname != b.opname]

for _ in range(20):
    play()
"""


def run(script: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", BEFORE + dedent(script)], capture_output=True, text=True, check=False, timeout=30
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="later versions cannot be kept from it")
def test_code_is_not_written_to_however_often_it_runs():
    run("""
        import ctypes
        assert adapted(warm)
        everything = [fresh, warm, outer, outer(1), Thing.__init__, Thing.doubled.fget]
        assert adaptive.turn_off()
        everything[3] = outer(1)

        def memory():
            skip = 16  # what counts references, and names the type
            return [ctypes.string_at(id(f.__code__) + skip, f.__code__.__sizeof__() - skip) for f in everything]

        before = memory()
        for _ in range(1000):
            play()
        assert memory() == before
        assert not any(map(adapted, everything))
    """)


def test_functions_do_what_they_did():
    run("""
        before = play()
        codes = [one.__code__ for one in (fresh, warm, outer)]
        adaptive.turn_off()
        assert play() == before
        assert [one.__code__ for one in (fresh, warm, outer)] == codes
    """)


def test_functions_made_later_adapt():
    run("""
        adaptive.turn_off()
        exec("def later(numbers):\\n for number in numbers: number + 1")
        for _ in range(20):
            later([1, 2])
        assert adapted(later)
    """)


def test_a_python_that_is_not_known_is_left_alone():
    run("""
        sys.version_info = (3, 10, 0, "final", 0)
        codes = [id(one.__code__) for one in (fresh, warm, outer)]
        assert not adaptive.turn_off()
        assert [id(one.__code__) for one in (fresh, warm, outer)] == codes
        assert adapted(warm)
    """)

"""Immortal objects: which way the spawner shares memory, and what the module does in the interpreter that has it."""

import os
import subprocess
import sys
import sysconfig
from pathlib import Path
from textwrap import dedent
from types import ModuleType

import pytest

from runtime.linux import heap
from shim.spawner import immortal, server

ROOT = Path(__file__).parents[3]
CACHE = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich")
OURS = CACHE / "release-python" / "bin" / "python3"


@pytest.fixture
def done(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What is done to the memory, in order."""
    said: list[str] = []
    monkeypatch.setattr(heap, "ranges", lambda: said.append("ranges") or [(0, 1)])
    monkeypatch.setattr(heap, "fill", lambda _: said.append("fill"))
    monkeypatch.setattr(heap, "share", lambda _, found: said.append(f"share {found}"))
    monkeypatch.setattr(server.gc, "freeze", lambda: said.append("freeze"))
    monkeypatch.setattr(server.specializing, "turn", lambda *, on: said.append(f"specialize {on}"))
    monkeypatch.setattr(server.libexec, "path", lambda name: name)
    return said


def test_what_is_immortal_is_not_shared_by_comparison(done: list[str], monkeypatch: pytest.MonkeyPatch):
    module = ModuleType("_immortal")
    module.make_immortal = lambda objects: done.append(f"immortal {done in objects}")  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "_immortal", module)
    server._share()
    assert done == ["specialize False", "immortal True", "fill", "freeze"]


def test_where_nothing_can_be_immortal_memory_is_shared_by_comparison(done: list[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "_immortal", None)  # an import of it fails
    assert not immortal.turn_on()
    server._share()
    assert done == ["specialize False", "ranges", "fill", "freeze", "share [(0, 1)]"]


@pytest.fixture
def python(tmp_path: Path) -> list[str]:
    """The command of a Python that has the module."""
    if OURS.exists():
        return [str(OURS), "-IBS", "-c"]
    include = sysconfig.get_path("include")
    if sys.version_info[:2] != (3, 13) or not Path(include, "Python.h").exists():
        pytest.skip("needs hack/release.sh's Python, or 3.13 and its headers")
    flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", f"-I{include}"]
    built = [*flags, "-o", str(tmp_path / "_immortal.so"), str(ROOT / "heap" / "immortal.c")]
    subprocess.run(["gcc", *built], check=True)
    return [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"]


def run(python: list[str], script: str) -> None:
    *command, begin = python if python[-1] != "-c" else [*python, ""]
    done = subprocess.run([*command, begin + dedent(script)], capture_output=True, text=True, check=False, timeout=30)
    assert done.returncode == 0, done.stderr


def test_all_that_is_reachable_becomes_immortal_and_nothing_else(python: list[str]):
    run(
        python,
        """
        import gc, sys
        from _immortal import make_immortal
        FOREVER = sys.getrefcount(None)

        class Thing:
            __slots__ = ("held",)
            def speak(self, words="a default"):
                def inner():
                    return words + "a constant"
                return inner()

        thing = Thing()
        thing.held = ({"key": [1234567, 1.5, b"bytes", frozenset({"in a set"})]},)

        def make():
            other = [object()]  # which only this frame has: a function's globals are reachable from it
            assert make_immortal([thing]) > 5
            return sys.getrefcount(other[0])

        assert make() < 10
        code = Thing.speak.__code__
        inner = next(one for one in code.co_consts if hasattr(one, "co_code"))
        inside = thing.held[0]["key"]
        for one in (thing, thing.held, thing.held[0], inside, *inside, Thing, Thing.speak, code, code.co_consts, inner,
                    inner.co_consts, inner.co_linetable, inner.co_names, "a constant", *Thing.speak.__defaults__):
            assert sys.getrefcount(one) == FOREVER, one
        before = sys.getrefcount(thing)
        assert thing.speak() == "a defaulta constant"
        assert sys.getrefcount(thing) == before
        assert make_immortal([thing]) == 0
        assert make_immortal(gc.get_objects()) > 1000
        del thing
        gc.collect()
        """,
    )


def test_it_takes_a_list_and_nothing_else(python: list[str]):
    run(
        python,
        """
        from _immortal import make_immortal
        for wrong in ((), None, "text"):
            try:
                make_immortal(wrong)
            except TypeError as err:
                assert "allowed a list" in str(err)
            else:
                raise AssertionError(wrong)
        """,
    )


def test_a_forked_process_that_uses_what_is_immortal_copies_next_to_nothing(python: list[str]):
    run(
        python,
        """
        import gc, os
        from _immortal import make_immortal

        things = [{"number": number, "text": f"text {number}"} for number in range(100_000)]  # some 30 MB

        def copied():
            with open("/proc/self/smaps_rollup") as file:
                return sum(int(line.split()[1]) for line in file if line.startswith("Private_Dirty:"))

        def in_a_child():
            read, write = os.pipe()
            if os.fork() == 0:
                before = copied()
                for thing in things:
                    held = thing, thing["text"]
                os.write(write, str(copied() - before).encode())
                os._exit(0)
            os.wait()
            return int(os.read(read, 20))

        counted = in_a_child()
        make_immortal(gc.get_objects())
        gc.freeze()
        shared = in_a_child()
        assert counted > 10_000, counted
        assert shared < 1_000, shared
        """,
    )

#!/usr/bin/env python3
"""Change the code in one place at a time, and check that a test notices.

Usage: hack/mutate.py [-k WORD]... [--jobs N] [--limit SECONDS] [--list]

hack/mutations.toml lists the changes, each with the test files that must notice it. Each change is made alone, in a
private copy of this checkout, and only those tests run. The run ends if a change's text is not found exactly once, or a
test fails without any change, because a stale list proves nothing. The exit status is 1 if a change survives and the
list gives no reason for that. Needs what `hack/test.sh prepare` installs, and root for some of the tests.
"""

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue

ROOT = Path(__file__).resolve().parent.parent
MUTATIONS = ROOT / "hack" / "mutations.toml"
CACHE = Path(os.environ.get("POUCHRICH_CACHE", Path.home() / ".cache" / "pouchrich"))
BUILT = "runtime/libexec"
WIDTH = 60


class Stale(Exception):
    """The list does not fit the code, or the tests do not pass as they are."""


@dataclass(frozen=True)
class Mutation:
    """One change: `find`, a text that occurs once in `file`, becomes `replace`, and `tests` must fail.

    `only` is pytest's -k; `reason` says why the change may survive.
    """

    file: str
    find: str
    replace: str
    tests: tuple[str, ...]
    only: str = ""
    reason: str = ""

    def line(self, text: str) -> int:
        """The number of the line in `text` that changes, from 1. Raises Stale."""
        if (count := text.count(self.find)) != 1:
            raise Stale(f"{self.file}: found {count} times, allowed once: {self.find!r}")
        pairs = zip(self.find, self.replace, strict=False)
        shorter = min(len(self.find), len(self.replace))
        same = next((at for at, (was, now) in enumerate(pairs) if was != now), shorter)
        return text.count("\n", 0, text.index(self.find) + same) + 1

    def summary(self) -> str:
        """The change in few words: the first line that differs."""
        before, after = self.find.splitlines(), self.replace.splitlines()
        while before and after and before[0].strip() == after[0].strip():
            before, after = before[1:], after[1:]
        was, now = (lines[0].strip() if lines else "" for lines in (before, after))
        return f"{was} -> {now or 'nothing'}" if len(after) >= len(before) or now else f"without {was}"


def read(path: Path = MUTATIONS) -> list[Mutation]:
    """Read the list. Raises TypeError for an unknown key."""
    with path.open("rb") as file:
        found = tomllib.load(file)["mutation"]
    return [Mutation(**{**one, "tests": tuple(one["tests"])}) for one in found]


def private_copy(target: Path) -> None:
    """Copy the files of this checkout that git tracks or would add, and the programs built in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    built = (str(path.relative_to(ROOT)) for path in (ROOT / BUILT).glob("*") if path.is_file())
    for name in {*filter(None, listed.split("\0")), *built}:
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)


class Copy:
    """The private copy of the checkout at `directory`. Each test run in it has `limit_s` seconds."""

    def __init__(self, directory: Path, limit_s: float) -> None:
        self.directory = directory
        self._limit_s = limit_s
        self._written = 0

    def write(self, name: str, text: str) -> None:
        """Replace a file, each time with another mtime: Python compares compiled code's time in whole seconds."""
        path = self.directory / name
        path.write_text(text)
        self._written += 1
        os.utime(path, (self._written, self._written))

    def failed(self, tests: Iterable[str], only: str) -> str:
        """The first failed test, `the time limit`, or "" if all have passed."""
        python = CACHE / "venv" / "bin" / "python"
        words = [str(python), "-m", "pytest", "-x", "-q", "--tb=no", "-p", "no:cacheprovider", *tests]
        with subprocess.Popen(
            [*words, *(["-k", only] if only else [])],
            cwd=self.directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        ) as child:
            try:
                said = child.communicate(timeout=self._limit_s)[0]
            except subprocess.TimeoutExpired:
                return "the time limit"
            finally:
                end_session(child.pid)
        if child.returncode == 0:
            return ""
        if child.returncode not in (1, 2):  # pytest's exit statuses for a failed test, and for a collection error
            return f"pytest, which ended with {child.returncode}"
        lines = [line.split(" ", 1)[1] for line in said.splitlines() if line.startswith(("FAILED ", "ERROR "))]
        return lines[0].split(" - ")[0] if lines else f"pytest: {said[-200:]}"


def end_session(leader: int) -> None:
    """Kill what is left of a run: its process group, whose id is its leader's PID."""
    with suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGKILL)


def run(mutations: list[Mutation], copies: list[Copy]) -> Iterator[tuple[Mutation, str]]:
    """Each change, in order, and what noticed it. Runs as many at once as there are copies. Raises Stale."""
    texts = {one.file: (ROOT / one.file).read_text() for one in mutations}
    for one in mutations:
        one.line(texts[one.file])
    idle: SimpleQueue[Copy] = SimpleQueue()
    for copy in copies:
        idle.put(copy)

    def unchanged(about: tuple[tuple[str, ...], str]) -> str:
        copy = idle.get()
        failed = copy.failed(*about)
        idle.put(copy)
        return failed

    def changed(one: Mutation) -> str:
        copy = idle.get()
        copy.write(one.file, texts[one.file].replace(one.find, one.replace))
        failed = copy.failed(one.tests, one.only)
        copy.write(one.file, texts[one.file])
        idle.put(copy)
        return failed

    with ThreadPoolExecutor(len(copies)) as workers:
        groups = list(dict.fromkeys((one.tests, one.only) for one in mutations))
        for group, test in zip(groups, workers.map(unchanged, groups), strict=True):
            if test:
                raise Stale(f"{' '.join(group[0])}: fails without any change: {test}")
        yield from zip(mutations, workers.map(changed, mutations), strict=True)


def main() -> int:
    """Print the table; return the exit status."""
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "-k", dest="words", action="append", default=[], help="only changes whose file or texts contain WORD"
    )
    parser.add_argument(
        "--limit", type=float, default=120.0, help="seconds for one change's tests; default %(default)s"
    )
    parser.add_argument(
        "--jobs", type=int, default=1, help="changes at once, each in its own copy; default %(default)s"
    )
    parser.add_argument("--list", action="store_true", help="only print what would be changed, and where")
    given = parser.parse_args()
    chosen = [
        one
        for one in read()
        if not given.words or any(word in f"{one.file} {one.find} {one.replace}" for word in given.words)
    ]
    killed, kept, unexplained = 0, 0, 0
    try:
        places = [f"{one.file}:{one.line((ROOT / one.file).read_text())}" for one in chosen]
        if given.list:
            for one, where in zip(chosen, places, strict=True):
                print(f"{where}: {one.summary()}")
            return 0
        with tempfile.TemporaryDirectory(prefix="pouchrich-mutate-") as place:
            copies = [Copy(Path(place) / str(number), given.limit) for number in range(given.jobs)]
            for copy in copies:
                private_copy(copy.directory)
            for (one, test), where in zip(run(chosen, copies), places, strict=True):
                verdict = f"killed by {test}" if test else f"SURVIVED ({one.reason or 'no reason is given'})"
                print(f"{where:<36} {one.summary()[:WIDTH]:<{WIDTH}} {verdict}", flush=True)
                killed, kept = killed + bool(test), kept + (not test)
                unexplained += not test and not one.reason
    except Stale as err:
        print(f"mutate: {err}", file=sys.stderr)
        return 2
    print(f"{len(chosen)} mutations, {killed} killed, {kept} survived")
    return int(unexplained > 0)


if __name__ == "__main__":
    sys.exit(main())

"""The program behind hack/install.sh, whose header describes it: install.py PYTHON [ARGUMENT ...]."""

import ctypes
import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import NoReturn

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

import shim  # noqa: E402
from pouchrich.node import InstallError, current, install, place, uninstall  # noqa: E402
from pouchrich.node.layout import BIN, CHECKOUTS, Layout  # noqa: E402
from pouchrich.node.lock import locked  # noqa: E402

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
USAGE = "usage: hack/install.sh [--prefix DIR] [--uninstall [--force]]"


def options(words: list[str]) -> dict[str, str]:
    """The given options with their values. Raises InstallError."""
    found: dict[str, str] = {}
    rest = iter(words)
    for word in rest:
        name, equals, value = word.partition("=")
        if name == "--prefix" and (value := value if equals else next(rest, "")):
            found["prefix"] = value
        elif word in ("--uninstall", "--force"):
            found[word[2:]] = "yes"
        else:
            raise InstallError(USAGE)
    if "force" in found and "uninstall" not in found:
        raise InstallError(USAGE)
    return found


def build(python: str, directory: str) -> str:
    """Have an environment made in a version's directory; where in it the packages are. Raises InstallError."""
    # The lock is held by what this starts too: a pip whose installer was killed still writes.
    with subprocess.Popen(
        [str(ROOT / "hack/build-environment.sh"), directory],
        env={**os.environ, "PYTHON": python},
        stdout=subprocess.PIPE,
        text=True,
        close_fds=False,
        process_group=0,
        preexec_fn=end_with_parent,
    ) as builder:
        try:
            printed, _ = builder.communicate()
        except BaseException:
            os.killpg(builder.pid, signal.SIGKILL)
            raise
    if builder.returncode:
        raise InstallError("not installed")
    return printed.strip()


def end_with_parent() -> None:
    """Let the kernel kill this process when its parent dies (prctl(2))."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def put(layout: Layout, python: str) -> None:
    """Build this checkout's version and make it current. Raises InstallError, OSError."""
    name = f"{shim.__version__}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}"
    with locked(layout):
        try:
            current.prepare(layout)
            with current.making(layout, name) as made:
                site = build(python, made)
                place.finish(made, python=f"{made}/venv/bin/python3", site=site, config=layout.config)
                current.switch(layout, name)
        finally:
            current.forget_unused(layout)
    print(f"installed {shim.__version__} below {layout.where}; configuration: {layout.config}")
    print(install.advice(layout))


def take_away(layout: Layout, *, force: bool) -> None:
    """Uninstall. Raises InstallError, OSError."""
    with locked(layout) if os.access(layout.home, os.W_OK) else nullcontext():
        if warning := uninstall.check(layout, force=force):
            sys.stderr.write(f"install: {warning}\n")
        if os.path.isdir(layout.home) and not os.access(layout.home, os.W_OK):
            raise InstallError(f"{layout.home}: not writable, run as root")
        uninstall.remove(layout)
    print(f"uninstalled from {layout.where}")


def give_up(number: int, frame: object) -> NoReturn:
    sys.exit(1)


def main(python: str, *words: str) -> int:
    for number in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        signal.signal(number, give_up)
    if {"-h", "--help"} & set(words):
        print(USAGE)
        return 0
    try:
        given = options(list(words))
        layout = Layout.below(given["prefix"]) if "prefix" in given else Layout(CHECKOUTS, BIN)
        if "uninstall" in given:
            take_away(layout, force="force" in given)
        else:
            put(layout, python)
    except InstallError as err:
        sys.stderr.write(f"install: {err}\n")
        return 1
    except OSError as err:
        sys.stderr.write(f"install: {err.filename}: {str(err.strerror).lower()}, run as root or give --prefix DIR\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))

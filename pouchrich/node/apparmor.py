"""Writes, loads and removes the AppArmor profile of rich containers on this node, even if a run is killed at any step.

The file is in the directory from which a boot loads profiles, before containerd starts. A node has one profile of that
name, so an installation below a prefix leaves it alone. Nothing here fails an installation: failures are printed.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from pouchrich.node import unpacked
from pouchrich.node.layout import Layout
from runtime.default_path import DEFAULT_PATH
from runtime.linux import apparmor

NAME = "pouchrich"
FILE = f"/etc/apparmor.d/{NAME}"
ABI = "/etc/apparmor.d/abi/3.0"
ENABLED = apparmor.ENABLED
SOURCE = f"{unpacked.SITE}/pouchrich/node/pouchrich.apparmor"
"""The profile's path within a version's directory."""

RECORD = "apparmor"
"""The file in home that says that the profile's file is ours. It is written first."""

_MARK = "# AppArmor's profile for rich containers, of containerd-shim-pouchrich."
_ABI_LINE = "abi <abi/3.0>,\n"
_PARSER = "apparmor_parser"
_TIMEOUT_S = 120.0


def put(layout: Layout) -> None:
    """Load the current version's profile, now and at each boot, where AppArmor is in force.

    Prints what was done. The caller has the lock.
    """
    if layout.prefix or not os.path.exists(_source(layout)):
        return
    try:
        problem = "AppArmor is not in force on this node" if not is_in_force() else _put(layout)
    except OSError as err:
        problem = f"{err.filename}: {str(err.strerror).lower()}"
    if problem:
        print(f"AppArmor profile {NAME}: not loaded: {problem}")
    else:
        print(f"AppArmor profile {NAME}: loaded, and at boots from {FILE}; rich.apparmor-profile names it")


def is_in_force() -> bool:
    """Whether AppArmor is enabled in the kernel."""
    return _read(ENABLED) == "Y\n"


def _put(layout: Layout) -> str:
    """Install and load the profile. Return why that failed, or "". Raises OSError."""
    former, wanted = _read(FILE), text(_read(_source(layout)))
    if former and not former.startswith(_MARK):
        return f"{FILE} belongs to another program"
    if _parser() is None:
        return f"there is no {_PARSER} (Debian's and Ubuntu's package apparmor has it)"
    layout.make_directory_of(FILE)
    with open(f"{layout.home}/{RECORD}", "w") as file:
        file.write(f"{FILE}\n")
    _write(wanted)
    if problem := _parse("--replace"):
        _write(former)
        return problem
    return ""


def text(source: str) -> str:
    """The profile for this node's parser: without its ABI line if the node lacks the ABI file that the line names."""
    return source if os.path.exists(ABI) else source.replace(_ABI_LINE, "")


def take_away(layout: Layout) -> None:
    """Unload the profile and remove its file, if this installation wrote it. The caller has the lock. Raises OSError.

    Unloading would leave processes under the profile unconfined, so while there are any it stays until the next boot.
    """
    if not _is_ours(layout):
        return
    stays = ""
    if list(users()):
        stays = "processes run under it"
    elif NAME in (apparmor.loaded() or ()):
        stays = f"there is no {_PARSER}" if _parser() is None else _parse("--remove")
    for path in (f"{FILE}.new", FILE):
        with suppress(FileNotFoundError):
            os.unlink(path)
    if stays:
        sys.stderr.write(f"install: AppArmor profile {NAME} stays loaded until the node boots: {stays}\n")


def needing(layout: Layout) -> Iterator[str]:
    """What needs the profile: one line, or none. Raises OSError."""
    if _is_ours(layout) and (pids := list(users())):
        yield f"AppArmor profile {NAME}: {len(pids)} processes run under it, pid {pids[0]} is one"


def users(proc: str = "/proc") -> Iterator[int]:
    """The PIDs of processes whose label has the profile: `NAME (MODE)`, or stacked `NAME//&OTHER (MODE)`."""
    for pid in sorted(int(name) for name in os.listdir(proc) if name.isdigit()):
        with suppress(OSError):  # the process has ended, or another LSM owns the file
            label = _label(f"{proc}/{pid}/attr")
            if NAME in label.rpartition(" ")[0].split("//&"):
                yield pid


def _label(directory: str) -> str:
    try:
        with open(f"{directory}/apparmor/current") as file:
            return file.read()
    except FileNotFoundError:  # before Linux 5.8
        with open(f"{directory}/current") as file:
            return file.read()


def status(layout: Layout) -> dict[str, Any] | None:
    """The profile's part of `pouchrich node status --json`; None where AppArmor is not in force."""
    if not is_in_force():
        return None
    return {
        "profile": NAME,
        "file": FILE if _read(FILE).startswith(_MARK) else "",
        "loaded": NAME in (apparmor.loaded() or ()),
        "installed": _is_ours(layout),
    }


def words(found: dict[str, Any] | None) -> str:
    """The same for people."""
    if found is None:
        return "not in force"
    state = "loaded" if found["loaded"] else "not loaded"
    boots = f", at boots from {found['file']}" if found["file"] else ""
    return f"profile {found['profile']} is {state}{boots}"


def _is_ours(layout: Layout) -> bool:
    return not layout.prefix and os.path.exists(f"{layout.home}/{RECORD}")


def _source(layout: Layout) -> str:
    return f"{layout.home}/{layout.current()}/{SOURCE}"


def _parser() -> str | None:
    return shutil.which(_PARSER, path=f"{os.environ.get('PATH', '')}:{DEFAULT_PATH}")


def _parse(verb: str) -> str:
    """Have the parser load or unload FILE. Return the end of its output if it fails, else "". Raises OSError."""
    argv = [_parser() or _PARSER, verb, FILE]
    try:
        done = subprocess.run(
            argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return f"{_PARSER} {verb} took more than {_TIMEOUT_S:g} s"
    said = (done.stderr.strip() or done.stdout.strip()).splitlines()
    return f"{_PARSER} {verb}: {said[-1] if said else f'exit status {done.returncode}'}" if done.returncode else ""


def _write(content: str) -> None:
    """Replace FILE's text by one rename, on disk when this returns; "" removes FILE. Raises OSError."""
    if not content:
        with suppress(FileNotFoundError):
            os.unlink(FILE)
        return
    with open(f"{FILE}.new", "w") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    os.rename(f"{FILE}.new", FILE)


def _read(path: str) -> str:
    with suppress(FileNotFoundError), open(path) as file:
        return file.read()
    return ""

"""Removes an installation, and finds what still needs it."""

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import suppress

from pouchrich.node import InstallError, apparmor, current
from pouchrich.node.layout import LINKS, MADE, PROGRAMS, Layout, link_of, remove_empty
from pouchrich.node.serving import pod_servers
from runtime.paths import RECORDS, STATE
from shim.installed.replaced import LOCK

_CONSEQUENCE = f"""without the shim containerd can neither clean up after these pods nor start more. Owed poststop hooks
stay in {RECORDS} and run only when it is installed again and starts a container (in a container: never)"""


def check(layout: Layout, *, force: bool) -> str:
    """A warning of what is lost, "" if nothing needs the installation. Raises InstallError without `force`; OSError.

    Records belong to the node, whichever installation wrote them.
    """
    needs = list(needing(layout))
    if not needs:
        return ""
    listed = "these need the shim:\n" + "\n".join(needs)
    if not force:
        raise InstallError(
            f"{listed}\ninstall: not uninstalled: remove the pods first, and wait for their hooks, or give --force:\n"
            f"{_CONSEQUENCE}"
        )
    return f"{listed}\ninstall: uninstalling anyway: {_CONSEQUENCE}"


def needing(layout: Layout) -> Iterator[str]:
    """What needs an installation: pods that it serves, records of poststop hooks, a profile. Raises OSError."""
    for one in pod_servers(layout.home):
        yield f"pod: {one.command} (pid {one.pid})"
    yield from _owed()
    yield from apparmor.needing(layout)


def remove(layout: Layout) -> None:
    """Remove the installation, except a changed configuration. The caller has the lock, if home exists.

    The programs are removed first, so that nothing more is started from the rest. Raises OSError.
    """
    made = [*layout.made(), *layout.own()]
    for program in PROGRAMS:
        for path in (f"{layout.bin}/{program}", f"{layout.bin}/{program}.new"):
            if link_of(path) == layout.target(program):
                os.unlink(path)
    apparmor.take_away(layout)
    if os.path.exists(layout.config):
        if current.is_pristine(layout):
            os.unlink(layout.config)
        else:
            print(f"kept {layout.config}: it was changed")
    with suppress(FileNotFoundError):
        os.unlink(f"{layout.config}.new")
    if os.path.isdir(layout.home):
        _remove_home(layout, made)
    if not layout.prefix:
        remove_empty([path for path, _, _ in os.walk(STATE)])


def _remove_home(layout: Layout, made: list[str]) -> None:
    """Remove home. Notes of files outside home are removed last, so that a killed run can be repeated."""
    for name in sorted(set(os.listdir(layout.home)) - {LINKS, MADE, LOCK}):
        path = f"{layout.home}/{name}"
        if os.path.islink(path) or not os.path.isdir(path):
            os.unlink(path)
        else:
            shutil.rmtree(path)
    remove_empty(made)
    try:
        shutil.rmtree(layout.home)
    except OSError as err:
        if err.errno != errno.EBUSY or os.listdir(layout.home):
            raise
        print(f"kept {layout.home}: a file system is mounted there")
    remove_empty(made)


def _owed() -> Iterator[str]:
    for directory, _, names in os.walk(RECORDS):
        for name in sorted(names):
            if name.endswith(".jsonl"):
                yield f"poststop hooks: {directory}/{name}"

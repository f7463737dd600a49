"""A configuration that an installation keeps, because it was changed: whether the version to come accepts it."""

import os
import subprocess
import sys

from pouchrich.node import InstallError
from pouchrich.node.layout import Layout


def check(layout: Layout, place: str) -> None:
    """Raise InstallError where the version in `place` refuses the configuration and the current version does not.

    With it every container of the node would be refused. A warning where the current version refuses it too.
    """
    if not (reason := _refusal(place, layout.config)):
        return
    name, now = os.path.basename(place), layout.current()
    if now and not _refusal(f"{layout.home}/{now}", layout.config):
        raise InstallError(f"{layout.config}: {name} refuses it, and {now} stays: {reason}: correct it first")
    sys.stderr.write(f"install: {layout.config}: {name} refuses every container with it: {reason}\n")


def _refusal(place: str, config: str) -> str:
    """Why the version in `place` refuses the file, "" if it accepts it or cannot be asked."""
    words = [f"{place}/bin/pouchrich", "config", "check", config]
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stderr.strip() or "no reason" if done.returncode else ""

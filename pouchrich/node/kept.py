"""A configuration that an installation keeps, because it was changed: whether another version accepts it."""

import os
import subprocess
import sys

from pouchrich.node import InstallError
from pouchrich.node.layout import Layout

ANSWERS_S = 30.0
"""The command looks at the programs of hooks, whose file system may hang."""


def check(layout: Layout, place: str) -> None:
    """Raise InstallError where the version in `place` refuses the configuration and the current version does not.

    With it every container of the node would be refused. A warning where the current version refuses it too.
    """
    if not (reason := refusal(place, layout.config)):
        return
    name, now = os.path.basename(place), layout.current()
    if now and not refusal(f"{layout.home}/{now}", layout.config):
        raise InstallError(f"{reason}; with it {name} would refuse every container, so {now} stays: correct it first")
    sys.stderr.write(f"install: {reason}; with it {name} refuses every container: correct it\n")


def refusal(place: str, config: str, *, any_owner: bool = False) -> str:
    """Why the version in `place` refuses the file, naming it; "" if it accepts it or cannot be asked.

    `config check` would also refuse it for what an agent lacks on this node, which only that agent's containers need.
    """
    words = [f"{place}/bin/pouchrich", "config", "show", config, *(["--any-owner"] if any_owner else [])]
    try:
        done = subprocess.run(
            words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, timeout=ANSWERS_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stderr.strip().removeprefix("pouchrich: ") or config if done.returncode else ""

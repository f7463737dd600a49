"""`pouchrich version`: print the version of this command, and with --json also of what it works with.

`--json` prints

    {"version": 1, "pouchrich", "python", "kernel": strings, "containerd": such as "2.1", of the containerd on PATH,
     "" if there is none or it does not tell}
"""

import argparse
import os
import platform
import sys

import shim
from pouchrich.output import show_json


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON for programs, with the versions of what the shim works with"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Print the versions."""
    if not arguments.json:
        sys.stdout.write(f"{shim.__version__}\n")
        return 0
    from pouchrich import containerd_config

    containerd = containerd_config.containerd_version()
    show_json(
        {
            "version": 1,
            "pouchrich": shim.__version__,
            "python": platform.python_version(),
            "kernel": os.uname().release,
            "containerd": "" if containerd is None else ".".join(map(str, containerd)),
        }
    )
    return 0

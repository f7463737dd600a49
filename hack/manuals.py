#!/usr/bin/env python3
"""Generate the manual pages and shell completions in share/, or check that they are current.

    hack/manuals.py --write    needed after a change of a command line, a docstring of pouchrich/commands, or a key
    hack/manuals.py --check    exit status 1 if --write would change a file

The pages are generated from the parsers of the command lines and from runtime/config/schema.py, the completions from
these parsers by shtab, which hack/test.sh installs. Packages, releases and hack/install.sh use the files as they are.
"""

import argparse
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import shtab  # noqa: E402

from hack.manual import command, configuration, shim_page  # noqa: E402
from pouchrich.__main__ import _parser  # noqa: E402

SHARE = ROOT / "share"
COMPLETIONS = {
    "bash": "bash-completion/completions/pouchrich",
    "zsh": "zsh/site-functions/_pouchrich",
    "fish": "fish/vendor_completions.d/pouchrich.fish",
}
"""Shell -> the file below share/ where it looks for its completion."""

PATHS = {"FILE": shtab.FILE, "SOCKET": shtab.FILE, "BUNDLE": shtab.DIRECTORY, "DIR": shtab.DIRECTORY}


def files() -> dict[str, str]:
    """Path below share/ -> the file's text."""
    found = {
        "man/man1/pouchrich.1": command.page(),
        "man/man5/pouchrich.toml.5": configuration.page(),
        "man/man8/containerd-shim-pouchrich-v2.8": shim_page.page(),
    }
    for shell, path in COMPLETIONS.items():
        found[path] = shtab.complete(with_paths(_parser()), shell=shell).rstrip("\n") + "\n"
    return found


def with_paths(parser: argparse.ArgumentParser) -> argparse.ArgumentParser:
    """The parser, with file and directory arguments marked for completion, recognised by their names."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for one in action.choices.values():
                with_paths(one)
        elif action.metavar in PATHS:
            action.complete = PATHS[action.metavar]  # type: ignore[attr-defined]
    return parser


def main(arguments: list[str]) -> str | None:
    """None for success, else the message to fail with."""
    if arguments not in (["--write"], ["--check"]):
        return __doc__
    stale = []
    for name, text in files().items():
        path = SHARE / name
        if path.exists() and path.read_text(encoding="utf-8") == text:
            continue
        if arguments == ["--write"]:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        else:
            stale.append(f"share/{name}")
    return f"{', '.join(stale)}: out of date, run hack/manuals.py --write" if stale else None


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))

"""pouchrich(1): all verbs, from the command's own parser."""

import argparse
import re

from hack.manual import roff
from pouchrich.__main__ import _parser

DESCRIPTION = """
pouchrich shows the rich containers of this node and checks what they need. It is the operator's command for
containerd-shim-pouchrich-v2(8), and reads the files that the shim keeps. Most commands need root.

A container is named by its ID as pouchrich ps shows it, by NAMESPACE/POD/CONTAINER, or by a unique beginning of either.
With --json a command prints JSON that programs may rely on: later versions may add fields, but remove none. Every
field is always present, and is a string unless its description says otherwise.
"""
STATUSES = {
    "0": "success",
    "1": "the command failed, and standard error says why; or doctor, explain, agent, config check or node status found"
    " something wrong",
    "2": "the command line is wrong",
    "3": "node install: everything is in place, but containerd must be restarted",
    "130": "the command was interrupted",
}
FILES = {
    "/etc/pouchrich/config.toml": "the node's configuration, pouchrich.toml(5)",
    "/run/pouchrich/": "state, which does not survive a reboot",
    "/var/lib/pouchrich/poststop/": "records of poststop hooks that are owed",
}


def page() -> str:
    """The page's text."""
    parser = _parser()
    lines = roff.title("pouchrich", 1, "rich containers on this node")
    lines += [roff.heading("SYNOPSIS"), "\\fBpouchrich\\fR \\fICOMMAND\\fR [\\fIARGUMENT\\fR ...]"]
    lines += [roff.heading("DESCRIPTION"), *roff.text_of(DESCRIPTION), roff.heading("COMMANDS")]
    for verb, one in _verbs(parser).items():
        lines += _section(verb, one)
    lines += [*roff.section("EXIT STATUS", STATUSES), *roff.section("FILES", FILES)]
    lines += [roff.heading("SEE ALSO"), "pouchrich.toml(5), containerd\\-shim\\-pouchrich\\-v2(8)"]
    return roff.page(lines)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """First word -> its parser, for the subcommands of a parser."""
    return dict(action.choices) if (action := _subparsers(parser)) else {}


def _subparsers(parser: argparse.ArgumentParser) -> argparse._SubParsersAction | None:
    return next((action for action in parser._actions if isinstance(action, argparse._SubParsersAction)), None)


def _section(verb: str, parser: argparse.ArgumentParser) -> list[str]:
    about = re.sub(r"^`pouchrich [^`]*`: ", "", parser.description or "describe a command.")
    about = about[:1].upper() + about[1:]
    lines = [roff.subheading(f"pouchrich {verb}"), *roff.text_of(about), *_arguments(parser, "")]
    if (nested := _subparsers(parser)) is not None:
        for one in nested._choices_actions:
            lines += roff.item(one.dest, one.help or "")
            lines += _arguments(nested.choices[one.dest], f"{one.dest} ")
    return lines


def _arguments(parser: argparse.ArgumentParser, before: str) -> list[str]:
    shown = [one for one in parser._actions if not isinstance(one, argparse._HelpAction | argparse._SubParsersAction)]
    return [line for one in shown for line in roff.item(f"{before}{_called(one)}", one.help or "")]


def _called(action: argparse.Action) -> str:
    """An option with its value, or the name of an argument."""
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"[{value}]" if action.nargs == "?" else str(value)
    words = ", ".join(action.option_strings)
    return words if action.nargs == 0 else f"{words} {value}"

"""pouchrich(1): all verbs, from the parser that reads them."""

import argparse

from hack.manual import roff
from pouchrich.__main__ import VERBS, _parser

DESCRIPTION = """
pouchrich shows the rich containers of this node and checks what they need. It is the operator's command of
containerd-shim-pouchrich-v2(8), and reads what that keeps: root may see all of it.

A container is named by its ID as pouchrich ps shows it, by NAMESPACE/POD/CONTAINER, or by a beginning of either. With
--json each verb prints what programs may rely on; fields are added to it, and none is taken away.
"""
STATUSES = {
    "0": "done",
    "1": "it could not be done, and standard error says why; or doctor, explain or config check found something wrong",
    "2": "the command line is wrong",
}
FILES = {
    "/etc/pouchrich/config.toml": "the node's configuration, pouchrich.toml(5)",
    "/run/pouchrich/": "state, which is gone with the next boot",
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
    lines.append(roff.heading("EXIT STATUS"))
    for what, about in STATUSES.items():
        lines += roff.item(what, about)
    lines.append(roff.heading("FILES"))
    for what, about in FILES.items():
        lines += roff.item(what, about)
    lines += [roff.heading("SEE ALSO"), "pouchrich.toml(5), containerd\\-shim\\-pouchrich\\-v2(8)"]
    return roff.page(lines)


def _verbs(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    """The parsers of what a parser has as its first word."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            return dict(action.choices)
    return {}


def _section(verb: str, parser: argparse.ArgumentParser) -> list[str]:
    lines = [roff.subheading(f"pouchrich {verb}")]
    lines += roff.text_of(parser.description or "") if verb in VERBS else [".PP", "Say more of one of these."]
    nested = _verbs(parser)
    for name, one in {"": parser, **nested}.items():
        called = f"{verb} {name}".rstrip()
        for action in one._actions:
            if not isinstance(action, argparse._HelpAction | argparse._SubParsersAction):
                lines += roff.item(f"{f'{name} ' if name else ''}{_called(action)}", action.help or "")
        if name and not any(not isinstance(action, argparse._HelpAction) for action in one._actions):
            lines += roff.item(called, "")
    return lines


def _called(action: argparse.Action) -> str:
    """An option with what it takes, or the name of an argument."""
    value = action.metavar or (f"{{{','.join(map(str, action.choices))}}}" if action.choices else action.dest.upper())
    if not action.option_strings:
        return f"[{value}]" if action.nargs == "?" else str(value)
    words = ", ".join(action.option_strings)
    return words if action.nargs == 0 else f"{words} {value}"

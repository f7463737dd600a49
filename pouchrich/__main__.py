"""`pouchrich`: the operator's command. Each verb has a module, and only the module of the given verb is loaded.

Errors go to standard error as one line and end with status 1; a wrong command line ends with 2.
"""

import argparse
import os
import sys
from collections.abc import Sequence
from importlib import import_module

import shim
from runtime.errors import PouchrichError

VERBS = {
    "ps": ("ps", "list the rich containers of this node"),
    "top": ("top", "show what the rich containers use, live"),
    "inspect": ("inspecting", "show everything known about one rich container"),
    "logs": ("logs", "show what a container's boot, init, hooks and agents reported"),
    "explain": ("explain", "show what the shim decides about a container, why, and what that changes"),
    "agent": ("agent", "restart, upgrade or back out an agent in running containers"),
    "doctor": ("doctor", "check this node; exit status 1 if a check fails"),
    "metrics": ("metrics", "print counts and times of rich containers, for Prometheus"),
    "node": ("node", "install a release on this node, roll it back or remove it"),
    "support": ("support", "collect what to attach to a bug report, without names and secrets"),
    "config": ("configuring", "show, check or change the configuration"),
    "runtimeclass": ("runtimeclass", "print the RuntimeClass manifest, or containerd's handler"),
    "version": ("versions", "print the version"),
}
"""Verb -> its module in `pouchrich.commands`, whose `add` declares the verb's command line; and its help."""


def _parser(argv: Sequence[str] | None = None) -> argparse.ArgumentParser:
    """The parser for the command line `argv`, with the options of its verb only. None: with those of all verbs."""
    parser = argparse.ArgumentParser(
        prog="pouchrich",
        description="Rich containers on this node.",
        epilog="pouchrich help COMMAND describes a command.",
    )
    parser.add_argument("--version", action="version", version=shim.__version__)
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")
    for verb, (module, text) in VERBS.items():
        one = verbs.add_parser(verb, help=text, formatter_class=argparse.RawDescriptionHelpFormatter)
        if argv is None or verb in argv[:2]:
            loaded = import_module(f"pouchrich.commands.{module}")
            one.description = loaded.__doc__  # which says what --json prints
            loaded.add(one)
    help_parser = verbs.add_parser("help", help="describe a command")
    help_parser.add_argument(
        "command", nargs="?", metavar="COMMAND", help="command to describe; without it, list the commands"
    )
    help_parser.set_defaults(run=lambda arguments: _help(parser, verbs, arguments.command))
    return parser


def _help(
    parser: argparse.ArgumentParser, verbs: "argparse._SubParsersAction[argparse.ArgumentParser]", verb: str | None
) -> int:
    if verb is not None and verb not in verbs.choices:
        from runtime.config.kinds import suggestion

        parser.error(f"help: found {verb!r}, allowed {', '.join(VERBS)}{suggestion(verb, tuple(VERBS))}")
    (parser if verb is None else verbs.choices[verb]).print_help()
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; return the exit status."""
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["config"]:
        words[1:] = import_module("pouchrich.commands.configuring").completed(words[1:])
    arguments = _parser(words).parse_args(words)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except PouchrichError as err:
        _complain(str(err))
    except BrokenPipeError:  # the reader of our output has closed it
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    except OSError as err:
        hint = ", try as root" if isinstance(err, PermissionError) and os.geteuid() else ""
        where = f"{err.filename}: " if err.filename is not None else ""
        _complain(f"{where}{(err.strerror or str(err)).lower()}{hint}")
    return 1


def _complain(text: str) -> None:
    from pouchrich.output import clean

    sys.stderr.write(f"pouchrich: {clean(text)}\n")


if __name__ == "__main__":
    sys.exit(main())

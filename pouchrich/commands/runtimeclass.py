"""`pouchrich runtimeclass`: print the RuntimeClass manifest, or the handler for containerd's configuration.

Without --containerd the manifest for the cluster is printed, for `kubectl apply -f -`. With --containerd the lines for
containerd's configuration are printed, with comments that say into which file they belong. Nothing is changed. The exit
status is 1 if --containerd here finds no containerd on PATH.

`--json` prints `{"version": 1, "text": what is printed without --json}`.
"""

import argparse
import re
import sys

from pouchrich import containerd_config, handler
from pouchrich.output import show_json
from runtime.errors import NotFound


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    parser.add_argument(
        "--containerd",
        choices=("1", "2", "here"),
        help="print the handler for containerd 1.x, 2.x, or the containerd on PATH (here)",
    )
    parser.add_argument(
        "--containerd-config",
        metavar="FILE",
        default=containerd_config.DEFAULT,
        help=f"containerd configuration whose version decides the form; default {containerd_config.DEFAULT}",
    )
    parser.add_argument(
        "--handler",
        type=_handler_name,
        default="pouchrich",
        metavar="NAME",
        help="name of the handler and the RuntimeClass; default pouchrich",
    )
    parser.add_argument(
        "--runtime-path", default="", metavar="PATH", help="path of the shim, if it is not on containerd's PATH"
    )
    parser.add_argument(
        "--config-path", default="", metavar="FILE", help="configuration of the handler, instead of the node's file"
    )
    parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
    parser.set_defaults(run=run)


def _handler_name(text: str) -> str:
    # A RuntimeClass's handler must be a DNS label (node.k8s.io/v1), which is also a bare TOML key.
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text) is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed a DNS label")
    return text


def run(arguments: argparse.Namespace) -> int:
    """Print the text. Raises NotFound where the containerd to print it for is not there."""
    text = handler.runtime_class(arguments.handler) if arguments.containerd is None else _handler(arguments)
    if arguments.json:
        show_json({"version": 1, "text": text})
    else:
        sys.stdout.write(text)
    return 0


def _handler(arguments: argparse.Namespace) -> str:
    file = arguments.containerd_config
    if arguments.containerd != "here":
        major, version = int(arguments.containerd), None
    else:
        found = containerd_config.containerd_version()
        if found is None:
            raise NotFound("containerd: not on PATH, or without a version: give --containerd 1 or 2 instead of here")
        major, version = found[0], containerd_config.format_version(file)
    return handler.containerd(
        major,
        version=version,
        file=file,
        handler=arguments.handler,
        runtime_path=arguments.runtime_path,
        config_path=arguments.config_path,
    )

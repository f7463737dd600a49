"""`pouchrich`: the operator's command. One function per verb, each printing and returning the exit status.

Errors go to standard error as one line and end with status 1; a wrong command line ends with 2.
"""

import argparse
import os
import re
import sys
from collections.abc import Sequence

import shim
from pouchrich import containerd_config, handler
from pouchrich.commands import doctor, explain, inspecting, node, ps
from pouchrich.output import clean
from runtime import inotify
from runtime.config import load, load_node
from runtime.config.location import NODE_FILE
from runtime.config.render import default_file, effective
from runtime.errors import NotFound, PouchrichError


def _version(arguments: argparse.Namespace) -> int:
    return _print(f"{shim.__version__}\n")


def _print(text: str) -> int:
    sys.stdout.write(text)
    return 0


def _config(arguments: argparse.Namespace) -> int:
    if arguments.default:
        return _print(default_file())
    if arguments.sysctl:
        return _print(inotify.drop_in())
    if arguments.file is None:
        return _print(effective(load_node()))
    return _print(effective(load(arguments.file, require_root_owned=not arguments.any_owner)))


def _runtimeclass(arguments: argparse.Namespace) -> int:
    if arguments.containerd is None:
        return _print(handler.runtime_class(arguments.handler))
    file = arguments.containerd_config
    found = containerd_config.containerd_version()
    if arguments.containerd != "here":
        major, version = int(arguments.containerd), None
    elif found is None:
        raise NotFound("containerd: not on PATH, or it does not say its version: --containerd 1 or 2 says which it is")
    else:
        major, version = found[0], containerd_config.format_version(file)
    text = handler.containerd(
        major,
        version=version,
        file=file,
        handler=arguments.handler,
        runtime_path=arguments.runtime_path,
        config_path=arguments.config_path,
    )
    return _print(text)


def _handler_name(text: str) -> str:
    # A RuntimeClass's handler must be a DNS label (node.k8s.io/v1), which is also a bare TOML key.
    if re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", text) is None:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed a DNS label")
    return text


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="pouchrich", description="Rich containers on this node.")
    verbs = parser.add_subparsers(required=True, metavar="COMMAND")

    version = verbs.add_parser("version", help="print the version")
    version.set_defaults(run=_version)

    config = verbs.add_parser(
        "config", help="check a configuration file and print it in full, each value with its source"
    )
    config.add_argument("file", nargs="?", metavar="FILE", help=f"default {NODE_FILE}, or the built-in values")
    config.add_argument("--default", action="store_true", help="print the commented default file instead")
    config.add_argument("--sysctl", action="store_true", help="print the kernel settings that a node should have")
    config.add_argument("--any-owner", action="store_true", help="do not insist that root owns FILE")
    config.set_defaults(run=_config)

    kubernetes = verbs.add_parser("runtimeclass", help="print the RuntimeClass manifest, or containerd's handler")
    kubernetes.add_argument(
        "--containerd", choices=("1", "2", "here"), help="handler configuration for containerd N.x, or the one on PATH"
    )
    kubernetes.add_argument("--containerd-config", metavar="FILE", default=containerd_config.DEFAULT)
    kubernetes.add_argument("--handler", type=_handler_name, default="pouchrich", metavar="NAME")
    kubernetes.add_argument("--runtime-path", default="", metavar="PATH", help="of the shim, if not on PATH")
    kubernetes.add_argument("--config-path", default="", metavar="FILE", help="in place of the node's file")
    kubernetes.set_defaults(run=_runtimeclass)

    for verb in (explain, ps, inspecting, doctor, node):
        verb.add(verbs)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one verb; the exit status."""
    arguments = _parser().parse_args(argv)
    try:
        status: int = arguments.run(arguments)
        sys.stdout.flush()
        return status
    except PouchrichError as err:
        sys.stderr.write(f"pouchrich: {clean(str(err))}\n")
    except BrokenPipeError:  # who reads us has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except KeyboardInterrupt:
        return 130
    except OSError as err:
        hint = ", try as root" if isinstance(err, PermissionError) and os.geteuid() else ""
        where = f"{err.filename}: " if err.filename is not None else ""
        sys.stderr.write(clean(f"pouchrich: {where}{(err.strerror or str(err)).lower()}{hint}") + "\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())

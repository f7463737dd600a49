"""`pouchrich node`: an artefact's installation on this node. Made by the artefact's own program `install` at first."""

import argparse
import os
import sys
from contextlib import nullcontext

import shim
from pouchrich.node import InstallError, install, uninstall
from pouchrich.node.layout import ARTEFACTS, BIN, LINKS, Layout
from pouchrich.node.lock import locked
from shim.installed.location import VERSION_DIRECTORY


def add(node: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    what = node.add_subparsers(required=True, metavar="WHAT")
    for name, run, about in (
        ("install", _install, "have this version be the one that is run from now on"),
        ("uninstall", _uninstall, "take all versions away; refused while pods or poststop hooks need one"),
    ):
        parser = what.add_parser(name, help=about)
        parser.add_argument("--prefix", metavar="DIR", help=f"everything below DIR; default {ARTEFACTS} and {BIN}")
        parser.add_argument("--bin", metavar="DIR", help="where the links to the programs go, a directory on PATH")
        parser.set_defaults(run=_telling, act=run)
        if name == "uninstall":
            parser.add_argument("--force", action="store_true", help="all the same; it says what is lost")


def _telling(arguments: argparse.Namespace) -> int:
    """Run it; errors are the installer's. Raises OSError."""
    os.umask(0o022)
    try:
        arguments.act(arguments)
    except InstallError as err:
        sys.stderr.write(f"install: {err}\n")
        return 1
    return 0


def _layout(arguments: argparse.Namespace) -> Layout:
    """What the command line says, else where this version is installed, else the usual place."""
    if arguments.prefix:
        found = Layout.below(arguments.prefix)
        found = Layout.at(found.home) if os.path.exists(f"{found.home}/{LINKS}") else found
    else:
        found = Layout.at(os.path.dirname(VERSION_DIRECTORY) or ARTEFACTS)
    if arguments.bin:
        found = Layout(found.home, os.path.abspath(arguments.bin), found.config, found.prefix)
    return found.checked()


def _install(arguments: argparse.Namespace) -> None:
    install.install(_layout(arguments), install.root(), shim.__version__)


def _uninstall(arguments: argparse.Namespace) -> None:
    layout = _layout(arguments)
    with locked(layout) if os.path.isdir(layout.home) else nullcontext():
        if warning := uninstall.check(layout, force=arguments.force):
            sys.stderr.write(f"install: {warning}\n")
        uninstall.remove(layout)
    print(f"uninstalled from {layout.where}")

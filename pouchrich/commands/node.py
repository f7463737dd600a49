"""`pouchrich node`: install a release on this node, roll it back, or remove it.

The first installation is made by the program `install` in the unpacked release, which takes the options of `pouchrich
node install`.

With --containerd, install also puts a handler into containerd's configuration. It first checks the node, tries the
change with containerd's own `config dump`, and restarts containerd only if its configuration changed. --root names the
directory where the node's root is mounted, as in a DaemonSet's pod. With --node, the node's name in the cluster,
install also runs the probe pods of --probe and labels the node, and uninstall removes the labels.

The exit status is 1 if an action failed or was refused. install exits with status 3 if everything is in place except
that containerd must be restarted and --restart never was given. status exits with status 1 if no version is installed,
or if install configured containerd and containerd has not read the handler.

`status --json` prints

    {"version": 1, "home": directory of the versions, "installed": true | false, "current": version or "",
     "previous": version that rollback restores, or "", "rejected": version that was rolled back, or "",
     "others": [replaced versions that have not been removed yet, as something may still run from them],
     "hold": why nothing may be changed on this node, or "",
     "containerd": null if install did not configure one, else {"kind": containerd | k3s | rke2 | k0s | microk8s,
         "socket", "file": that has the handler, "how": its place there in words, "running": true | false,
         "configured": true if containerd's configuration has the handler, else false, "loaded": true if containerd has
         read that, else false, "problem": why containerd cannot be asked, or ""},
     "apparmor": null if AppArmor is not in force, else {"profile", "file": that the node loads at boot, or "",
         "loaded": true | false, "installed": true if this installation loaded it},
     "needed_by": [pods, records of poststop hooks and uses of the profile that need the installation, in words]}
"""

import argparse
import os
import sys
from typing import TYPE_CHECKING

import shim
from pouchrich.cluster import hold, membership, rollout, status
from pouchrich.cluster.restart import AS_FOUND
from pouchrich.node import InstallError, install
from pouchrich.node.layout import ARTEFACTS, BIN, LINKS, Layout
from pouchrich.output import show_json
from shim.installed.location import VERSION_DIRECTORY

if TYPE_CHECKING:
    from collections.abc import Callable

DISTRIBUTIONS = ("auto", "kubeadm", "k3s", "rke2", "k0s")
_LONGEST_WAIT_S = 7 * 24 * 3600.0


def add(node: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    what = node.add_subparsers(required=True, metavar="WHAT")
    for name, run, about in (
        ("install", _install, "install this version and make it the current one"),
        ("uninstall", _uninstall, "remove all versions; refused while pods or poststop hooks need one"),
        ("rollback", _rollback, "make the previous version the current one again"),
        ("settle", _settle, "run owed poststop hooks that no process takes care of; the start of a pod does the same"),
        ("status", _status, "show what is installed on this node"),
    ):
        parser = what.add_parser(name, help=about)
        parser.add_argument(
            "--prefix", metavar="DIR", help=f"install everything below DIR; default {ARTEFACTS} and {BIN}"
        )
        parser.add_argument("--bin", metavar="DIR", help="directory on PATH for the links to the programs")
        parser.add_argument("--root", metavar="DIR", help="where the node's root directory is mounted, with its /proc")
        parser.set_defaults(run=_telling, act=run, what=name)
        if name in ("install", "uninstall"):
            _add_containerd(parser, name)
            rollout.add(parser)
        if name == "uninstall":
            parser.add_argument(
                "--force", action="store_true", help="uninstall in spite of pods and owed hooks; prints what is lost"
            )
            parser.add_argument(
                "--wait",
                metavar="SECONDS",
                type=_seconds,
                default=0.0,
                help="how long to wait for pods and hooks to end",
            )
        elif name == "status":
            parser.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")


def _add_containerd(parser: argparse.ArgumentParser, name: str) -> None:
    """The options of `install`. `uninstall` takes the same, so that a DaemonSet needs to change only the verb."""
    about = {
        "install": (
            "put the handler into the configuration of this containerd",
            "containerd's socket, if it is not one of the usual ones",
            "do not install a version that was rolled back on this node",
        ),
        "uninstall": (
            "accepted as for install; which containerd has the handler is known",
            "also look for the handler in this containerd if nothing is installed",
            "accepted as for install; without effect",
        ),
    }[name]
    parser.add_argument("--containerd", choices=DISTRIBUTIONS, help=about[0])
    parser.add_argument("--address", metavar="SOCKET", help=about[1])
    parser.add_argument("--unattended", action="store_true", help=about[2])
    parser.add_argument(
        "--restart",
        metavar="HOW",
        default=AS_FOUND,
        help="how to restart containerd if its configuration changed: auto (by systemd or k0s), never, or a command",
    )


def _seconds(text: str) -> float:
    try:
        found = float(text)
    except ValueError:
        found = -1.0
    if not 0 <= found <= _LONGEST_WAIT_S:
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed 0 to {_LONGEST_WAIT_S:g} seconds")
    return found


def _telling(arguments: argparse.Namespace) -> int:
    """Run the verb, and report errors as the installer does. Raises OSError."""
    os.umask(0o022)
    act: Callable[[argparse.Namespace], int] = arguments.act
    try:
        if arguments.root or getattr(arguments, "node", None):
            return rollout.run(arguments)
        return act(arguments)
    except InstallError as err:
        sys.stdout.flush()
        sys.stderr.write(f"install: {err}\n")
        return 1


def _layout(arguments: argparse.Namespace) -> Layout:
    """The layout of the command line, else the one in which this version is installed, else the default."""
    if arguments.prefix:
        found = Layout.below(arguments.prefix)
        found = Layout.at(found.home) if os.path.exists(f"{found.home}/{LINKS}") else found
    else:
        found = Layout.at(os.path.dirname(VERSION_DIRECTORY) or ARTEFACTS)
    if arguments.bin:
        found = Layout(found.home, os.path.abspath(arguments.bin), found.config, found.prefix)
    return found.checked()


def _install(arguments: argparse.Namespace) -> int:
    layout, directory = _layout(arguments), install.root()
    if arguments.containerd:
        return membership.take_up(
            layout,
            directory,
            shim.__version__,
            containerd=arguments.containerd,
            address=arguments.address,
            how=arguments.restart,
            unattended=arguments.unattended,
        )
    hold.refuse()
    install.install(layout, directory, shim.__version__, unattended=arguments.unattended)
    print(install.advice(layout))
    return 0


def _uninstall(arguments: argparse.Namespace) -> int:
    layout = _layout(arguments)
    membership.give_back(
        layout, force=arguments.force, wait_s=arguments.wait, how=arguments.restart, address=arguments.address
    )
    print(f"uninstalled from {layout.where}")
    return 0


def _settle(_: argparse.Namespace) -> int:
    from shim.pod import sandbox_cleanup
    from shim.task.hooks import poststop

    sandbox_cleanup.start_member_cleanup()
    poststop.start_sweeper()
    return 0


def _rollback(arguments: argparse.Namespace) -> int:
    membership.roll_back(_layout(arguments))
    return 0


def _status(arguments: argparse.Namespace) -> int:
    found = status.of(_layout(arguments))
    if arguments.json:
        show_json(found)
    else:
        sys.stdout.write(status.text(found))
    return 0 if status.is_ready(found) else 1

"""The rollout on one node, in a DaemonSet's pod: waits while it is held, installs, probes, labels, watches the node.

What changes the node runs with the node's root (`host`). Requests to the cluster come from the image, which has
kubectl.

Through its RuntimeClass each rich pod selects nodes by a label, and a restarted kubelet kills pods whose selector its
node no longer matches (kubernetes/kubernetes issues 99708, 124586). So a mode's label is removed only if a probe fails,
or if the operator no longer asks for the mode.
"""

import argparse
import os
import random
import signal
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial
from types import FrameType
from typing import Any, NoReturn

import shim
from pouchrich.cluster import hold, host, probe
from pouchrich.cluster.kubectl import Kubectl
from pouchrich.cluster.membership import RESTART_OWED
from pouchrich.node import InstallError, install
from pouchrich.node.layout import PROGRAMS
from runtime.config.annotations import PREFIX
from runtime.linux import command_line, statx

READY = "/run/pouchrich-node-ready"
"""A file in the image, for the pod's readiness probe: it exists once everything is done."""

VERSION_LABEL = f"{PREFIX}version"
_POLL_S = 10.0
_PAUSE_S = 60.0
_ROUNDS = 10
_LOOK_S, _AGAIN_S, _MISSES = 240.0, 30.0, 20
"""Seconds between looks; and seconds between looks after a failed one, and how many of these: together as long as k3s
or rke2 may take to restart containerd (`restart`)."""
_SURE = 2
"""How many probes of a mode must fail before its label is removed: one may have run on a node that had just booted."""

_PASSED_ON = ("prefix", "bin", "containerd", "address", "restart", "wait")
_FLAGS = ("unattended", "force", "json")


def mode_label(mode: str) -> str:
    """The node's label that says that pods of `mode` run there."""
    return f"{PREFIX}mode.{mode}"


_NO_LABELS: dict[str, str | None] = dict.fromkeys([VERSION_LABEL, *map(mode_label, probe.INITS)])


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the options of install and uninstall that concern the cluster."""
    parser.add_argument(
        "--node", metavar="NAME", help="name of this node in the cluster, whose labels to set or remove"
    )
    parser.add_argument(
        "--stay",
        action="store_true",
        help="with --node: when done, keep running as long as the node keeps the installation",
    )
    parser.add_argument(
        "--probe",
        metavar="MODE[=IMAGE]",
        type=_probe,
        action="append",
        default=[],
        help="label the node for this mode only if a probe pod runs in it, with IMAGE or else this pod's image",
    )


def _probe(text: str) -> tuple[str, str]:
    mode, _, image = text.partition("=")
    if mode not in probe.INITS:
        raise argparse.ArgumentTypeError(f"found {mode!r}, allowed {', '.join(probe.INITS)}")
    return mode, image


def run(arguments: argparse.Namespace) -> int:
    """Execute a command line with --root or --node; return the exit status. Raises InstallError, OSError."""
    signal.signal(signal.SIGTERM, _end)
    if not getattr(arguments, "node", None):
        return _act(arguments)
    api = Kubectl(arguments.node, os.environ.get("POD_NAMESPACE", "default"))
    _until(lambda: hold.reason(api.annotations(), f"{arguments.root or ''}{hold.FILE}"), "held by ")
    status = _uninstall(arguments, api) if arguments.what == "uninstall" else _install(arguments, api)
    return _stay(arguments) if status == 0 and arguments.stay else status


def _stay(arguments: argparse.Namespace, *, look_s: float = _LOOK_S, again_s: float = _AGAIN_S) -> int:
    """Stay ready as long as the node is; then return the exit status, so that the kubelet runs this again.

    Looks are `look_s` seconds apart, and at random up to half as much more, so that not all nodes look at once. After a
    failed look, others follow `again_s` apart, because somebody else may just be restarting containerd. After an
    uninstall the node is not looked at.
    """
    with open(READY, "w"):
        pass
    while arguments.what == "uninstall":
        signal.pause()
    while True:
        time.sleep(look_s * random.uniform(1.0, 1.5))
        if not _is_there(arguments, again_s):
            break
    os.unlink(READY)
    print("the node no longer has the installation; this program ends, to be run again:", flush=True)
    _status(arguments, quiet=False)
    return 1


def _is_there(arguments: argparse.Namespace, again_s: float) -> bool:
    """Whether the node has the shim, at one of several looks, during which its containerd may be restarting."""
    for look in range(_MISSES):
        if look:
            time.sleep(again_s)
        if _is_ready(arguments):
            return True
    return False


def _uninstall(arguments: argparse.Namespace, api: Kubectl) -> int:
    """Uninstall, and remove the labels once nothing is left. Until then deploy/'s RuntimeClasses select no node."""
    status = _act(arguments)
    if status == 0:
        api.label(_NO_LABELS)
    return status


def _pause() -> None:
    time.sleep(_PAUSE_S)


def _install(arguments: argparse.Namespace, api: Kubectl, pause: Callable[[], None] = _pause) -> int:
    """Install, and return 0 once each mode was judged good; `pause` is called before a mode is tried again."""
    status = _act(arguments)
    if status == RESTART_OWED:
        _until(lambda: "" if _is_ready(arguments) else "a restart of containerd", "waiting for ")
        status = 0
    if status:
        # The node may have labels from before it was reinstalled or containerd was upgraded.
        if not _is_ready(arguments) and not _serves(arguments.root or "/"):
            api.label(_NO_LABELS)
        return status
    own = _own_pod(api) if arguments.probe else {}
    images: dict[str, str] = {mode: image or _image(own) for mode, image in arguments.probe}
    asked_no_more = dict.fromkeys(mode_label(mode) for mode in probe.INITS if mode not in images)
    api.label({VERSION_LABEL: shim.__version__.replace("+", "_"), **asked_no_more})
    run = partial(probe.run, api, secrets=own.get("spec", {}).get("imagePullSecrets", []), owner=own)
    if failures := _judge(api, images, run, pause, lambda: _is_there(arguments, _AGAIN_S)):
        raise InstallError("\n".join(failures))
    return 0


def _judge(
    api: Kubectl,
    images: Mapping[str, str],
    run: Callable[[str, str], None],
    pause: Callable[[], None],
    is_ready: Callable[[], bool],
) -> list[str]:
    """Probe each mode until it is judged, and set the node's labels accordingly; return the failures.

    Raises InstallError if some modes could not be judged.
    """
    failures, left, against = [], list(images), dict.fromkeys(images, 0)
    for number in range(_ROUNDS):
        if number:
            pause()
            if not is_ready():
                break
        for mode in list(left):
            try:
                run(mode, images[mode])
            except probe.Fails as err:
                against[mode] += 1
                print(f"mode {mode} fails: {err}", flush=True)
                if against[mode] < _SURE:
                    continue
                failures.append(str(err))
                api.label({mode_label(mode): None})
            except InstallError as err:
                print(f"mode {mode} could not be judged, its label stays as it is: {err}", flush=True)
                continue
            else:
                print(f"mode {mode} runs", flush=True)
                api.label({mode_label(mode): "true"})
            left.remove(mode)
        if not left:
            return failures
    raise InstallError(
        "\n".join([*failures, f"modes that could not be judged: {', '.join(left)}; their labels stay as they are"])
    )


def _serves(root: str) -> bool:
    """Whether a pod server of any installation runs on the node whose root directory is at `root`.

    /proc has the node's PIDs (`host.check`). A container's process has another root directory, whatever its command
    line says.
    """
    here, begins = statx.identity(root), f"{PROGRAMS[0]}\0".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with suppress(OSError):  # the process has ended
            if command_line.read(pid).startswith(begins) and statx.identity(f"/proc/{pid}/root") == here:
                return True
    return False


def _is_ready(arguments: argparse.Namespace) -> bool:
    return _status(arguments, quiet=True) == 0


def _status(arguments: argparse.Namespace, *, quiet: bool) -> int:
    words = [] if arguments.prefix is None else ["--prefix", arguments.prefix]
    return host.run(arguments.root or "/", install.root(), ["node", "status", *words], quiet=quiet)


def _until(condition: Callable[[], str], words: str) -> None:
    """Wait until `condition` returns "", and print its text whenever that changes."""
    told = ""
    while why := condition():
        if why != told:
            print(f"{words}{why}", flush=True)
            told = why
        time.sleep(_POLL_S)


def _own_pod(api: Kubectl) -> dict[str, Any]:
    """The API's object of the pod that this runs in, {} outside a pod."""
    name = os.environ.get("POD_NAME", "")
    return api.pod(name) if name else {}


def _image(own: dict[str, Any]) -> str:
    if not own:
        raise InstallError("--probe MODE: found no POD_NAME in the environment: give the image too, MODE=IMAGE")
    image: str = own["spec"]["containers"][0]["image"]
    return image


def _act(arguments: argparse.Namespace) -> int:
    """Execute the part of the command line that concerns the node, with the node's root."""
    if not arguments.root:
        act: Callable[[argparse.Namespace], int] = arguments.act
        return act(arguments)
    words = ["node", arguments.what]
    for name in _PASSED_ON:
        if (value := getattr(arguments, name, None)) is not None:
            words += [f"--{name}", str(value)]
    words += [f"--{name}" for name in _FLAGS if getattr(arguments, name, False)]
    return host.run(arguments.root, install.root(), words)


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(0 if number == signal.SIGTERM else 1)

"""The rollout on one node, in a DaemonSet's pod: waits while it is held, installs, probes, labels, watches the node.

What changes the node runs with the node's root (`host`). Requests to the cluster come from the image, which has
kubectl.

Through its RuntimeClass each rich pod selects nodes by a label, and a restarted kubelet kills pods whose selector its
node no longer matches (kubernetes/kubernetes issues 99708, 124586). So a mode's label is removed only if a probe fails,
or if the operator no longer asks for the mode.
"""

import argparse
import json
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
from pouchrich.cluster import hold, host, labels, probe
from pouchrich.cluster.kubectl import Kubectl
from pouchrich.cluster.membership import RESTART_OWED
from pouchrich.node import InstallError, install
from pouchrich.node.layout import PROGRAMS
from runtime.linux import command_line, statx

READY = "/run/pouchrich-node-ready"
"""A file in the image, for the pod's readiness probe: it exists once everything is done."""

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
    _until(lambda: _held(arguments, api), "held by ")
    status = _uninstall(arguments, api) if arguments.what == "uninstall" else _install(arguments, api)
    return _stay(arguments, api) if status == 0 and arguments.stay else status


def _held(arguments: argparse.Namespace, api: Kubectl) -> str:
    return hold.reason(api.annotations(), f"{arguments.root or ''}{hold.FILE}")


def _stay(arguments: argparse.Namespace, api: Kubectl, *, look_s: float = _LOOK_S, again_s: float = _AGAIN_S) -> int:
    """Stay ready as long as the node is; then return the exit status, so that the kubelet runs this again.

    Looks are `look_s` seconds apart, and at random up to half as much more, so that not all nodes look at once. After a
    failed look, others follow `again_s` apart, because somebody else may just be restarting containerd. Each look also
    sets again the labels that the node has lost. After an uninstall the node is not looked at.
    """
    with open(READY, "w"):
        pass
    while arguments.what == "uninstall":
        signal.pause()
    could_label = True
    while True:
        time.sleep(look_s * random.uniform(1.0, 1.5))
        if not (current := _lasting_version(arguments, again_s)):
            break
        could_label = _restore_labels(arguments, api, current, is_told=not could_label)
    os.unlink(READY)
    print("the node no longer has the installation; this program ends, to be run again:", flush=True)
    host.run(arguments.root or "/", install.root(), _status_words(arguments))
    return 1


def _restore_labels(arguments: argparse.Namespace, api: Kubectl, current: str, *, is_told: bool) -> bool:
    """Set again the labels that the node has lost, unless it is held; return whether the API server answered.

    A node's object that is deleted and soon registered again has none, and keeps its DaemonSet's pod. An API server
    that does not answer is printed unless that `is_told` already.
    """
    try:
        lost = labels.missing(api.labels(), current, [mode for mode, _ in arguments.probe])
        if lost and not _held(arguments, api):
            api.label(lost)
            print(f"the node had lost labels, set them again: {', '.join(lost)}", flush=True)
    except InstallError as err:
        if not is_told:
            print(f"could not look at the node's labels, and will try again: {err}", flush=True)
        return False
    return True


def _lasting_version(arguments: argparse.Namespace, again_s: float) -> str:
    """`_ready_version` at the first of several looks at which the node is ready: its containerd may be restarting."""
    for look in range(_MISSES):
        if look:
            time.sleep(again_s)
        if current := _ready_version(arguments):
            return current
    return ""


def _uninstall(arguments: argparse.Namespace, api: Kubectl) -> int:
    """Uninstall, and remove the labels once nothing is left. Until then deploy/'s RuntimeClasses select no node."""
    status = _act(arguments)
    if status == 0:
        api.label(labels.NONE)
    return status


def _pause() -> None:
    time.sleep(_PAUSE_S)


def _install(arguments: argparse.Namespace, api: Kubectl, pause: Callable[[], None] = _pause) -> int:
    """Install, and return 0 once each mode was judged good; `pause` is called before a mode is tried again."""
    status = _act(arguments)
    if status == RESTART_OWED:
        _until(lambda: "" if _ready_version(arguments) else "a restart of containerd", "waiting for ")
        status = 0
    if status:
        # The node may have labels from before it was reinstalled or containerd was upgraded.
        if current := _ready_version(arguments):
            _label_another(arguments, api, current, pause)
        elif not _serves(arguments.root or "/"):
            api.label(labels.NONE)
        return status
    asked = dict(arguments.probe)
    asked_no_more = dict.fromkeys(labels.of_mode(mode) for mode in probe.INITS if mode not in asked)
    api.label({**labels.of_version(shim.__version__), **asked_no_more})
    if failures := _probe_and_label(arguments, api, asked, pause):
        raise InstallError("\n".join(failures))
    return 0


def _label_another(arguments: argparse.Namespace, api: Kubectl, current: str, pause: Callable[[], None]) -> None:
    """Label a node on which not our version but another, `current`, is ready. Errors are printed.

    Only modes whose label the node lacks are probed.
    """
    try:
        api.label(labels.of_version(current))
        found = api.labels()
        lacking = {mode: image for mode, image in arguments.probe if labels.of_mode(mode) not in found}
        _probe_and_label(arguments, api, lacking, pause)
    except InstallError as err:
        print(f"version {current}, which the node keeps: {err}", flush=True)


def _probe_and_label(
    arguments: argparse.Namespace, api: Kubectl, modes: Mapping[str, str], pause: Callable[[], None]
) -> list[str]:
    """Probe `modes`, each with its image or "", and label the node accordingly; return the failures. As `_judge`."""
    own = _own_pod(api) if modes else {}
    images = {mode: image or _image(own) for mode, image in modes.items()}
    run = partial(probe.run, api, secrets=own.get("spec", {}).get("imagePullSecrets", []), owner=own)
    return _judge(api, images, run, pause, lambda: bool(_lasting_version(arguments, _AGAIN_S)))


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
                api.label({labels.of_mode(mode): None})
            except InstallError as err:
                print(f"mode {mode} could not be judged, its label stays as it is: {err}", flush=True)
                continue
            else:
                print(f"mode {mode} runs", flush=True)
                api.label({labels.of_mode(mode): "true"})
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
            if statx.identity(f"/proc/{pid}/root") == here and command_line.read(pid).startswith(begins):
                return True
    return False


def _ready_version(arguments: argparse.Namespace) -> str:
    """The current version of a node that is ready, else ""."""
    status, said = host.read(arguments.root or "/", install.root(), [*_status_words(arguments), "--json"])
    return str(json.loads(said)["current"]) if status == 0 else ""


def _status_words(arguments: argparse.Namespace) -> list[str]:
    return ["node", "status", *([] if arguments.prefix is None else ["--prefix", arguments.prefix])]


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

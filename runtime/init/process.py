"""The processes of PID 1 and of the application beside it. Neither gets more privilege than was asked for."""

import hashlib
from dataclasses import replace
from fnmatch import fnmatchcase
from typing import Any

from runtime.errors import InvalidArgument
from runtime.init import kinds, launcher_settings
from runtime.init.base import ModeInput, Obstacle, listed, variables
from runtime.init.boot import AppProcess
from runtime.spec import edit
from runtime.spec.cri import CONTAINER_NAME, SANDBOX_UID
from runtime.spec.edit import Edit, Spec, Step

_SYSTEMD_NEEDS = ("CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP")
"""Measured, each missing alone: without either of the first two dbus-daemon loops for ever, without the third journald
fails."""


def uuid_of(spec: Spec, run_dir: str) -> str:
    """`container_uuid`, from which an image without a machine-id gets one: the same after every restart.

    It is derived from the pod's UID and the container's name, or outside a pod from the run directory's name. It has
    version 8, which is for such uses (RFC 9562).
    """
    about = edit.annotations(spec)
    uid = about.get(SANDBOX_UID)
    seed = f"{uid}/{about.get(CONTAINER_NAME, '')}" if uid else run_dir
    digest = bytearray(
        hashlib.sha256(b"pouchrich container_uuid\0" + seed.encode("utf-8", "surrogatepass")).digest()[:16]
    )
    digest[6] = digest[6] & 0x0F | 0x80
    digest[8] = digest[8] & 0x3F | 0x80
    text = digest.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))


def no_privilege(kind: str, spec: Spec, capabilities: tuple[str, ...] | None) -> Obstacle | None:
    """Why PID 1 of this kind cannot boot with the pod's bounding set (or the node's `capabilities`)."""
    names = _bounding(spec) if capabilities is None else capabilities
    missing = [name for name in _SYSTEMD_NEEDS if name not in names] if kind == "systemd" else []
    return Obstacle(f"{kind} cannot boot without {listed(missing)}", "init") if missing else None


def _bounding(spec: Spec) -> tuple[str, ...]:
    sets = edit.table(edit.table(spec, "process"), "capabilities", within="process.")
    return edit.strings(sets, "bounding", within="process.capabilities.")


def has_capability(setting: ModeInput, name: str) -> bool:
    """Whether the capability `name` is in PID 1's bounding set."""
    return name in (_bounding(setting.spec) if setting.capabilities is None else setting.capabilities)


def application(setting: ModeInput) -> AppProcess:
    """What the launcher becomes: the pod's process, with PouchContainer's variables.

    Resource limits that the spec does not name are those that an OCI runtime would have inherited from the shim and
    passed on: init changes its own limits, and systemd those of its units. Raises InvalidArgument naming the key of
    config.json.
    """
    spec = edit.with_env(setting.spec, variables(setting.mode))
    made = launcher_settings.from_spec(spec, args=setting.args, home=setting.init.home or "/")
    named = {number for number, *_ in made.rlimits}
    inherited = tuple(one for one in setting.host.rlimits if one[0] not in named)
    return replace(made, rlimits=(*made.rlimits, *inherited), terminal=setting.terminal)


def _needed(setting: ModeInput, made: AppProcess | None) -> dict[str, str]:
    """The capabilities that PID 1 must have, each with what it is for."""
    needed = dict.fromkeys(_SYSTEMD_NEEDS, "systemd's own services") if setting.init.kind == "systemd" else {}
    if made is None:
        return needed
    if made.uid:
        needed.setdefault("CAP_SETUID", "the application's user")
    if made.gid or made.groups:
        needed.setdefault("CAP_SETGID", "the application's groups")
    own = set(_bounding(setting.spec))
    for name in sorted(own):
        needed.setdefault(name, "the application's own bounding set")
    if setting.capabilities is not None and set(setting.capabilities) - own:
        needed.setdefault("CAP_SETPCAP", "the application's smaller bounding set")
    return needed


def _check(setting: ModeInput, made: AppProcess | None) -> None:
    needed = _needed(setting, made)
    missing = [name for name in needed if not has_capability(setting, name)]
    if not missing:
        return
    where = "process.capabilities.bounding" if setting.capabilities is None else "rich.init-capabilities"
    reasons = ", ".join(f"{name} (for {needed[name]})" for name in missing)
    raise InvalidArgument(
        f"config.json: {where}: found no {reasons}, allowed a set that has it in mode {setting.mode}:"
        f" {setting.init.kind} as PID 1 cannot boot without; add it to the container's capabilities, or to"
        " rich.init-capabilities on the node"
    )


def wider(setting: ModeInput) -> tuple[str, ...]:
    """A warning where root in the pod can, through init, use capabilities that the pod does not have."""
    more = sorted(set(setting.capabilities or ()) - set(_bounding(setting.spec)))
    user = edit.table(edit.table(setting.spec, "process"), "user", within="process.")
    if not more or user.get("uid", 0) != 0:
        return ()
    return (f"rich.init-capabilities: root in the container also has {listed(more)}, in what it has the init start",)


def has_streams(setting: ModeInput) -> bool:
    """Whether PID 1 has the container's own streams or terminal: it is the image's own command and uses them."""
    return setting.is_own_command and (setting.terminal or kinds.kind_of(setting.init.kind).writes_to_its_streams)


def _environment(setting: ModeInput) -> list[str]:
    own = {"container": "pouch", "container_uuid": uuid_of(setting.spec, setting.run_dir)}
    if setting.is_own_command:
        # The init is the image's own command, so the pod's environment is meant for it.
        made = edit.with_env(setting.spec, {**variables(setting.mode), **own})
        return list(edit.strings(edit.table(made, "process"), "env"))
    # HOME: without it the OCI runtime reads the image's passwd, which may be a FIFO that nobody writes to.
    # TERM=dumb: the console is kept for its last lines and should have no colours and no cursor movements.
    made = {**own, "HOME": "/root", "TERM": "dumb", **_devices(setting.spec)}
    return [f"{name}={value}" for name, value in made.items()]


def _devices(spec: Spec) -> dict[str, str]:
    """The variables that say which devices the container gets.

    Device plugins set them, and OCI runtimes and hooks read them from process.env of config.json: NVIDIA's container
    toolkit, for example.
    """
    names = ("NVIDIA_*", "*_VISIBLE_DEVICES")
    return {key: value for key, value in edit.env(spec).items() if any(fnmatchcase(key, name) for name in names)}


def step(setting: ModeInput, made: AppProcess | None, arguments: tuple[str, ...]) -> Step:
    """PID 1: root with the pod's bounding set (or the node's for inits) and the pod's no_new_privs.

    The pod's resource limits, OOM score, labels and seccomp filter are kept, and so is its working directory, which
    the OCI runtime creates if the image lacks it. Raises InvalidArgument where a capability is missing.
    """
    _check(setting, made)
    names = list(_bounding(setting.spec) if setting.capabilities is None else setting.capabilities)
    # An init that is the image's own command keeps the pod's groups and umask, like an application (fsGroup, say).
    own = edit.table(edit.table(setting.spec, "process"), "user", within="process.")
    new: dict[str, Any] = {
        "user": {**own, "uid": 0} if setting.is_own_command else {"uid": 0, "gid": 0},
        "capabilities": {
            "bounding": names,
            "effective": names,
            "permitted": names,
            "inheritable": [],
            "ambient": [],
        },
        "env": _environment(setting),
        "terminal": setting.terminal or not has_streams(setting),
        "args": list(arguments),
    }
    where = "the container's own streams" if has_streams(setting) else "a console of its own"
    return Step(
        "process-init",
        f"PID 1 is {arguments[0]}, root on {where}, with {listed(names)}",
        Edit("with_process", new),
    )

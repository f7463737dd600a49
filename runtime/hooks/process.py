"""The OCI process of a hook in the container, and the spec of a poststop hook's own container. Pure.

Both are made from the pod's spec as containerd wrote it, before the plan's steps: the hook is the pod's process with
another command, not a part of the rich container's init.
"""

import posixpath
from collections.abc import Mapping, Sequence
from typing import Any

from runtime.config.model import Hook
from runtime.errors import InvalidArgument
from runtime.image.passwd import User
from runtime.spec import edit, ids
from runtime.spec.edit import Spec

PINNABLE = ("user", "network", "ipc", "uts")
"""Namespaces (OCI's names) that a poststop hook shares with the container that has ended."""


def hook_process(spec: Spec, hook: Hook, env: Mapping[str, str], user: User | None = None) -> dict[str, Any]:
    """The OCI process object of `hook`: the pod's own, with the hook's command and its variables added.

    It has no terminal. `env` are the POUCHRICH_ variables; `user` replaces the pod's user and keeps the pod's umask.
    """
    process = dict(edit.table(edit.with_env(spec, {**dict(hook.env), **env}), "process"))
    process.pop("consoleSize", None)
    process |= {"args": list(hook.command), "terminal": False}
    if user is not None:
        umask = {key: value for key, value in edit.table(process, "user").items() if key == "umask"}
        process["user"] = {**umask, "uid": user.uid, "gid": user.gid, "additionalGids": list(user.groups)}
    return process


def poststop_spec(
    spec: Spec, hook: Hook, env: Mapping[str, str], *, rootfs: str, pinned: str, suffix: str, user: User | None = None
) -> dict[str, Any]:
    """The spec of the container that a poststop `hook` runs in.

    It has the pod's root filesystem (host path `rootfs`), mounts, limits, the namespaces in the directory `pinned`,
    and a new PID namespace; `suffix` makes its cgroup a sibling of the container's. Annotations are left out because
    OCI runtimes obey some, OCI hooks because they have run, and network devices because they were moved. Raises
    InvalidArgument for a malformed spec.
    """
    linux = {key: value for key, value in edit.table(spec, "linux").items() if key != "netDevices"}
    linux["namespaces"] = _namespaces(linux, pinned)
    if path := linux.get("cgroupsPath"):
        linux["cgroupsPath"] = sibling(str(path), suffix)
    made = {key: value for key, value in spec.items() if key not in ("annotations", "hooks")}
    root = {**edit.table(spec, "root"), "path": rootfs}
    return {**made, "root": root, "process": hook_process(spec, hook, env, user), "linux": linux}


def types_to_pin(spec: Spec) -> tuple[str, ...]:
    """The container's namespaces to pin for its poststop hooks: those that it does not share with the host.

    This includes namespaces given by path: the path may be that of a process, such as the pod's sandbox.
    """
    types = {one["type"] for one in _entries(edit.table(spec, "linux"))}
    return tuple(type_ for type_ in PINNABLE if type_ in types)


def sibling(cgroups_path: str, suffix: str) -> str:
    """A cgroupsPath beside `cgroups_path`, in either of its two forms (a path; slice:prefix:name)."""
    if ":" in cgroups_path and not cgroups_path.startswith("/"):
        return f"{cgroups_path}{suffix}"
    return f"{cgroups_path.rstrip('/')}{suffix}"


def owner(spec: Spec, process: Mapping[str, Any]) -> int:
    """The host uid of `process`, which must be able to reopen its standard output through /dev/stdout."""
    return ids.host_uid(spec, int(edit.table(process, "user").get("uid") or 0))


def _entries(linux: Mapping[str, Any]) -> Sequence[Mapping[str, Any]]:
    found = edit.items(linux, "namespaces", within="linux.")
    for index, one in enumerate(found):
        if not isinstance(one, Mapping) or not isinstance(one.get("type"), str):
            raise InvalidArgument(f"config.json: linux.namespaces[{index}]: found no type, allowed an object with one")
    return found


def _namespaces(linux: Mapping[str, Any], pinned: str) -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = [{"type": "pid"}]
    for one in _entries(linux):
        if one["type"] in PINNABLE:
            made.append({"type": one["type"], "path": posixpath.join(pinned, one["type"])})
        elif one["type"] != "pid":
            made.append(dict(one))
    return made

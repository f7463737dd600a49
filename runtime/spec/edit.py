"""Edits of an OCI spec. Each returns a new spec and leaves its argument unchanged.

A spec is what json.loads made of config.json. Keys that are unknown here pass through unchanged. A value that does not
have the type of the specification is an InvalidArgument that names it, never a KeyError. Every edit is idempotent:
applied to its own result it changes nothing.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.config.kinds import short_json
from runtime.errors import InvalidArgument

Spec = Mapping[str, Any]


def _wrong(key: str, value: object, allowed: str) -> InvalidArgument:
    return InvalidArgument(f"config.json: {key}: found {short_json(value)}, allowed {allowed}")


def table(parent: Mapping[str, Any], key: str, *, within: str = "") -> Mapping[str, Any]:
    """The object `key` of `parent`; an absent or null one is empty. `within` is the parent's name."""
    value = parent.get(key)
    if value is None:
        return {}
    if not isinstance(value, Mapping):
        raise _wrong(f"{within}{key}", value, "an object")
    return value


def items(parent: Mapping[str, Any], key: str, *, within: str = "") -> Sequence[Any]:
    """The array `key` of `parent`; an absent or null one is empty."""
    value = parent.get(key)
    if value is None:
        return ()
    if not isinstance(value, list | tuple):
        raise _wrong(f"{within}{key}", value, "an array")
    return value


def strings(parent: Mapping[str, Any], key: str, *, within: str = "") -> tuple[str, ...]:
    """The array of strings `key` of `parent`; an absent or null one is empty."""
    value = items(parent, key, within=within)
    for index, one in enumerate(value):
        if not isinstance(one, str):
            raise _wrong(f"{within}{key}[{index}]", one, "a string")
    return tuple(value)


def args(spec: Spec) -> tuple[str, ...]:
    """`process.args`."""
    return strings(table(spec, "process"), "args", within="process.")


def env(spec: Spec) -> dict[str, str]:
    """`process.env` as the container sees it: of two entries with one name the last counts, as in runc and crun.

    Both set the entries in order. Entries without `=` are no variables and are left out.
    """
    found: dict[str, str] = {}
    for entry in strings(table(spec, "process"), "env", within="process."):
        name, equals, value = entry.partition("=")
        if equals:
            found[name] = value
    return found


def annotations(spec: Spec) -> Mapping[str, str]:
    """`annotations`; every value is a string."""
    found = table(spec, "annotations")
    for name, value in found.items():
        if not isinstance(value, str):
            raise _wrong(f"annotations[{short_json(name)}]", value, "a string")
    return found


def mounts(spec: Spec) -> tuple[Mapping[str, Any], ...]:
    """`mounts`; every destination is a string."""
    found = items(spec, "mounts")
    for index, one in enumerate(found):
        if not isinstance(one, Mapping):
            raise _wrong(f"mounts[{index}]", one, "an object")
        if not isinstance(one.get("destination"), str):
            raise _wrong(f"mounts[{index}].destination", one.get("destination"), "a string")
    return tuple(found)


def with_args(spec: Spec, new: Sequence[str]) -> Spec:
    """Replace `process.args`."""
    return {**spec, "process": {**table(spec, "process"), "args": list(new)}}


def with_env(spec: Spec, new: Mapping[str, str]) -> Spec:
    """Set variables: entries with these names are removed, and the new ones come last."""
    process = table(spec, "process")
    kept = [entry for entry in strings(process, "env", within="process.") if entry.partition("=")[0] not in new]
    added = [f"{name}={value}" for name, value in new.items()]
    return {**spec, "process": {**process, "env": kept + added}}


def with_mount(spec: Spec, new: Mapping[str, Any]) -> Spec:
    """Add a mount after all others, replacing any at the same destination."""
    without = without_mount(spec, new["destination"])
    return {**without, "mounts": [*items(without, "mounts"), dict(new)]}


def without_mount(spec: Spec, destination: str) -> Spec:
    """Remove every mount at `destination`."""
    return {**spec, "mounts": [one for one in mounts(spec) if one["destination"] != destination]}


def with_mount_before(spec: Spec, new: Mapping[str, Any]) -> Spec:
    """Add `mount`, replacing any at its destination, ahead of the first mount at one of `before`, else last.

    The order matters: OCI runtimes mount in order, and a later mount lies on top.
    """
    mount, before = new["mount"], new["before"]
    kept = [one for one in mounts(spec) if one["destination"] != mount["destination"]]
    at = next((index for index, one in enumerate(kept) if one["destination"] in before), len(kept))
    return {**spec, "mounts": [*kept[:at], dict(mount), *kept[at:]]}


def with_mount_replaced(spec: Spec, new: Mapping[str, Any]) -> Spec:
    """Replace the mount at the same destination and keep its position; without one, add the mount after all others."""
    kept = mounts(spec)
    at = next((index for index, one in enumerate(kept) if one["destination"] == new["destination"]), len(kept))
    rest = [one for one in kept[at + 1 :] if one["destination"] != new["destination"]]
    return {**spec, "mounts": [*kept[:at], dict(new), *rest]}


def with_process(spec: Spec, new: Mapping[str, Any]) -> Spec:
    """Set keys of `process`; others are kept."""
    return {**spec, "process": {**table(spec, "process"), **new}}


def with_namespace(spec: Spec, kind: str) -> Spec:
    """Give the container a Linux namespace of its own of type `kind`, unless the spec already has one of that type."""
    linux = table(spec, "linux")
    kept = items(linux, "namespaces", within="linux.")
    if any(isinstance(one, Mapping) and one.get("type") == kind for one in kept):
        return spec
    return {**spec, "linux": {**linux, "namespaces": [*kept, {"type": kind}]}}


def with_cgroups_path(spec: Spec, path: str) -> Spec:
    """Replace `linux.cgroupsPath`."""
    return {**spec, "linux": {**table(spec, "linux"), "cgroupsPath": path}}


OPERATIONS: Mapping[str, Callable[[Spec, Any], Spec]] = {
    "with_args": with_args,
    "with_cgroups_path": with_cgroups_path,
    "with_env": with_env,
    "with_mount": with_mount,
    "with_mount_before": with_mount_before,
    "with_mount_replaced": with_mount_replaced,
    "with_namespace": with_namespace,
    "with_process": with_process,
    "without_mount": without_mount,
}
"""The edits that a plan may hold, by the names under which they are stored."""


@dataclass(frozen=True, slots=True)
class Edit:
    """An edit as a value, so that a plan can be printed, stored as JSON and read again.

    `operand` is JSON data and belongs to the edit: nobody changes it afterwards.
    """

    operation: str
    operand: Any

    def __call__(self, spec: Spec) -> Spec:
        """The spec after this edit."""
        return OPERATIONS[self.operation](spec, self.operand)


@dataclass(frozen=True, slots=True)
class Step:
    """One line of a plan: a stable `name`, a `detail` for people, and the edit."""

    name: str
    detail: str
    edit: Edit


def apply(spec: Spec, steps: Sequence[Step]) -> Spec:
    """`spec` after all `steps`, made in order."""
    for step in steps:
        spec = step.edit(spec)
    return spec

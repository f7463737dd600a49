"""The host's user and group IDs of a container with a user namespace. Pure."""

from collections.abc import Mapping

from runtime.config.kinds import short_json
from runtime.errors import InvalidArgument
from runtime.spec import edit
from runtime.spec.edit import Spec


def in_user_namespace(spec: Spec) -> bool:
    """Whether the container has a user namespace, of its own or its pod's. Raises InvalidArgument."""
    found = edit.items(edit.table(spec, "linux"), "namespaces", within="linux.")
    return any(isinstance(one, Mapping) and one.get("type") == "user" for one in found)


def host_uid(spec: Spec, uid: int) -> int:
    """The host's ID of the container's user `uid`; `uid` itself where no mapping has it. Raises InvalidArgument."""
    return _mapped(spec, "uidMappings", uid)


def host_gid(spec: Spec, gid: int) -> int:
    """The host's ID of the container's group `gid`; `gid` itself where no mapping has it. Raises InvalidArgument."""
    return _mapped(spec, "gidMappings", gid)


def _mapped(spec: Spec, key: str, number: int) -> int:
    for index, one in enumerate(edit.items(edit.table(spec, "linux"), key, within="linux.")):
        within = f"config.json: linux.{key}[{index}]"
        if not isinstance(one, Mapping):
            raise InvalidArgument(f"{within}: found {short_json(one)}, allowed an object")
        start, host, size = (one.get(name, 0) for name in ("containerID", "hostID", "size"))
        if not all(isinstance(value, int) for value in (start, host, size)):
            raise InvalidArgument(f"{within}: found {short_json(dict(one))}, allowed whole numbers")
        if start <= number < start + size:
            mapped: int = host + number - start
            return mapped
    return number

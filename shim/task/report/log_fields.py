"""The log fields that name a line's container and pod, by container id.

Every log line about a container begins with `container %s`; that is how its fields are found.
"""

from collections.abc import Mapping

from runtime.spec.cri import CONTAINER_NAME, SANDBOX_NAME, SANDBOX_NAMESPACE

_fields: dict[str, dict[str, str]] = {}


def register_container(container_id: str, annotations: Mapping[str, str]) -> None:
    """Register a container that is about to be created."""
    names = {"pod": SANDBOX_NAME, "namespace": SANDBOX_NAMESPACE, "name": CONTAINER_NAME}
    _fields[container_id] = {key: annotations[name] for key, name in names.items() if annotations.get(name)}


def unregister_container(container_id: str) -> None:
    """Forget a container that is gone."""
    _fields.pop(container_id, None)


def fields_for(message: object, args: object) -> dict[str, str]:
    """The fields of a log record with this format and these arguments."""
    if not isinstance(args, tuple) or not args or not isinstance(message, str):
        return {}
    container_id = ""
    if message.startswith("container %s"):
        container_id = str(args[0])
    elif message.startswith("%s: ") and str(args[0]).startswith("container "):  # a line of a hook or an agent
        container_id = str(args[0]).removeprefix("container ").partition(":")[0]
    return {"container": container_id, **_fields.get(container_id, {})} if container_id else {}

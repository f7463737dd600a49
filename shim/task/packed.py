"""OCI types in a request: JSON text in a `google.protobuf.Any` (containerd, pkg/typeurl)."""

from typing import Any as JSON

from google.protobuf.any_pb2 import Any

from runtime.errors import InvalidArgument
from runtime.spec import nesting


def json_object(field: str, packed: Any) -> dict[str, JSON]:
    """The JSON object in `packed`; `field` names it in errors. Raises InvalidArgument."""
    try:
        value = nesting.loads(packed.value)
    except ValueError as err:
        raise InvalidArgument(f"{field}: not valid JSON: {err}") from err
    if not isinstance(value, dict):
        raise InvalidArgument(f"{field}: found {type(value).__name__}, allowed an object")
    return value

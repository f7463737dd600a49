"""The directory that containerd makes for a container, and what the shim keeps in it.

`pouchrich.json` is the shim's own record: everything needed to tear the container down when no pod server is left, and
the plan that the container was made by. It is written before the OCI runtime first hears of the container and removed
once the OCI runtime has deleted it, so for a bundle without a record the OCI runtime need not be called.
"""

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import fields
from typing import Any, NamedTuple, TypeVar

from runtime.errors import InvalidArgument
from runtime.spec import nesting

T = TypeVar("T")

RECORD = "pouchrich.json"

_OBJECTS = (("process",), ("process", "user"), ("linux",), ("annotations",), ("root",))
"""The keys that every reader of a spec takes for objects (runtime-spec, config.md). Each may be missing or null."""


class Bundle(NamedTuple):
    """The paths of one bundle; `path` is absolute.

    `given` is containerd's bundle, where a pod server has made another one for itself (`runtime.members`).
    """

    path: str
    given: str = ""

    @property
    def spec_file(self) -> str:
        """The OCI runtime configuration."""
        return f"{self.path}/config.json"

    @property
    def rootfs(self) -> str:
        """The directory that containerd provides as the mount point of the root filesystem."""
        return f"{self.path}/rootfs"

    @property
    def init_pid_file(self) -> str:
        """The file in which the OCI runtime leaves the PID of the container's init."""
        return f"{self.path}/init.pid"

    def exec_pid_file(self, exec_id: str) -> str:
        """The file in which the OCI runtime leaves the PID of an exec."""
        return f"{self.path}/{exec_id}.pid"

    def load_spec(self) -> dict[str, Any]:
        """Read config.json. Raises InvalidArgument naming the file and what is wrong with it."""
        try:
            with open(self.spec_file, "rb") as file:
                data = file.read()
            spec = nesting.loads(data)
        except OSError as err:
            raise InvalidArgument(f"{self.spec_file}: {err.strerror}") from err
        except UnicodeDecodeError as err:
            raise InvalidArgument(f"{self.spec_file}: {_undecodable(data, err.start)}, allowed UTF-8") from err
        except ValueError as err:
            raise InvalidArgument(f"{self.spec_file}: not valid JSON: {err}") from err
        if not isinstance(spec, dict):
            raise InvalidArgument(f"{self.spec_file}: found {type(spec).__name__}, allowed an object")
        if problem := _misshapen(spec):
            raise InvalidArgument(f"{self.spec_file}: {problem}")
        return spec

    def write_spec(self, spec: dict[str, Any]) -> None:
        """Replace config.json atomically. Raises OSError."""
        self._write("config.json", spec)

    def write_record(self, record: dict[str, Any]) -> None:
        """Store `record`, a JSON object, for the container's teardown. Raises OSError."""
        self._write(RECORD, record)

    def load_record(self) -> dict[str, Any] | None:
        """The record from `write_record`, or None where the OCI runtime has nothing (left) to delete.

        Raises InvalidArgument for a file that is not JSON.
        """
        try:
            with open(f"{self.path}/{RECORD}", "rb") as file:
                record = json.loads(file.read())
        except FileNotFoundError:
            return None
        except ValueError as err:
            raise InvalidArgument(f"{self.path}/{RECORD}: not valid JSON: {err}") from err
        return record if isinstance(record, dict) else None

    def remove_record(self) -> None:
        """Remove the record: the OCI runtime has deleted the container."""
        unlink_if_exists(f"{self.path}/{RECORD}")

    def _write(self, name: str, value: dict[str, Any]) -> None:
        temporary = f"{self.path}/.{name}"
        write_json(temporary, value)
        os.rename(temporary, f"{self.path}/{name}")


def _misshapen(spec: dict[str, Any]) -> str:
    """What does not have the type that runtime-spec gives it, and would be a bug of ours where it is read; or ""."""
    for keys in _OBJECTS:
        found: Any = spec
        for key in keys:  # the outer keys have been checked before
            value = found.get(key)
            found = {} if value is None else value
        if not isinstance(found, dict):
            return f"{'.'.join(keys)}: found {type(found).__name__}, allowed an object"
    for name, value in (spec.get("annotations") or {}).items():
        if not isinstance(value, str):
            return f"annotations.{_printable(name)}: found {type(value).__name__}, allowed a string"
    namespaces = (spec.get("linux") or {}).get("namespaces") or []
    if not isinstance(namespaces, list):
        return f"linux.namespaces: found {type(namespaces).__name__}, allowed an array"
    for index, one in enumerate(namespaces):
        if not isinstance(one, dict):
            return f"linux.namespaces[{index}]: found {type(one).__name__}, allowed an object"
    return ""


def _printable(key: str) -> str:
    """A key as text for a message, which is sent as UTF-8: JSON's `\\ud800` is not UTF-8 (RFC 8259, section 8.2)."""
    return ascii(key[:100])[1:-1]


def _undecodable(data: bytes, at: int) -> str:
    """Where the JSON `data` has a byte that is not UTF-8: its key, else only the offset `at`."""
    with suppress(ValueError, RecursionError):
        if found := _escaped(json.loads(data.decode("utf-8", "surrogateescape")), ""):
            return found
    return f"found byte 0x{data[at]:02x} at {at}"


def _escaped(value: Any, key: str) -> str:
    """A text about the first string below `value` that has an escaped byte (PEP 383), or ""."""
    if isinstance(value, str):
        byte = next((ord(one) - 0xDC00 for one in value if "\udc80" <= one <= "\udcff"), None)
        return "" if byte is None else f"{key}: found byte 0x{byte:02x}"
    if isinstance(value, list):
        return next(filter(None, (_escaped(one, f"{key}[{index}]") for index, one in enumerate(value))), "")
    for name, one in value.items() if isinstance(value, dict) else ():
        if found := _escaped(name, key):
            return f"{found} in the key {name[:256]!a}"
        if found := _escaped(one, f"{key}.{name[:256]}" if key else name[:256]):
            return found
    return ""


def to_json(value: Any) -> str:
    """`value` as JSON. A dataclass in it becomes an object of its fields (`dataclasses.asdict` would copy all)."""
    return json.dumps(value, default=fields_of)


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, by name. Raises TypeError for anything else."""
    return {one.name: getattr(value, one.name) for one in fields(value)}


def from_fields(kind: type[T], found: Mapping[str, Any]) -> T:
    """The dataclass `kind` with the fields in `found`, as a record has them. Others are left out.

    After a rollback the record may be of a later version. Raises TypeError where a field without default is missing.
    """
    return kind(**{one.name: found[one.name] for one in fields(kind) if one.name in found})  # type: ignore[arg-type]


def write_json(path: str, value: dict[str, Any]) -> None:
    """Write `value`, as by `to_json`, to a file that only root can read, replacing its content. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        data = to_json(value).encode()
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def read_pid(path: str) -> int:
    """The decimal PID in a PID file. Raises OSError, or ValueError where the file holds something else."""
    with open(path) as file:
        return int(file.read(32))


def unlink_if_exists(path: str) -> None:
    """Unlink a file that may already be gone."""
    with suppress(FileNotFoundError):
        os.unlink(path)

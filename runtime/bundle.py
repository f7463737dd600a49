"""The directory that containerd makes for a container, and what we keep in it.

`pouchrich.json` is our own record: all that is needed to tear the container down when no pod server is left, and the
plan the container was made by. It is written before the OCI runtime first hears of the container and removed once the
runtime has forgotten it, so a bundle without one needs no runtime.
"""

import json
import os
from contextlib import suppress
from dataclasses import dataclass, fields
from typing import Any

from runtime.errors import InvalidArgument
from runtime.spec import nesting

RECORD = "pouchrich.json"

_OBJECTS = (("process",), ("process", "user"), ("linux",), ("annotations",), ("root",))
"""What every reader of a spec takes for objects (runtime-spec, config.md); each may be left out, or null."""


@dataclass(frozen=True, slots=True)
class Bundle:
    """The paths of one bundle; `path` is absolute."""

    path: str

    @property
    def spec_file(self) -> str:
        """The OCI runtime configuration."""
        return f"{self.path}/config.json"

    @property
    def rootfs(self) -> str:
        """The directory containerd provides for the root file system to be mounted on."""
        return f"{self.path}/rootfs"

    @property
    def init_pid_file(self) -> str:
        """Where the OCI runtime leaves the pid of the container's init."""
        return f"{self.path}/init.pid"

    def exec_pid_file(self, exec_id: str) -> str:
        """Where the OCI runtime leaves the pid of an exec."""
        return f"{self.path}/{exec_id}.pid"

    def load_spec(self) -> dict[str, Any]:
        """Read config.json. Raises InvalidArgument naming the file, and what is wrong with it."""
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
        """Replace config.json at once and whole. Raises OSError."""
        self._write("config.json", spec)

    def write_record(self, record: dict[str, Any]) -> None:
        """Keep `record`, a JSON object, for whoever tears the container down. Raises OSError."""
        self._write(RECORD, record)

    def load_record(self) -> dict[str, Any] | None:
        """What `write_record` kept, or None where there is nothing (left) for the OCI runtime to forget."""
        try:
            with open(f"{self.path}/{RECORD}", "rb") as file:
                record = json.loads(file.read())
        except FileNotFoundError:
            return None
        except ValueError as err:
            raise InvalidArgument(f"{self.path}/{RECORD}: not valid JSON: {err}") from err
        return record if isinstance(record, dict) else None

    def remove_record(self) -> None:
        """Say that the OCI runtime has forgotten the container."""
        remove(f"{self.path}/{RECORD}")

    def _write(self, name: str, value: dict[str, Any]) -> None:
        temporary = f"{self.path}/.{name}"
        write_json(temporary, value)
        os.rename(temporary, f"{self.path}/{name}")


def _misshapen(spec: dict[str, Any]) -> str:
    """What is not of the type that runtime-spec gives it, and would be met as a bug wherever it is read; or ""."""
    for keys in _OBJECTS:
        found: Any = spec
        for key in keys:  # the outer ones have been looked at before
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
    """A key for a message, which goes over the wire as UTF-8: JSON's `\\ud800` is none (RFC 8259, section 8.2)."""
    return ascii(key[:100])[1:-1]


def _undecodable(data: bytes, at: int) -> str:
    """Where in the JSON `data` there is a byte that is not UTF-8: the key, or only the place of the one at `at`."""
    with suppress(ValueError, RecursionError):
        if found := _escaped(json.loads(data.decode("utf-8", "surrogateescape")), ""):
            return found
    return f"found byte 0x{data[at]:02x} at {at}"


def _escaped(value: Any, key: str) -> str:
    """What is said of the first string below `value` with a byte that was escaped (PEP 383), or ""."""
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
    """`value` as JSON; a dataclass in it is an object of its fields (`dataclasses.asdict` would copy all below it)."""
    return json.dumps(value, default=fields_of)


def fields_of(value: Any) -> dict[str, Any]:
    """The fields of a dataclass, by name. Raises TypeError for anything else."""
    return {one.name: getattr(value, one.name) for one in fields(value)}


def write_json(path: str, value: dict[str, Any]) -> None:
    """Write `value`, as `to_json`, to a file that only root can read; what was there is replaced. Raises OSError."""
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        data = to_json(value).encode()
        while data:
            data = data[os.write(fd, data) :]
    finally:
        os.close(fd)


def read_pid(path: str) -> int:
    """The decimal pid in a pid file. Raises OSError, or ValueError where it holds something else."""
    with open(path) as file:
        return int(file.read(32))


def remove(path: str) -> None:
    """Unlink a file that may be gone already."""
    with suppress(FileNotFoundError):
        os.unlink(path)

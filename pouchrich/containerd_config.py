"""Our handlers in containerd's configuration: read with its imports, and merged as containerd does.

A file's imports come after it, and win. containerd 1.x replaces a plugin's whole section by a later file's; 2.x merges
tables key by key (containerd's mergeConfig; its issue 5837). `containerd_dump` compares the rest of the configuration.
"""

import glob
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

from pouchrich.handler import RUNTIME_TYPE
from pouchrich.program import Program
from runtime.config.annotations import PREFIX
from runtime.errors import InvalidArgument, NotFound
from runtime.spec.cri import GRACE_PERIOD

DEFAULT = "/etc/containerd/config.toml"
CRI_PLUGINS = ("io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime")
"""The CRI plugin's section in configuration versions 2, and 3 and later."""

ON_PATH = Program("containerd")
_SHIM = "containerd-shim-pouchrich-v2"
_VERSION = re.compile(r"containerd .*?\bv?(\d+)\.(\d+)\.\d")
_TIMEOUT_S = 5.0


class Handler(NamedTuple):
    """One handler of ours. `source` is its file and table; `options` is its options table, None without one.

    `sandboxer` and `io_type` are "" for containerd's defaults.
    """

    name: str
    source: str
    runtime_type: str
    runtime_path: str = ""
    pod_annotations: tuple[str, ...] = ()
    container_annotations: tuple[str, ...] = ()
    options: Mapping[str, Any] | None = None
    sandboxer: str = ""
    io_type: str = ""

    @property
    def config_path(self) -> str:
        """The value of `ConfigPath`; containerd ignores the case of keys."""
        found = {name.lower(): value for name, value in (self.options or {}).items()}
        return str(found.get("configpath", ""))

    @property
    def takes_our_options(self) -> bool:
        """Whether the handler takes our options; a drop-in for runc takes runc's."""
        return self.runtime_type == RUNTIME_TYPE


@dataclass(slots=True)
class _Merged:
    plugins: dict[str, Any] = field(default_factory=dict)
    source: dict[str, str] = field(default_factory=dict)


def containerd_version() -> tuple[int, int] | None:
    """Major and minor version of the containerd on PATH, None if it is not there or does not tell."""
    return version_of(ON_PATH)


def version_of(containerd: Program) -> tuple[int, int] | None:
    """Major and minor version that the program prints, None if it prints none, or is not containerd."""
    try:
        said = containerd.output("--version", timeout_s=_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return None
    found = _VERSION.match(said)
    return None if found is None else (int(found[1]), int(found[2]))


def _load(path: str) -> dict[str, Any]:
    try:
        with open(path, "rb") as file:
            return tomllib.load(file)
    except FileNotFoundError as err:
        raise NotFound(f"{path}: no such file or directory") from err
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as err:
        raise InvalidArgument(f"{path}: found {err}, allowed TOML") from err


def documents(path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The file and its imports, in the order in which they are merged. Raises NotFound, InvalidArgument, OSError."""
    pending, loaded = [path], set()
    while pending:
        at = pending.pop(0)
        if at in loaded:
            continue
        loaded.add(at)
        document = _load(at)
        yield at, document
        imports = document.get("imports", [])
        if not isinstance(imports, list) or not all(isinstance(one, str) for one in imports):
            raise InvalidArgument(f"{at}: imports: found {type(imports).__name__}, allowed a list of strings")
        for one in imports:
            named = os.path.join(os.path.dirname(at), one)
            pending += sorted(glob.glob(named)) if "*" in one else [os.path.normpath(named)]


def _deep(to: dict[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    for name, value in new.items():
        old = to.get(name)
        to[name] = _deep(dict(old), value) if isinstance(old, dict) and isinstance(value, Mapping) else value
    return to


def _merged(path: str, *, replaces: bool) -> _Merged:
    merged = _Merged()
    for source, document in documents(path):
        for plugin in CRI_PLUGINS:
            section = (document.get("plugins") or {}).get(plugin)
            if not isinstance(section, Mapping):
                continue
            old = {} if replaces else merged.plugins.get(plugin, {})
            merged.plugins[plugin] = _deep(dict(old), section)
            merged.source[plugin] = source
    return merged


def _texts(table: Mapping[str, Any], key: str) -> tuple[str, ...]:
    found = table.get(key)
    return tuple(one for one in found if isinstance(one, str)) if isinstance(found, list) else ()


def is_ours(handler: object) -> bool:
    """Whether a handler's table has our runtime type, or any type with our shim as `runtime_path`."""
    if not isinstance(handler, Mapping):
        return False
    return (
        handler.get("runtime_type") == RUNTIME_TYPE or os.path.basename(str(handler.get("runtime_path", ""))) == _SHIM
    )


def format_version(path: str) -> int | None:
    """The format version of the configuration file `path` itself, None if it does not exist.

    Raises InvalidArgument, OSError.
    """
    try:
        found = _load(path).get("version", 1)
    except NotFound:
        return None
    return found if isinstance(found, int) else 1


def handlers(path: str, *, major: int) -> tuple[Handler, ...]:
    """Our handlers (see `is_ours`) in the configuration at `path`, read as containerd `major`.x reads it.

    Raises NotFound, InvalidArgument, OSError.
    """
    merged = _merged(path, replaces=major < 2)
    found = []
    for plugin, section in merged.plugins.items():
        runtimes = (section.get("containerd") or {}).get("runtimes") or {}
        for name, table in runtimes.items() if isinstance(runtimes, Mapping) else ():
            if not isinstance(table, Mapping):
                continue
            kind, shim = str(table.get("runtime_type", "")), str(table.get("runtime_path", ""))
            if not is_ours(table):
                continue
            options = table.get("options")
            found.append(
                Handler(
                    name,
                    f'{merged.source[plugin]}: plugins."{plugin}".containerd.runtimes.{name}',
                    kind,
                    shim,
                    _texts(table, "pod_annotations"),
                    _texts(table, "container_annotations"),
                    options if isinstance(options, Mapping) else None,
                    str(table.get("sandboxer", "")),
                    str(table.get("io_type", "")),
                )
            )
    return tuple(found)


def cri_disabled_in(path: str) -> str:
    """The file, `path` or one that it imports, that disables the CRI plugin (`disabled_plugins`), "" if none does.

    Docker's packages of containerd come with such a file. Raises NotFound, InvalidArgument, OSError.
    """
    for source, document in documents(path):
        disabled = document.get("disabled_plugins")
        if isinstance(disabled, list) and any(name in disabled for name in ("cri", *CRI_PLUGINS)):
            return source
    return ""


def matches(patterns: tuple[str, ...], annotation: str) -> bool:
    """Whether one of a handler's patterns passes the annotation: Go's path.Match, whose `*` stops at a slash."""
    parts = annotation.split("/")
    return any(
        len(parts) == len(pattern.split("/")) and all(map(fnmatchcase, parts, pattern.split("/")))
        for pattern in patterns
    )


def passes_pod_annotations(handler: Handler) -> bool:
    """Whether the shim gets pods' `pouchrich.io` annotations."""
    return matches(handler.pod_annotations, f"{PREFIX}mode.container")


def passes_grace_period(handler: Handler) -> bool:
    """Whether the shim gets a pod's grace period."""
    return matches(handler.container_annotations, GRACE_PERIOD)

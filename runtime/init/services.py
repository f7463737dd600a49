"""System services of the image that must be up: `services.enable` of the node and a pod's `services` annotation.

    init                where a service is looked for                     how it is started
    systemd             unit directories, /etc/init.d (sysv-generator)    a drop-in that wants it before the application
    sysvinit, openrc    /etc/init.d                                       `/etc/init.d/NAME start`, after the rc lines
    busybox, dumb-init  nowhere: these inits manage no services           skipped with the reason

How a plan uses it:

    found = services.look(root, init, names)                  with a runtime.image.image.Rootfs; InvalidArgument never
    names, warnings = services.check(requests, init=init, found=found, masked=config.rich.mask)
    systemd: RunFile("services.conf", services.dropin(names, mandatory)), bound at services.DROPIN
    sysvinit, openrc: an inittab `wait` line for each of services.commands(names), between rc's and the application's

A name is all that comes from a pod, and it becomes text of a unit or an inittab only after it was found to be that of a
file in the image, and only if it is of NAME_PATTERN's letters: none of them means anything to systemd or to a shell.
"""

import posixpath
import re
import stat
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from runtime.config.kinds import NAME_PATTERN, suggestion
from runtime.errors import InvalidArgument
from runtime.init.detect import InitFacts

DROPIN = "/run/systemd/system/pouchrich-app.service.d/50-services.conf"
"""Ordering belongs to the application's unit: what it wants is started with it, and first."""

GATE = "pouchrich-services.service"
"""A unit between the application's and the services that are mandatory."""

_OR_POWEROFF = "OnFailure=poweroff.target\nOnFailureJobMode=replace-irreversibly\n"

_UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""systemd.unit(5), without the directories in /run: those are the container's own, and empty before it starts
unless the image has a VOLUME at /run."""

_SCRIPTS = "/etc/init.d"
_SYSV_GENERATORS = tuple(f"/{lib}/systemd/system-generators/systemd-sysv-generator" for lib in ("usr/lib", "lib"))
_SUFFIXES = (".service", ".socket", ".timer", ".path")
_OTHER_SUFFIXES = (".target", ".mount", ".automount", ".swap", ".slice", ".scope", ".device", ".snapshot")
_SAFE = re.compile(NAME_PATTERN, re.ASCII)
_MAX_NAME = 200
_MOST_NAMES, _HINTED_NAME, _MOST_HINTS = 512, 48, 3
"""What is looked at for a hint: names of an image's directories, their length, names that are missing. An image may
hold any number of any length, and comparing two takes as long as both are."""
_MANAGING = ("systemd", "sysvinit", "openrc")


@dataclass(frozen=True, slots=True)
class Request:
    """`name` as written, `source` as errors name it; `is_pod`: it is a pod's annotation, not the node's.

    `must`: there is no container without it.
    """

    name: str
    source: str
    is_pod: bool = False
    must: bool = False


class Found(Protocol):
    """Where a walk in the image ended (`runtime.image.image`)."""

    @property
    def path(self) -> str: ...
    @property
    def mode(self) -> int | None: ...


class Root(Protocol):
    """What `look` needs of a `runtime.image.image.Rootfs`."""

    def walk(self, path: str, mounts: Sequence[str] = ()) -> Found: ...

    def names(self, path: str, at_most: int) -> list[str]: ...


def unit(name: str) -> str:
    """The unit's name: `.service` where the name has no suffix of a unit (systemctl(1) does the same)."""
    return name if name.endswith((*_SUFFIXES, *_OTHER_SUFFIXES)) else f"{name}.service"


def _template(name: str) -> str | None:
    """`getty@.service` for `getty@tty1.service`; None where the name is no instance."""
    stem, dot, suffix = name.rpartition(".")
    prefix, at, instance = stem.partition("@")
    return f"{prefix}@{dot}{suffix}" if at and prefix and instance else None


def _leads_to_file(root: Root, path: str) -> bool:
    found = root.walk(path)
    return found.mode is not None and stat.S_ISREG(found.mode)


def _look_for_unit(root: Root, name: str, generates: bool) -> str:
    for candidate in filter(None, (unit(name), _template(unit(name)))):
        for directory in _UNIT_DIRECTORIES:
            path = f"{directory}/{candidate}"
            found = root.walk(path)
            if found.path == "/dev/null":
                return "masked"
            if found.mode is not None and stat.S_ISREG(found.mode):
                return path
    script = f"{_SCRIPTS}/{unit(name).removesuffix('.service')}"
    return script if generates and _leads_to_file(root, script) else ""


def look(root: Root, init: str, names: Iterable[str]) -> dict[str, str]:
    """For each name the path in the image that makes it a service of `init`, "masked", or "" where there is none.

    Touches nothing but the image, below its root. What a pod mounts over these directories is not seen.
    """
    good = [name for name in dict.fromkeys(names) if _problem(name) is None]
    if init == "systemd":
        generates = any(_leads_to_file(root, path) for path in _SYSV_GENERATORS)
        return {name: _look_for_unit(root, name, generates) for name in good}
    if init not in _MANAGING:
        return {}
    scripts = {name: f"{_SCRIPTS}/{name.removesuffix('.service')}" for name in good}
    return {name: path if _leads_to_file(root, path) else "" for name, path in scripts.items()}


def near(root: Root, missing: Sequence[str]) -> dict[str, str]:
    """For each of the names that the image has not, one that it has and that may be meant, where there is one.

    It looks into directories of the image's, but only where a start is about to fail or to go without a service.
    """
    if not missing:
        return {}
    known = {
        name.removesuffix(".service")
        for directory in (*_UNIT_DIRECTORIES, _SCRIPTS)
        for name in root.names(directory, _MOST_NAMES)
        if len(name) <= _HINTED_NAME and _problem(name) is None
    }
    few = [name for name in missing if len(name) <= _HINTED_NAME][:_MOST_HINTS]
    hints = {name: suggestion(name.removesuffix(".service"), sorted(known)[:_MOST_NAMES]) for name in few}
    return {name: hint for name, hint in hints.items() if hint}


def found_for(facts: InitFacts, init: str) -> dict[str, str]:
    """What `look` has found in an image for `init`, of what was looked for there."""
    return dict(facts.services if init == "systemd" else facts.scripts)


def _problem(name: str) -> str | None:
    """Why `name` cannot be a service's, whatever the image has."""
    if _SAFE.fullmatch(name) is None or len(name) > _MAX_NAME or name in (".", ".."):
        return f"a name of at most {_MAX_NAME} characters matching {NAME_PATTERN}"
    if name.endswith(_OTHER_SUFFIXES):
        return f"a unit of {', '.join(_SUFFIXES)}"
    return None


def _refusal(
    request: Request, init: str, found: Mapping[str, str], masked: Iterable[str], close: Mapping[str, str]
) -> str | None:
    """What is wrong with a request, as `found ..., allowed ...`."""
    name = request.name
    if problem := _problem(name):
        return f"found {name[:80]!r}, allowed {problem}"
    if request.must and init != "systemd":
        return f"found {name}, allowed where systemd is PID 1: {init} does not tell whether a service is up"
    if init not in _MANAGING:
        return f"found {name}, allowed none: {init} manages no services"
    if not found.get(name):
        where = "a unit of the image" if init == "systemd" else f"a script in the image's {_SCRIPTS}"
        return f"found {name}, allowed {where}{close.get(name, '')}"
    if found[name] == "masked":
        return f"found {name}, allowed a unit that the image does not mask"
    if init == "systemd" and {unit(name), _template(unit(name))} & set(masked):
        return f"found {name}, allowed a unit that rich.mask does not list"
    return None


def check(
    requests: Iterable[Request],
    *,
    init: str,
    found: Mapping[str, str],
    masked: Iterable[str] = (),
    close: Mapping[str, str] | None = None,
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """The services to start, each once and in order, and warnings for those that cannot be.

    `init` is `systemd`, `sysvinit`, `openrc`, `busybox` or `dumb-init`; names are units for systemd, else of scripts.
    `close` is what `near` said.
    Raises InvalidArgument where a pod asked for one that cannot be, or one that must be cannot.
    """
    masked = tuple(masked)
    names: dict[str, None] = {}
    warnings: list[str] = []
    for request in requests:
        refusal = _refusal(request, init, found, masked, close or {})
        if refusal is None:
            names[unit(request.name) if init == "systemd" else posixpath.basename(found[request.name])] = None
        elif request.is_pod or request.must:
            where = "config.json: " if request.is_pod else ""
            raise InvalidArgument(f"{where}{request.source}: {refusal}")
        else:
            warnings.append(f"{request.source}: {refusal}: skipped")
    return tuple(names), tuple(warnings)


def _checked(names: Iterable[str]) -> list[str]:
    checked = list(names)
    for name in checked:
        if _problem(name) is not None:
            raise InvalidArgument(f"service {name[:80]!r}: found a name that was never checked")
    return checked


def dropin(names: Iterable[str], mandatory: Iterable[str] = ()) -> str:
    """The drop-in for the application's unit. Wants, not Requires: a service that fails or is stopped takes nobody.

    Without one of the `mandatory`, units among `names`, the application is not started, and systemd powers off then,
    which fails the start at once: for a unit whose dependency fails it begins what OnFailure= names.
    """
    lines = "".join(f"Wants={name}\nAfter={name}\n" for name in _checked(names))
    needed = f"Requires={GATE}\nAfter={GATE}\n{_OR_POWEROFF}" if _checked(mandatory) else ""
    return f"[Unit]\n{lines}{needed}"


def gate(mandatory: Iterable[str]) -> str:
    """GATE's text: it begins once all of the `mandatory` are up, fails where one does, and is through at once.

    The application requires it and not them: what requires a service is stopped with it, at each of its restarts too
    (systemd.unit(5), Requires=), and of what is through there is nothing to stop.
    """
    lines = "".join(f"Requires={name}\nAfter={name}\n" for name in _checked(mandatory))
    return f"[Unit]\nDefaultDependencies=no\n{lines}\n[Service]\nType=oneshot\nExecStart=-/bin/true\n"


def commands(names: Iterable[str]) -> tuple[str, ...]:
    """What sysvinit and OpenRC run, one after the other; a script that OpenRC starts twice is started once."""
    return tuple(f"{_SCRIPTS}/{name} start" for name in _checked(names))

"""System services of the image that must be up: `services.enable` of the node and a pod's `services` annotation.

    init                where a service is looked for                     how it is started
    systemd             unit directories, /etc/init.d (sysv-generator)    a drop-in that wants it before the application
    sysvinit, openrc    /etc/init.d                                       `/etc/init.d/NAME start`, after the rc lines
    busybox, dumb-init  nowhere: these inits manage no services           skipped with the reason

How a plan uses this module:

    found = services.find_services(root, init, names)         with a runtime.image.image.Rootfs; InvalidArgument never
    names, warnings = services.check(requests, init=init, found=found, masked=config.rich.mask)
    systemd: RunFile("services.conf", services.dropin(names, mandatory)), bound at services.DROPIN
    sysvinit, openrc: one script (sbin_init.services_text), which one `wait` line of the inittab runs before the
    application's

Only a name comes from a pod. It becomes text of a unit or an inittab only after a file of that name was found in the
image, and only if it matches NAME_PATTERN: none of those characters means anything to systemd or to a shell.
"""

import posixpath
import re
import stat
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Protocol

from runtime.config.kinds import NAME_PATTERN, suggestion
from runtime.errors import InvalidArgument
from runtime.init.detect import InitFacts

DROPIN = "/run/systemd/system/pouchrich-app.service.d/50-services.conf"
"""The ordering belongs to the application's unit: starting that starts the wanted services first."""

GATE = "pouchrich-services.service"
"""A unit between the application's unit and the mandatory services."""

_OR_POWEROFF = "OnFailure=poweroff.target\nOnFailureJobMode=replace-irreversibly\n"

_UNIT_DIRECTORIES = (
    "/etc/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
"""systemd.unit(5), without the directories in /run: /run is the container's own and empty before the container starts,
unless the image has a VOLUME at /run."""

_SCRIPTS = "/etc/init.d"
_SYSV_GENERATORS = tuple(f"/{lib}/systemd/system-generators/systemd-sysv-generator" for lib in ("usr/lib", "lib"))
_SUFFIXES = (".service", ".socket", ".timer", ".path")
_OTHER_SUFFIXES = (".target", ".mount", ".automount", ".swap", ".slice", ".scope", ".device", ".snapshot")
_SAFE = re.compile(NAME_PATTERN, re.ASCII)
_MAX_NAME = 200
_MOST_NAMES, _HINTED_NAME, _MOST_HINTS = 512, 48, 3
"""Limits of the search for a hint: names in the image's directories, the length of a name, missing names. An image may
have any number of names of any length, and the time to compare two names grows with their length."""
_MANAGING = ("systemd", "sysvinit", "openrc")


class Request(NamedTuple):
    """A service to start: `name` as written, `source` as errors name it; `is_pod`: a pod's annotation asks for it.

    `must`: without it the container is refused.
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
    """What `find_services` needs of a `runtime.image.image.Rootfs`."""

    def walk(self, path: str, mounts: Sequence[str] = ()) -> Found: ...

    def names(self, path: str, at_most: int) -> list[str]: ...


def unit(name: str) -> str:
    """The unit's name: adds `.service` where the name has no unit suffix, like systemctl(1)."""
    return name if name.endswith((*_SUFFIXES, *_OTHER_SUFFIXES)) else f"{name}.service"


def _template(name: str) -> str | None:
    """`getty@.service` for `getty@tty1.service`; None where the name is not an instance's."""
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


def find_services(root: Root, init: str, names: Iterable[str]) -> dict[str, str]:
    """By name, the path in the image that makes it a service of `init`, "masked", or "" where there is none.

    Reads only the image, below its root. What a pod mounts over these directories is not seen.
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
    """Hints: for names that the image lacks, a similar name that it has, where there is one.

    It lists directories of the image, but only where a start is about to fail or to go without a service.
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
    """The part of an image's facts that `find_services` found for `init`."""
    return dict(facts.services if init == "systemd" else facts.scripts)


def _problem(name: str) -> str | None:
    """Why `name` cannot be a service's name in any image, or None."""
    stem = name.removesuffix(".service")
    if _SAFE.fullmatch(name) is None or len(name) > _MAX_NAME or stem in ("", ".", ".."):
        return f"a name of at most {_MAX_NAME} characters matching {NAME_PATTERN}"
    if name.endswith(_OTHER_SUFFIXES):
        return f"a unit of {', '.join(_SUFFIXES)}"
    return None


def _refusal(
    request: Request, init: str, found: Mapping[str, str], masked: Iterable[str], close: Mapping[str, str]
) -> str | None:
    """What is wrong with a request, as `found ..., allowed ...`, or None."""
    name = request.name
    if problem := _problem(name):
        return f"found {name[:80]!r}, allowed {problem}"
    if request.must and init != "systemd":
        return f"found {name}, allowed only where systemd is PID 1: {init} does not tell whether a service is up"
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
    """The services to start, each once and in order, and warnings for those that cannot be started.

    `init` is `systemd`, `sysvinit`, `openrc`, `busybox` or `dumb-init`. The names are units for systemd, else scripts.
    `close` is the result of `near`. Raises InvalidArgument for a request of a pod or a mandatory one that cannot be
    met.
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


def dropin(names: Iterable[str], mandatory: Collection[str] = ()) -> str:
    """The drop-in for the application's unit. Wants=, not Requires=: a service that fails or stops affects no other.

    `names` are those that `check` returns, as in `gate` and `commands`. If one of the `mandatory` (which are among
    `names`) fails, systemd does not start the application and powers off, which fails the start at once: when a unit's
    dependency fails, systemd starts the unit's OnFailure=.
    """
    lines = "".join(f"Wants={name}\nAfter={name}\n" for name in names)
    needed = f"Requires={GATE}\nAfter={GATE}\n{_OR_POWEROFF}" if mandatory else ""
    return f"[Unit]\n{lines}{needed}"


def gate(mandatory: Iterable[str]) -> str:
    """GATE's text: the unit starts once all of the `mandatory` are up, fails if one fails, and is inactive at once.

    The application requires this unit and not the services: whatever requires a service is stopped with it, also at
    each restart of the service (systemd.unit(5), Requires=), whereas an inactive unit is not stopped.
    """
    lines = "".join(f"Requires={name}\nAfter={name}\n" for name in mandatory)
    return f"[Unit]\nDefaultDependencies=no\n{lines}\n[Service]\nType=oneshot\nExecStart=-/bin/true\n"


def commands(names: Iterable[str]) -> tuple[str, ...]:
    """The commands that sysvinit and OpenRC run, in order. OpenRC starts a service once even if it is told twice."""
    return tuple(f"{_SCRIPTS}/{name} start" for name in names)

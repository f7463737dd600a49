"""Inittabs: keep the image's start scripts, drop its terminals, add the application and the lines for a shutdown.

The image's text is parsed with a narrow grammar and written again field by field: a line that does not fit is left
out, never copied. So nothing of the image gets a meaning here that it did not have in the image's own inittab, and
nothing from a pod gets in at all. See sysvinit's inittab(5) and busybox's init.c.
"""

import re
from collections.abc import Iterator
from typing import NamedTuple

from runtime.config.kinds import short_json
from runtime.init.base import CONTAINER_RUN_DIR
from runtime.init.detect import INITTAB, InitFacts

APP = f"{CONTAINER_RUN_DIR}/launch app"
SERVICES = f"/bin/sh {CONTAINER_RUN_DIR}/services"
HALT = f"{CONTAINER_RUN_DIR}/launch halt"
STOP = f"{CONTAINER_RUN_DIR}/launch stop "
"""Begins each of the lines that the init runs to stop. Their programs could change the node: a forced unmount aborts
a FUSE or NFS mount for all who have it, and a file system remounted read-only is so for all (mount(2))."""
ENVIRONMENT = "environment.sh"
"""A script in the run directory that sets more variables and executes the command in its arguments."""
_WITH_ENVIRONMENT = f"/bin/sh {CONTAINER_RUN_DIR}/{ENVIRONMENT} "
_LONGEST = 127
"""The longest process of an inittab line, in bytes: sysvinit ignores a line with a longer one."""

MAX_LINES = 200
_NAMED = 5
"""How many of the dropped lines get a warning of their own."""

_LINE = re.compile(
    r"(?P<id>[A-Za-z0-9]{0,4}):(?P<runlevels>[0-6sS]{0,8}):(?P<action>[a-z]{4,11}):"
    r"(?P<process>/[A-Za-z0-9_./+-]{1,200}(?: [A-Za-z0-9_./=+,-]{1,100}){0,16}) *"
)
_DEFAULT = re.compile(r"[A-Za-z0-9]{1,4}:([1-5]):initdefault:.*")
_TERMINALS = re.compile(r"getty|sulogin|/login|tty[0-9S]|console(?![\w-])")
_OURS = frozenset({"id", "pa", "ph", "pp", "pq", "ps", "pt", "pz"})
_STARTS = re.compile(r"[^:#]*:[0-6sS]*:(?:sysinit|boot|bootwait|wait|once|respawn):.+")
"""A line in any form that starts something, except for terminals and power events."""

_SYSV_ACTIONS = frozenset({"sysinit", "boot", "bootwait", "wait", "respawn"})
_BUSYBOX_ACTIONS = frozenset({"sysinit", "wait", "once", "respawn", "shutdown"})


class Line(NamedTuple):
    """One line of an inittab."""

    id: str
    runlevels: str
    action: str
    process: str

    def __str__(self) -> str:
        return f"{self.id}:{self.runlevels}:{self.action}:{self.process}"


def _kept(text: str, actions: frozenset[str]) -> Iterator[Line]:
    for line in text.splitlines()[:MAX_LINES]:
        found = _LINE.fullmatch(line.strip())
        if found and found["action"] in actions and not _TERMINALS.search(found["process"]):
            yield Line(found["id"], found["runlevels"], found["action"], found["process"])


def left_out(init: InitFacts) -> tuple[str, ...]:
    """Warnings about what the image's inittab starts and ours does not."""
    taken = {str(line) for line in (_busybox(init) if init.kind == "busybox" else _sysvinit(init)[1])}
    lines = (line.strip() for line in (init.inittab or "").splitlines())
    found = [one for one in lines if _STARTS.fullmatch(one) and not _is_terminal(one) and one not in taken]
    more = (f"{INITTAB}: and {len(found) - _NAMED} more lines",) if len(found) > _NAMED else ()
    words = "this line is not started, as its form or action is not supported"
    return (*(f"{INITTAB}: {words}: {short_json(one)}" for one in found[:_NAMED]), *more)


def _is_terminal(line: str) -> bool:
    """Whether the line has a terminal as its id (busybox) or runs a program for one, whatever its redirections are."""
    return _TERMINALS.search(re.split("[<>]", line, maxsplit=1)[0]) is not None


def _default_runlevel(text: str) -> str:
    for line in text.splitlines()[:MAX_LINES]:
        if found := _DEFAULT.fullmatch(line.strip()):
            return found[1]
    return ""


_DEBIANS_BOOT = "/etc/init.d/rcS"
_KEEP_TMP = Line("pt", "", "sysinit", "/bin/touch /tmp/.tmpfs")
"""Debian's boot scripts do not clean a /tmp with this file, as if it were a tmpfs (initscripts, lib/init/bootclean.sh).

Otherwise they empty /tmp after the prestart hooks have run, also where it is a volume of the pod.
"""

_SCRIPTS = (
    ("/etc/init.d/rc", _DEBIANS_BOOT, "2"),
    ("/etc/rc.d/rc", "/etc/rc.d/rc.sysinit", "3"),
)
"""The scripts that run a runlevel's scripts and the boot's, on Debian and on RPM distributions; the usual runlevel."""


def _by_style(init: InitFacts, runlevel: str) -> tuple[str, list[Line]]:
    """The lines, by the scripts that the image has, for an image whose inittab has none that can be kept."""
    if init.kind == "openrc":
        level = runlevel or "3"
        return level, [
            Line("si", "", "sysinit", "/sbin/openrc sysinit"),
            Line("rb", "", "bootwait", "/sbin/openrc boot"),
            Line("l0", "0", "wait", "/sbin/openrc off"),
            Line("l6", "6", "wait", "/sbin/openrc off"),
            Line("ld", level, "wait", "/sbin/openrc default"),
        ]
    for rc, sysinit, usual in _SCRIPTS:
        if rc in init.present:
            level = runlevel or usual
            once = [Line("si", "", "sysinit", sysinit)] if sysinit in init.present else []
            return level, [*once, *(Line(f"l{one}", one, "wait", f"{rc} {one}") for one in ("0", level, "6"))]
    return runlevel or "2", []


def _given(lines: list[Line]) -> list[Line]:
    """`lines`, each started through ENVIRONMENT where the longer process still fits."""
    return [_through(_WITH_ENVIRONMENT, one) for one in lines]


def _confined(lines: list[Line]) -> list[Line]:
    """`lines`, those that stop the container started through STOP where the longer process still fits."""
    return [_through(STOP, one) if _stops(one) else one for one in lines]


def _stops(line: Line) -> bool:
    return line.action == "shutdown" or bool(line.runlevels and set(line.runlevels) <= {"0", "6"})


def _through(program: str, line: Line) -> Line:
    made = line._replace(process=program + line.process)
    return made if len(made.process) <= _LONGEST else line


def _sysvinit(init: InitFacts) -> tuple[str, list[Line]]:
    """The runlevel and the image's lines: those of its inittab, or what its scripts suggest."""
    text = init.inittab or ""
    runlevel, lines = _default_runlevel(text), list(_kept(text, _SYSV_ACTIONS))
    if not any(one.action in ("sysinit", "boot", "bootwait", "wait") for one in lines):
        runlevel, lines = _by_style(init, runlevel)
    return runlevel, [one for one in lines if one.id not in _OURS]


def _busybox(init: InitFacts) -> list[Line]:
    """The lines of the image's inittab, except those with a terminal of their own."""
    return [one for one in _kept(init.inittab or "", _BUSYBOX_ACTIONS) if not one.id]


def sysvinit(
    init: InitFacts, *, services: bool = False, can_halt: bool = False, environment: bool = False
) -> str | None:
    """An inittab for sysvinit, or for OpenRC on sysvinit; None where none of the image's start scripts is known.

    SIGPWR starts the shutdown: the power lines lead to runlevel 0, whose scripts the image has. The last line of
    runlevels 0 and 6 reports to the shim, because PID 1 cannot power off without CAP_SYS_BOOT and would stay.
    `can_halt`: PID 1 has that capability; OpenRC leaves halting to the inittab and then gets a line for it. `services`:
    there is a script that starts more services before the application. `environment`: ENVIRONMENT exists.
    """
    runlevel, lines = _sysvinit(init)
    if not lines:
        return None
    lines = _confined(lines)
    runlevel = runlevel or ("3" if "/etc/rc.d/rc" in init.present else "2")
    more = [Line("ps", runlevel, "wait", SERVICES)] if services else []
    first = [_KEEP_TMP] if _DEBIANS_BOOT in init.present else []
    if environment:
        lines, more = _given(lines), _given(more)
    ends = [Line("ph", "0", "wait", "/sbin/halt -d -f -p")] if init.kind == "openrc" and can_halt else []
    return "".join(
        f"{line}\n"
        for line in (
            Line("id", runlevel, "initdefault", ""),
            *first,
            *lines,
            *more,
            Line("pa", runlevel, "once", APP),
            *ends,
            Line("pz", "06", "wait", HALT),
            Line("pp", "", "powerwait", "/sbin/init 0"),
            Line("pq", "", "powerfailnow", "/sbin/init 0"),
        )
    )


def busybox(init: InitFacts, *, environment: bool = False) -> str:
    """An inittab for busybox's init. If the image has none, ours starts what busybox itself would have started.

    `environment`: as for `sysvinit`.
    """
    lines = [Line("", "", one.action, one.process) for one in _busybox(init)]
    if init.inittab is None and "/etc/init.d/rcS" in init.present:
        lines = [Line("", "", "sysinit", "/etc/init.d/rcS")]
    lines = _confined(lines)
    if environment:
        lines = _given(lines)
    return "".join(f"{line}\n" for line in (*lines, Line("", "", "once", APP)))

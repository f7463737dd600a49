"""The signals that inits understand, by number: what makes each power off, and what a client's signal means to it."""

import re
from collections.abc import Mapping
from signal import Signals

from runtime.errors import InvalidArgument

_TERM, _INT, _QUIT, _PWR, _USR2 = (
    int(one) for one in (Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT, Signals.SIGPWR, Signals.SIGUSR2)
)
RTMIN, RTMAX = 34, 64
"""What glibc leaves of the kernel's real-time signals, and what systemd's SIGRTMIN+4 is counted from."""

POWEROFF: Mapping[str, int] = {"systemd": RTMIN + 4, "sysvinit": _PWR, "openrc": _PWR, "busybox": _USR2}
"""systemd(1); sysvinit runs its power lines; busybox's init.c. OpenRC here is what sysvinit's inittab starts."""


def translation(kind: str) -> tuple[tuple[int, int], ...]:
    """What a client that wants an end sends, and what the init `kind` is told instead.

    TERM makes systemd execute itself anew and busybox reboot, and sysvinit ignores it; INT is their Ctrl-Alt-Del.
    """
    return tuple((number, POWEROFF[kind]) for number in (_TERM, _INT, _QUIT))


_SHUTDOWN: Mapping[str, frozenset[int]] = {"systemd": frozenset(RTMIN + one for one in (3, 4, 13, 14))}
"""What an image names as its STOPSIGNAL because its init halts or powers off at it (systemd(1), "Signals")."""


def for_application(number: int, kind: str, stop_signal: int | None) -> int:
    """What the application is sent for a client's `number` where the init `kind` is PID 1.

    A real-time signal by which that init would shut down is a stop like TERM, which is `stop_signal` where the pod has
    said so (not None): the init is told once the application has gone. All others are the application's own.
    """
    if number == _TERM or number in _SHUTDOWN.get(kind, ()):
        return _TERM if stop_signal is None else stop_signal
    return number


def number_of(name: str) -> int:
    """The number of a signal by a name such as SIGTERM or SIGRTMIN+3. Raises InvalidArgument."""
    if name in Signals.__members__ and not name.startswith("SIGRT"):
        return int(Signals[name])
    if found := re.fullmatch(r"SIGRT(MIN|MAX)([+-]\d{1,2})?", name, re.ASCII):
        number = (RTMIN if found[1] == "MIN" else RTMAX) + int(found[2] or 0)
        if RTMIN <= number <= RTMAX:
            return number
    raise InvalidArgument(
        f"stop-signal: found {ascii(name)[:80]}, allowed a signal's name such as SIGTERM or SIGRTMIN+3"
    )

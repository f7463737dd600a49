"""The signals of inits, by number: which makes each power off, and what a client's signal means to each."""

from collections.abc import Mapping
from signal import Signals

from runtime.config.signal_names import RTMIN

_TERM, _INT, _QUIT, _PWR, _USR2 = (
    int(one) for one in (Signals.SIGTERM, Signals.SIGINT, Signals.SIGQUIT, Signals.SIGPWR, Signals.SIGUSR2)
)
POWEROFF: Mapping[str, int] = {"systemd": RTMIN + 4, "sysvinit": _PWR, "openrc": _PWR, "busybox": _USR2}
"""systemd(1); sysvinit runs its power lines; busybox's init.c. "openrc" is OpenRC started by sysvinit's inittab."""


def translation(kind: str) -> tuple[tuple[int, int], ...]:
    """Pairs of a signal by which a client asks for an end, and the signal that the init `kind` gets instead.

    On SIGTERM systemd re-executes itself, busybox reboots, and sysvinit does nothing; SIGINT is their Ctrl-Alt-Del.
    """
    return tuple((number, POWEROFF[kind]) for number in (_TERM, _INT, _QUIT))


_SHUTDOWN: Mapping[str, frozenset[int]] = {"systemd": frozenset(RTMIN + one for one in (3, 4, 13, 14))}
"""Signals that images name as their STOPSIGNAL because the init halts or powers off on them (systemd(1), "Signals")."""


def for_application(number: int, kind: str, stop_signal: int | None) -> int:
    """The signal that the application gets for a client's `number` where the init `kind` is PID 1.

    A real-time signal that makes the init shut down counts as a stop, like SIGTERM; for a stop the application gets the
    pod's `stop_signal`, or SIGTERM where that is None. The init is told after the application has ended. All other
    signals go to the application unchanged.
    """
    if number == _TERM or number in _SHUTDOWN.get(kind, ()):
        return _TERM if stop_signal is None else stop_signal
    return number

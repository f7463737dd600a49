"""Signals by the names that people give them."""

import re
from signal import Signals

from runtime.errors import InvalidArgument

RTMIN, RTMAX = 34, 64
"""The real-time signals that glibc leaves to programs; systemd's SIGRTMIN+4 is relative to this RTMIN."""


def is_name(name: str) -> bool:
    """Whether there is a signal `name`, such as SIGTERM or SIGRTMIN+3."""
    return _number(name) is not None


def number_of(name: str) -> int:
    """The number of the signal `name`. Raises InvalidArgument."""
    if (number := _number(name)) is None:
        raise InvalidArgument(
            f"stop-signal: found {ascii(name)[:80]}, allowed a signal's name such as SIGTERM or SIGRTMIN+3"
        )
    return number


def _number(name: str) -> int | None:
    if name in Signals.__members__ and not name.startswith("SIGRT"):
        return int(Signals[name])
    if found := re.fullmatch(r"SIGRT(MIN|MAX)([+-]\d{1,2})?", name, re.ASCII):
        number = (RTMIN if found[1] == "MIN" else RTMAX) + int(found[2] or 0)
        if RTMIN <= number <= RTMAX:
            return number
    return None

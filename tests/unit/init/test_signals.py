"""runtime.init.signals: numbers and translations."""

import pytest

from runtime.errors import InvalidArgument
from runtime.init import signals


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGTERM", 15), ("SIGPWR", 30), ("SIGRTMIN", 34), ("SIGRTMIN+3", 37), ("SIGRTMAX", 64), ("SIGRTMAX-1", 63)],
)
def test_a_signals_number(name, number):
    assert signals.number_of(name) == number


@pytest.mark.parametrize("name", ["TERM", "SIGRTMIN+31", "SIGRTMAX+1", "SIGRTMIN+a", "SIG", "SIGRTMIN3"])
def test_what_is_no_signal_is_refused(name):
    with pytest.raises(InvalidArgument, match="stop-signal: found"):
        signals.number_of(name)


@pytest.mark.parametrize(("kind", "number"), [("systemd", 38), ("sysvinit", 30), ("openrc", 30), ("busybox", 12)])
def test_what_ends_a_program_powers_an_init_off(kind, number):
    assert dict(signals.translation(kind)) == {15: number, 2: number, 3: number}

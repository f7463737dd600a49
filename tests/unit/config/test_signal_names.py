"""runtime.config.signal_names: names to numbers."""

import pytest

from runtime.config import signal_names
from runtime.errors import InvalidArgument


@pytest.mark.parametrize(
    ("name", "number"),
    [("SIGTERM", 15), ("SIGPWR", 30), ("SIGRTMIN", 34), ("SIGRTMIN+3", 37), ("SIGRTMAX", 64), ("SIGRTMAX-1", 63)],
)
def test_a_signals_number(name, number):
    assert signal_names.number_of(name) == number


@pytest.mark.parametrize("name", ["TERM", "SIGRTMIN+31", "SIGRTMAX+1", "SIGRTMIN+a", "SIG", "SIGRTMIN3"])
def test_what_is_no_signal_is_refused(name):
    with pytest.raises(InvalidArgument, match="stop-signal: found"):
        signal_names.number_of(name)

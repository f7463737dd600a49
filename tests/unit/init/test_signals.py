"""runtime.init.signals: numbers and translations."""

import pytest

from runtime.init import signals


@pytest.mark.parametrize(("kind", "number"), [("systemd", 38), ("sysvinit", 30), ("openrc", 30), ("busybox", 12)])
def test_what_ends_a_program_powers_an_init_off(kind, number):
    assert dict(signals.translation(kind)) == {15: number, 2: number, 3: number}


@pytest.mark.parametrize("kind", ["systemd", "sysvinit", "openrc", "busybox", "dumb-init"])
@pytest.mark.parametrize("stop", [None, 12])
def test_every_signal_is_the_applications_but_those_that_mean_an_end(kind, stop):
    ends = {15, *((37, 38, 47, 48) if kind == "systemd" else ())}
    for number in range(1, 65):
        wanted = (stop or 15) if number in ends else number
        assert signals.for_application(number, kind, stop) == wanted

"""shim.task.application.progress_deadline: a boot that makes progress is waited for, up to a bound."""

import pytest

from shim.task.application.progress_deadline import ProgressDeadline


class Boot:
    """A boot in a time of its own: `share` of a processor, `lines_per_s`."""

    def __init__(self, idle_s=60.0, most_s=300.0):
        self.at = self.cpu = 0.0
        self.lines = 0
        self.patience = ProgressDeadline(
            idle_s, most_s, spent=lambda: self.cpu, said=lambda: self.lines, now=lambda: self.at
        )

    def run(self, until_s, *, share=0.0, lines_per_s=0):
        """As `Booting.adopt` does; the time at which it gives up, or `until_s`."""
        while self.at < until_s and (wait_s := self.patience.wait_s()) > 0:
            self.at += wait_s
            self.cpu += wait_s * share
            self.lines += lines_per_s
            self.patience.check_progress()
        return self.at


@pytest.mark.parametrize("more", [{"share": 0.02}, {"lines_per_s": 1}, {"share": 2.0, "lines_per_s": 9}])
def test_what_makes_progress_is_waited_for_up_to_the_bound(more):
    boot = Boot()
    assert boot.run(1000, **more) == pytest.approx(300)
    assert boot.patience.expiry_reason() == "not within start-timeout-max, 300 s (rich.start-timeout-max)"


@pytest.mark.parametrize("more", [{}, {"share": 0.002}])
def test_what_hangs_is_cut_off_and_takes_no_place_before(more):
    boot = Boot()
    boot.run(5, **more)
    assert boot.patience.is_idle
    assert boot.run(1000, **more) == pytest.approx(60)
    assert boot.patience.expiry_reason() == "no progress within start-timeout, 60 s (rich.start-timeout)"


def test_progress_begins_the_time_anew():
    boot = Boot(idle_s=10)
    boot.run(8)
    boot.run(9, share=0.5)
    assert not boot.patience.is_idle
    assert boot.run(1000) == pytest.approx(19)


def test_a_bound_below_the_time_without_progress_is_none():
    boot = Boot(idle_s=600, most_s=300)
    assert boot.run(1000, share=1.0) == pytest.approx(600)
    assert "start-timeout, 600 s" in boot.patience.expiry_reason()


def test_a_short_time_is_kept_to_the_fraction():
    assert Boot(idle_s=1.0).run(10) == pytest.approx(1.0)


def test_while_there_is_time_there_is_no_verdict():
    boot = Boot()
    boot.run(3)
    assert boot.patience.expiry_reason() == ""


def test_without_a_known_processor_time_lines_count():
    at = [0.0]
    patience = ProgressDeadline(5, 60, spent=lambda: None, said=lambda: int(at[0]), now=lambda: at[0])
    for second in range(1, 20):
        at[0] = second
        patience.check_progress()
    assert patience.wait_s() > 0

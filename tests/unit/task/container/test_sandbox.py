"""shim.task.container.sandbox: with the pod's sandbox goes what still starts in the pod, and nothing else."""

import itertools
import signal

import pytest

from runtime.errors import FailedPrecondition, RuntimeFailed
from shim.task.container import sandbox as sandbox_module
from shim.task.container.lifecycle import PlainLifecycle
from shim.task.container.phase import Phase
from shim.task.container.sandbox import Sandbox, SandboxLifecycle
from shim.task.reaper import Exit


class Rich:
    """Stands for a rich container's life."""


class Init:
    def __init__(self, pid, phase, exit):
        self.pid = pid
        self.phase = phase
        self.exit = exit


class Container:
    def __init__(self, pid, phase, life, exit):
        self.id = f"c{pid}"
        self.init = Init(pid, phase, exit)
        self.life = life


@pytest.fixture
def made():
    """Makes containers, each with a pid of its own."""
    pids = itertools.count(2**30)
    return lambda phase=Phase.STARTING, life=None, exit=None: Container(next(pids), phase, life or Rich(), exit)


@pytest.fixture
def killed(monkeypatch):
    """The (pid, signal) of what was killed; each is gone by then."""
    found = []

    def kill(pid, number):
        found.append((pid, number))
        raise ProcessLookupError(pid)

    monkeypatch.setattr(sandbox_module.os, "kill", kill)
    return found


def end(sandbox):
    exit = Exit(1, 137, 0)
    assert SandboxLifecycle(sandbox).ended(exit) is exit


def test_a_start_is_called_off_by_the_sandboxs_end_and_says_so(made, killed):
    sandbox, container = Sandbox(), made()

    def fail():
        end(sandbox)
        raise RuntimeFailed("PID 1 ended")

    words = "the pod's sandbox ended while the container started: PID 1 ended"
    with pytest.raises(RuntimeFailed, match=words), sandbox.starting(container):
        fail()
    assert killed == [(container.init.pid, signal.SIGKILL)]


def test_of_two_starts_both_are(made, killed):
    sandbox, containers = Sandbox(), [made(), made()]
    with sandbox.starting(containers[0]), sandbox.starting(containers[1]):
        end(sandbox)
    assert {pid for pid, _ in killed} == {one.init.pid for one in containers}


@pytest.mark.parametrize(
    "how",
    [
        pytest.param({"phase": Phase.RUNNING}, id="running"),
        pytest.param({"phase": Phase.CREATED}, id="not started yet"),
        pytest.param({"phase": Phase.STOPPED}, id="ended"),
        pytest.param({"life": PlainLifecycle()}, id="plain"),
        pytest.param({"exit": Exit(1, 0, 0)}, id="reaped, its pid another process's perhaps"),
    ],
)
def test_what_does_not_start_is_left_alone(made, killed, how):
    sandbox = Sandbox()
    with sandbox.starting(made(**how)):
        end(sandbox)
    assert killed == []


def test_a_start_that_is_over_is_not_the_sandboxs_any_more(made, killed):
    sandbox = Sandbox()
    with sandbox.starting(made()):
        pass
    end(sandbox)
    assert killed == []


def test_a_start_that_fails_by_itself_says_what_it_said(made):
    sandbox, container = Sandbox(), made()
    with pytest.raises(FailedPrecondition, match=r"^cannot start a stopped process$"), sandbox.starting(container):
        raise FailedPrecondition("cannot start a stopped process")

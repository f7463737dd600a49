"""shim.task.sandbox: with the pod's sandbox goes what still starts in the pod, and nothing else."""

import signal
import subprocess

import pytest

from runtime.errors import FailedPrecondition, RuntimeFailed
from shim.task.lifecycle import PlainLifecycle
from shim.task.phase import Phase
from shim.task.reaper import Exit
from shim.task.sandbox import Sandbox, SandboxLifecycle


class Init:
    """A process of our own that stays."""

    def __init__(self, phase):
        self._process = subprocess.Popen(["sleep", "60"])
        self.pid = self._process.pid
        self.phase = phase
        self.exit = None

    def ends_by(self):
        """The signal that it has ended by, None where it has not."""
        try:
            return -self._process.wait(timeout=0 if self.phase is not Phase.STARTING else 5)
        except subprocess.TimeoutExpired:
            return None

    def close(self):
        self._process.kill()
        self._process.wait()


class Rich:
    """Stands for a rich container's life."""


class Container:
    def __init__(self, phase=Phase.STARTING, life=None):
        self.id = "c"
        self.init = Init(phase)
        self.life = life or Rich()


@pytest.fixture
def made():
    made = []

    def make(*given, **named):
        made.append(Container(*given, **named))
        return made[-1]

    yield make
    for one in made:
        one.init.close()


def end(sandbox):
    exit = Exit(1, 137, 0)
    assert SandboxLifecycle(sandbox).ended(exit) is exit


def test_a_start_is_called_off_by_the_sandboxs_end_and_says_so(made):
    sandbox, container = Sandbox(), made()

    def fail():
        end(sandbox)
        assert container.init.ends_by() == signal.SIGKILL
        raise RuntimeFailed("PID 1 ended")

    words = "the pod's sandbox ended while the container started: PID 1 ended"
    with pytest.raises(RuntimeFailed, match=words), sandbox.starting(container):
        fail()


def test_of_two_starts_both_are(made):
    sandbox, containers = Sandbox(), [made(), made()]
    with sandbox.starting(containers[0]), sandbox.starting(containers[1]):
        end(sandbox)
    assert [one.init.ends_by() for one in containers] == [signal.SIGKILL] * 2


@pytest.mark.parametrize("how", [{"phase": Phase.RUNNING}, {"phase": Phase.CREATED}, {"phase": Phase.STOPPED}])
def test_what_does_not_start_is_left_alone(made, how):
    sandbox, container = Sandbox(), made(**how)
    with sandbox.starting(container):
        end(sandbox)
        assert container.init.ends_by() is None


def test_a_plain_container_is_left_alone(made):
    sandbox, container = Sandbox(), made(life=PlainLifecycle())
    with sandbox.starting(container):
        end(sandbox)
        container.init.phase = Phase.RUNNING
        assert container.init.ends_by() is None


def test_one_whose_pid_may_be_another_process_by_now_is_not_killed(made):
    sandbox, container = Sandbox(), made()
    container.init.exit = Exit(1, 0, 0)
    with sandbox.starting(container):
        end(sandbox)
        container.init.phase = Phase.STOPPED
        assert container.init.ends_by() is None


def test_a_start_that_is_over_is_not_the_sandboxs_any_more(made):
    sandbox, container = Sandbox(), made()
    with sandbox.starting(container):
        pass
    end(sandbox)
    container.init.phase = Phase.RUNNING
    assert container.init.ends_by() is None


def test_a_start_that_fails_by_itself_says_what_it_said(made):
    sandbox, container = Sandbox(), made()
    with pytest.raises(FailedPrecondition, match=r"^cannot start a stopped process$"), sandbox.starting(container):
        raise FailedPrecondition("cannot start a stopped process")

"""The events that containerd passes on, as `ctr events` prints them."""

import subprocess
import threading
from collections.abc import Iterator

import pytest

from tests.integration.ctr import Ctr
from tests.integration.waiting import until


class Listener:
    """The events of a node from now on."""

    def __init__(self, ctr: Ctr) -> None:
        self._process = subprocess.Popen(ctr.node.ctr_argv("events"), stdout=subprocess.PIPE, text=True)
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._read)
        self._thread.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        self.lines.extend(line for line in self._process.stdout)

    def close(self) -> None:
        self._process.kill()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()

    def topics(self, container: str) -> list[str]:
        """The task topics about a container, in order; an exit that is not its init's has `:exec` behind it."""
        found = []
        for line in list(self.lines):
            topic = next((word for word in line.split() if word.startswith("/tasks/")), "")
            if topic and f'"{container}"' in line:
                found.append(topic + (":exec" if topic == "/tasks/exit" and f'"id":"{container}"' not in line else ""))
        return found


@pytest.fixture
def listener(ctr: Ctr) -> Iterator[Listener]:
    found = Listener(ctr)
    until(lambda: is_subscribed(ctr, found), "ctr events to listen")
    yield found
    found.close()


def is_subscribed(ctr: Ctr, listener: Listener) -> bool:
    """containerd confirms no subscription: cause events until one is seen."""
    ctr.check("namespaces", "create", "probe")
    ctr.check("namespaces", "remove", "probe")
    return any("/namespaces/" in line for line in listener.lines)


def assert_topics(ctr: Ctr, listener: Listener, container: str, expected: list[str]) -> None:
    """Wait for these events. containerd's own shim may exit before it has sent the last one, of the deletion."""
    wanted = expected[:-1] if ctr.environment.runtime == "runc.v2" else expected
    until(lambda: len(listener.topics(container)) >= len(wanted), f"{expected}; see {listener.lines}")
    assert listener.topics(container) in (wanted, expected)


@pytest.mark.smoke
def test_a_container_s_events_come_in_the_order_of_its_life(ctr: Ctr, listener: Listener) -> None:
    container = ctr.start("sh", "-c", "exit 5")
    ctr.wait_stopped(container)
    ctr.delete(container)
    assert_topics(ctr, listener, container, ["/tasks/create", "/tasks/start", "/tasks/exit", "/tasks/delete"])
    assert any('"exit_status":5' in line for line in listener.lines)


def test_an_exec_s_events_come_in_order_and_init_s_exit_is_last(ctr: Ctr, listener: Listener) -> None:
    container = ctr.start("sleep", "300")
    assert ctr.exec(container, "true").code == 0
    ctr.kill(container, "SIGKILL")
    ctr.wait_stopped(container)
    ctr.delete(container)
    expected = [
        "/tasks/create",
        "/tasks/start",
        "/tasks/exec-added",
        "/tasks/exec-started",
        "/tasks/exit:exec",
        "/tasks/exit",
        "/tasks/delete",
    ]
    assert_topics(ctr, listener, container, expected)


def test_pause_and_resume_are_told(ctr: Ctr, listener: Listener) -> None:
    container = ctr.start("sleep", "300")
    ctr.check("tasks", "pause", container)
    ctr.check("tasks", "resume", container)
    until(lambda: "/tasks/resumed" in listener.topics(container), "both events")
    assert listener.topics(container)[2:] == ["/tasks/paused", "/tasks/resumed"]


def test_a_failed_start_gives_no_start_event(ctr: Ctr, listener: Listener) -> None:
    container = ctr.new_id()
    assert ctr.call(*ctr.run_args(container, ("/no/such/binary",))).code != 0
    ctr.check("namespaces", "create", "after")
    ctr.check("namespaces", "remove", "after")
    until(lambda: any('"after"' in line for line in listener.lines), "a later event")
    assert "/tasks/start" not in listener.topics(container)

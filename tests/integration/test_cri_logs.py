"""The container's output in the CRI log file: complete, byte for byte, through rotation."""

import hashlib

import pytest

from tests.integration.pods import Pods, read_log
from tests.integration.waiting import until

MEGABYTES = 100


@pytest.mark.smoke
def test_output_and_errors_are_logged_apart(pods: Pods) -> None:
    container = pods.run().run("sh", "-c", "echo out; echo err >&2; printf unfinished")
    container.wait()
    container.wait_output(b"out\nunfinished")
    container.wait_output(b"err\n", "stderr")


def test_a_hundred_megabytes_are_logged_byte_for_byte(pods: Pods) -> None:
    """Numbered lines of 64 KiB, so that this tells of the shim rather than of the log's bookkeeping.

    The writer lives on for a second: containerd 1.6 stops reading when it hears of the exit.
    """
    line = "x" * 65527
    script = f'BEGIN {{ for (i = 0; i < {MEGABYTES * 16}; i++) printf "%08d{line}\\n", i }}'
    pod = pods.run()
    container = pod.run("sh", "-c", f"awk '{script}'; sleep 1")
    status = container.wait(timeout_s=90)
    assert status.exit_code == 0
    expected = hashlib.sha256()
    for number in range(MEGABYTES * 16):
        expected.update(b"%08d%s\n" % (number, line.encode()))
    until(lambda: len(container.output()) >= MEGABYTES << 20, "the last lines", every_s=0.5)
    logged = container.output()
    assert len(logged) == MEGABYTES << 20
    assert hashlib.sha256(logged).hexdigest() == expected.hexdigest()


@pytest.mark.defect("containerd 1.6 stops reading when it hears of the exit", containerd="1.6")
def test_a_container_that_writes_and_exits_at_once_loses_nothing(pods: Pods) -> None:
    pod = pods.run()
    containers = {count: pod.run("seq", "1", str(count), name=f"app{count}") for count in (1, 10, 1000, 20000)}
    for count, container in containers.items():
        assert container.wait().exit_code == 0
        container.wait_output(b"".join(b"%d\n" % number for number in range(1, count + 1)))


def test_a_reopened_log_goes_on_in_a_new_file(pods: Pods) -> None:
    script = "echo before; until [ -e /tmp/go ]; do sleep 0.05; done; echo after"
    container = pods.run().run("sh", "-c", script)
    until(lambda: container.output() == b"before\n", "the first line")
    rotated = container.log.with_suffix(".1")
    container.log.rename(rotated)
    container.reopen_log()
    container.shell("touch /tmp/go")
    container.wait()
    container.wait_output(b"after\n")
    assert read_log(rotated, "stdout") == b"before\n"

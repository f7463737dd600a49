"""Streaming exec and attach: stdin, terminals, sizes."""

import re

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration.pods import Pods
from tests.integration.test_cri_containers import FOREVER


@pytest.mark.smoke
def test_an_exec_stream_carries_all_three_streams_and_the_exit_code(pods: Pods) -> None:
    container = pods.run().run(*FOREVER)
    with container.open_exec("sh", "-c", "read line; echo got $line; echo err >&2; exit 3") as stream:
        stream.write(b"hello\n")
        assert stream.read_all() == b"got hello\n"
        assert bytes(stream.output[2]) == b"err\n"
        assert stream.exit_code() == 3


def test_a_megabyte_through_an_exec_comes_back_unchanged(pods: Pods) -> None:
    data = b"".join(b"%07d\n" % number for number in range(1 << 17))
    container = pods.run().run(*FOREVER)
    with container.open_exec("sh", "-c", f"head -c {len(data)} > /tmp/copy; echo read; cat /tmp/copy") as stream:
        stream.write(data)
        assert stream.read_all() == b"read\n" + data


@pytest.mark.smoke
def test_the_terminal_of_an_exec_has_the_size_the_client_gives_it(pods: Pods) -> None:
    container = pods.run().run(*FOREVER)
    with container.open_exec("sh", tty=True) as stream:
        stream.resize(123, 45)
        stream.write(b"until [ \"$(stty size)\" = '45 123' ]; do sleep 0.05; done; echo size-$(stty size)\n")
        stream.read_until(b"size-45 123")
        stream.resize(99, 33)
        stream.write(b"until [ \"$(stty size)\" = '33 99' ]; do sleep 0.05; done; echo size-$(stty size)\n")
        stream.read_until(b"size-33 99")
        stream.write(b"exit 4\n")
        stream.read_all()
        assert stream.exit_code() == 4


def test_control_c_on_the_terminal_of_an_exec_interrupts(pods: Pods) -> None:
    container = pods.run().run(*FOREVER)
    with container.open_exec("sh", "-c", "echo ready; exec sleep 300", tty=True) as stream:
        stream.read_until(b"ready")
        stream.write(b"\x03")
        stream.read_all()
        assert stream.exit_code() == 130


def test_an_exec_with_a_terminal_ends_with_its_process_whoever_else_holds_the_terminal(pods: Pods) -> None:
    container = pods.run().run(*FOREVER)
    with container.open_exec("sh", tty=True) as stream:
        stream.write(b"(trap '' HUP; exec sleep 1000) & echo begun-$!; exit 5\n")
        assert re.search(rb"begun-\d", stream.read_all())
        assert stream.exit_code() == 5


@pytest.mark.smoke
def test_attach_carries_stdin_and_output(pods: Pods) -> None:
    config = pb.ContainerConfig(stdin=True)
    container = pods.run().run("sh", "-c", "while read line; do echo got $line; done", config=config)
    with container.attach() as stream:
        stream.write(b"one\n")
        stream.read_until(b"got one\n")
    with container.attach() as stream:
        stream.write(b"two\n")
        stream.read_until(b"got two\n")
    container.wait_output(b"got one\ngot two\n")


def test_with_stdin_once_the_container_sees_the_end_when_the_client_leaves(pods: Pods) -> None:
    config = pb.ContainerConfig(stdin=True, stdin_once=True)
    container = pods.run().run("sh", "-c", "cat; exit 9", config=config)
    with container.attach() as stream:
        stream.write(b"text\n")
        stream.read_until(b"text\n")
    assert container.wait().exit_code == 9


def test_the_terminal_of_a_container_is_attached_and_resized(pods: Pods) -> None:
    container = pods.run().run("sh", config=pb.ContainerConfig(stdin=True, tty=True))
    with container.attach(tty=True) as stream:
        stream.resize(132, 43)
        stream.write(b"until [ \"$(stty size)\" = '43 132' ]; do sleep 0.05; done; echo size-$(stty size)\n")
        stream.read_until(b"size-43 132")
        stream.write(b"tty; exit 6\n")
        output = stream.read_all()
    assert re.search(rb"/dev/(pts/\d+|console)", output)
    assert container.wait().exit_code == 6


def test_a_terminal_that_nobody_holds_for_a_while_goes_on(pods: Pods) -> None:
    """As an init has /dev/console, which opens it for each line."""
    script = "for word in one two; do (echo $word) >/dev/console; sleep 0.3; done"
    container = pods.run().run(
        "sh", "-c", f"exec </dev/null >/dev/null 2>&1; {script}", config=pb.ContainerConfig(tty=True)
    )
    assert container.wait().exit_code == 0
    container.wait_output(b"one\ntwo\n")

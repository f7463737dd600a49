"""Where a container's stdio goes: client, terminal, file, logging binary."""

import os
import pty
import re
import subprocess
import threading

import pytest

from tests.integration.ctr import Ctr
from tests.integration.waiting import until

LOGGER = """#!/bin/sh
# A logging binary: stdout's pipe is fd 3, stderr's fd 4, closing fd 5 says ready; arguments are KEY VALUE.
exec 5>&-
echo "$CONTAINER_NAMESPACE/$CONTAINER_ID $1" > "$2.who"
cat <&3 > "$2.out" &
cat <&4 > "$2.err" &
trap '' TERM
wait
"""


def read_while_it_runs(ctr: Ctr, script: str, length: int, *, stdin: bytes = b"") -> bytes:
    """The first `length` bytes that a container prints, which runs until they are read and then ends with 0.

    ctr closes its end when it hears of the exit (client/task.go, Delete; pkg/cio/io_unix.go), and the shim of
    containerd 1.x waits two seconds for it: what then is not read yet is lost with either.
    """
    container = ctr.new_id()
    command = ("sh", "-c", f"trap 'exit 0' TERM; {script}; sleep 1000 & wait")
    with ctr.open(*ctr.run_args(container, command, ("--rm",))) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        writer = threading.Thread(target=lambda: (process.stdin.write(stdin), process.stdin.close()))
        writer.start()
        found = process.stdout.read(length)
        writer.join()
        ctr.kill(container, "TERM")
        assert process.stdout.read() == b""
        assert process.wait() == 0
    return found


@pytest.mark.smoke
def test_stdin_of_a_container_arrives_whole_and_ends(ctr: Ctr) -> None:
    data = os.urandom(5 << 20)
    end = b"and it ended\n"
    assert read_while_it_runs(ctr, "cat; echo and it ended", len(data + end), stdin=data) == data + end


def test_a_reader_that_leaves_early_does_not_hang_the_client(ctr: Ctr) -> None:
    result = ctr.run("head", "-c", "1", stdin=b"x" * (1 << 20), timeout_s=20)
    assert (result.code, result.stdout) == (0, b"x")


def test_null_io_is_nowhere(ctr: Ctr) -> None:
    result = ctr.run("sh", "-c", "echo lost; exit 4", flags=("--null-io",))
    assert (result.code, result.stdout) == (4, b"")


def test_a_terminal_merges_the_streams_and_translates_newlines(ctr: Ctr) -> None:
    master, slave = pty.openpty()
    command = ctr.argv(*ctr.run_args(ctr.new_id(), ("sh", "-c", "tty; echo err >&2; exit 6"), ("--rm", "--tty")))
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave)
    os.close(slave)
    seen = b""
    try:
        while chunk := os.read(master, 4096):
            seen += chunk
    except OSError:  # EIO: the last slave was closed
        pass
    os.close(master)
    assert process.wait(timeout=20) == 6
    assert re.search(rb"/dev/(pts/\d+|console)\r+\nerr\r+\n", seen), seen


def test_output_goes_to_the_client_s_fifo_itself(ctr: Ctr) -> None:
    if ctr.environment.runtime == "runc.v2":
        pytest.skip("containerd's own shim copies")
    result = ctr.run("sh", "-c", "readlink /proc/self/fd/1; readlink /proc/self/fd/2; echo again > /dev/stdout")
    out, err, again = result.stdout.decode().splitlines()
    assert out.endswith("-stdout"), out
    assert err.endswith("-stderr"), err
    assert again == "again"


def test_who_opens_files_by_handle_gets_no_file_of_the_host(ctr: Ctr) -> None:
    result = ctr.run("readlink", "/proc/self/fd/1", flags=("--cap-add", "CAP_DAC_READ_SEARCH"))
    assert re.fullmatch(rb"pipe:\[\d+\]\n", result.stdout), result.stdout


@pytest.mark.defect("the shim of containerd 1.6.20 now and then loses a stream", containerd="1.6", runtime="runc.v2")
def test_a_file_log_gets_both_streams(ctr: Ctr) -> None:
    log = ctr.node.base / "logs-of-ctr" / f"{ctr.new_id()}.log"
    container = ctr.start("sh", "-c", "echo out; echo err >&2", flags=("--log-uri", f"file://{log}"))
    ctr.wait_stopped(container)
    ctr.delete(container)
    assert sorted(log.read_text().splitlines()) == ["err", "out"]


def test_a_file_log_is_appended_to(ctr: Ctr) -> None:
    log = ctr.node.base / f"{ctr.new_id()}.log"
    log.write_text("before\n")
    container = ctr.start("echo", "after", flags=("--log-uri", f"file://{log}"))
    ctr.wait_stopped(container)
    ctr.delete(container)
    assert log.read_text() == "before\nafter\n"


def test_a_logging_binary_gets_both_streams_its_arguments_and_the_container_s_name(ctr: Ctr) -> None:
    logger, out = ctr.node.base / "logger.sh", ctr.node.base / f"logged-{ctr.new_id()}"
    logger.write_text(LOGGER)
    logger.chmod(0o755)
    uri = f"binary://{logger}?out={out}"
    container = ctr.start("sh", "-c", "echo out; echo err >&2; exit 2", flags=("--log-uri", uri))
    ctr.wait_stopped(container)
    assert ctr.delete(container) == 2
    until(lambda: out.with_suffix(".err").read_text() == "err\n", "stderr to be logged")
    assert out.with_suffix(".out").read_text() == "out\n"
    assert out.with_suffix(".who").read_text() == f"default/{container} out\n"


def test_ten_megabytes_arrive_whole_and_in_order(ctr: Ctr) -> None:
    expected = "".join(f"{number}\n" for number in range(1, 1500001)).encode()
    assert read_while_it_runs(ctr, "seq 1 1500000", len(expected)) == expected

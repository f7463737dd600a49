"""Log lines, and a FIFO that nobody reads."""

import logging
import os
import re
from pathlib import Path

from shim.pod.log import FifoHandler, format_record


def record(text: str, level: int = logging.INFO) -> logging.LogRecord:
    return logging.LogRecord("x", level, "file", 1, text, None, None)


def test_a_record_is_one_logfmt_line():
    line = format_record(record('say "hi"\\\r\nthere', logging.WARNING))
    assert re.fullmatch(
        r'time="\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z" level=warning msg="say \\"hi\\"\\\\\\r\\nthere" '
        r"runtime=io\.containerd\.pouchrich\.v2\n",
        line,
    )


def test_a_traceback_stays_on_the_line():
    try:
        raise ValueError("why")
    except ValueError as err:
        made = logging.LogRecord("x", logging.ERROR, "f", 1, "bug", None, (ValueError, err, err.__traceback__))
    line = format_record(made)
    assert line.count("\n") == 1
    assert "ValueError: why" in line


def test_levels_are_containerds_words():
    levels = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)
    found = [re.search(r"level=(\w+)", format_record(record("x", level))) for level in levels]
    assert [one and one[1] for one in found] == ["debug", "info", "warning", "error", "fatal"]


def test_without_a_reader_lines_are_kept_then_dropped_and_never_block(tmp_path: Path):
    path = tmp_path / "log"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    handler = FifoHandler(fd)
    for number in range(3000):
        handler.emit(record(f"line {number}"))
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    kept = os.read(reader, 1 << 20).decode()
    lines = kept.splitlines()
    assert 0 < len(lines) < 3000
    assert kept.endswith("\n")
    assert all(line.endswith("v2") for line in lines)
    handler.emit(record("room again"))
    assert b"room again" in os.read(reader, 1 << 16)
    os.close(fd)
    os.close(reader)


def test_a_line_that_found_only_half_its_room_does_not_join_the_next(tmp_path: Path):
    path = tmp_path / "log"
    os.mkfifo(path)
    fd = os.open(path, os.O_RDWR | os.O_NONBLOCK)
    handler = FifoHandler(fd)
    os.write(fd, b"." * (60 * 1024 - 1) + b"\n")
    handler.emit(record("x" * 20_000))  # more than PIPE_BUF: the kernel may take a part
    taken = os.read(fd, 1 << 20)
    handler.emit(record("next"))
    whole = (taken + os.read(fd, 1 << 20)).splitlines()
    assert whole[-1].startswith(b"time=")
    assert whole[-1].count(b'time="') == 1
    assert b'msg="next"' in whole[-1]
    os.close(fd)


def test_what_would_steer_a_terminal_is_escaped():
    assert r'msg="\x1b[2J\udcff köln\n"' in format_record(record("\x1b[2J\udcff köln\n"))

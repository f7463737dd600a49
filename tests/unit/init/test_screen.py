"""runtime.init.screen: what is read of a console in the end."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.init import screen
from shim.task.application import boot_console

JOB = "[{0}] Job stuck.service/start running ({1}s / no limit)"
BAD = "\N{REPLACEMENT CHARACTER}"
FRAMES = ("***   ", " ***  ", "  *** ", "   ***")


def animated(seconds, *, end="\r", begin="\x1b[K"):
    return "".join(f"{begin}{JOB.format(FRAMES[second % 4], second)}{end}" for second in range(1, seconds + 1)).encode()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"one\ntwo\r\n", ["one", "two"]),
        (b"\x1b[0;1;31mred\x1b[0m\n", ["red"]),
        (b"[\x1b[0;32m  OK  \x1b[0m] Started \x1b[0;1;39mcron\x1b[0m.\n", ["[  OK  ] Started cron."]),
        (b"abc\rX", ["Xbc"]),
        (b"abc\r\x1b[KX\n", ["X"]),
        (b"abc\b\bX", ["aXc"]),
        (b"a\tb", ["a       b"]),
        (b"one\ntwo\x1b[1A\rONE\x1b[1B\rTWO", ["ONE", "TWO"]),
        (b"one\ntwo\x1b[2Jthree", ["three"]),
        (b"one\ntwo\x1b[H\x1b[Jx", ["x"]),
        (b"12345\x1b[3D\x1b[1KX", ["X45"]),
        (b"\x1b]0;a title\x07seen", ["seen"]),
        (b"\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\ seen", ["link seen"]),
        (b"\x1bP1$r0m\x1b\\\x1b(B\x1b=\x1b7seen\x1b8", ["seen"]),
        (b"seen\x1b]0;never ends", ["seen"]),
        (b"seen\x1b[12", ["seen12"]),
        (b"bell\x07\x00\x7f\n", ["bell"]),
        (b"\xff\xfe text \xc3(", [f"{BAD}{BAD} text {BAD}("]),
        ("\u202eevil\u200b".encode(), [f"{BAD}evil{BAD}"]),
        (b"\xc2\x9b31mx", ["31mx"]),
        (b" \n\n  \t\n", []),
        (b"", []),
        (b"\x1b[999999999999C" + b"x", []),
        (b"x" * 999, ["x" * screen.COLUMNS]),
    ],
)  # fmt: skip
def test_what_is_left_on_the_terminal_is_read(data, lines):
    assert screen.lines(data) == lines


@pytest.mark.parametrize(("begin", "end"), [("\x1b[K", "\r"), ("\r\x1b[K", ""), ("", "\n"), ("\r", "")])
def test_a_job_that_is_drawn_again_each_second_is_there_once_as_it_was_last(begin, end):
    data = b"[  OK  ] Reached target basic.target.\r\n" + animated(40, begin=begin, end=end)
    assert screen.lines(data) == ["[  OK  ] Reached target basic.target.", JOB.format("***   ", 40)]


def test_of_several_jobs_each_is_there():
    frames = [
        f"\r\x1b[K[*     ] ({n % 2 + 1} of 2) Job {'ab'[n % 2]}.service/start running ({n}s / 90s)" for n in range(9)
    ]
    read = screen.lines("".join(frames).encode())
    assert read == [
        "[*     ] (2 of 2) Job b.service/start running (7s / 90s)",
        "[*     ] (1 of 2) Job a.service/start running (8s / 90s)",
    ]


def test_a_job_that_is_over_is_not_there():
    data = animated(3) + b"\x1b[K[  OK  ] Finished stuck.service.\r\n"
    assert screen.lines(data) == ["[  OK  ] Finished stuck.service."]


def test_what_is_still_being_started_is_shown_although_much_was_said_after_it():
    over = [
        "Starting a-long-name-of-a.serv\u2026rst of all...",
        "[  OK  ] Finished a-long-name-of-a.\u2026ce - The first of all.",
    ]
    lines = ["Starting stuck.service...", *over, *(f"[  OK  ] Started {n}." for n in range(20))]
    assert screen.end(lines, 3) == [lines[0], *lines[-3:]]


def test_what_failed_is_shown_although_much_was_said_after_it():
    lines = ["[FAILED] Failed to start a.", *(f"[  OK  ] Started {n}." for n in range(20))]
    assert screen.end(lines, 3) == [lines[0], *lines[-3:]]
    assert screen.end(lines[:2], 3) == lines[:2]


def test_an_animation_does_not_push_out_what_was_said_before_it():
    kept = b""
    for chunk in (b"[FAILED] Failed to start it.\r\n", *[animated(10)] * 500):
        kept = boot_console.kept(kept, chunk)
        assert len(kept) <= boot_console.MOST_BYTES + len(chunk)
    assert screen.lines(kept) == ["[FAILED] Failed to start it.", JOB.format("  *** ", 10)]


@given(st.lists(st.one_of(st.binary(), st.sampled_from([b"\x1b[", b"\x1b]", b"\r", b"\n", b"[*** ] a", b"\x1b[5A"]))))
def test_any_bytes_give_bounded_printable_lines(parts):
    kept = b""
    for part in parts * 3:
        kept = boot_console.kept(kept, part)
    for read in (screen.lines(b"".join(parts)), screen.lines(kept)):
        assert len(read) <= screen.ROWS
        assert all(line.isprintable() and line.strip() and len(line) <= screen.COLUMNS for line in read)
        " | ".join(read).encode()


def test_a_job_that_comes_and_goes_costs_no_more_than_other_text():
    """Each `\\r[` makes the line one of a job's again, which was searched for its times as often as it has slashes."""
    job = b"[*   ] (" + b"/" * (screen.COLUMNS - 8)
    data = (job + b"\r[\rA" * 4096)[:16384]
    began = time.process_time()
    assert screen.lines(data)
    assert time.process_time() - began < 0.5


def test_what_failed_first_is_not_scrolled_away_by_a_shutdown():
    failed = [f"[FAILED] Failed to start {number}.service." for number in range(6)]
    said = ["[  OK  ] Reached target a.", *failed, *(f"[  OK  ] Stopped {number}." for number in range(100))]
    found = screen.lines("\r\n".join(said).encode())
    assert len(found) == screen.ROWS
    assert found[:5] == [*failed[:4], "[  OK  ] Stopped 40."]
    assert screen.end(found, 2) == [*failed[:4], "[  OK  ] Stopped 98.", "[  OK  ] Stopped 99."]

import asyncio
import os
import sys
import time

import pytest

from runtime.errors import DeadlineExceeded
from shim.task.rich.probe import LIMIT, ask
from tests.fakes.loop import in_loop, open_fds, until


class Children:
    """What `ask` needs of a reaper, for a process that has other children too."""

    def __init__(self):
        self.pid = 0

    def spawn(self, argv, fds, env):
        from shim.task.reaper import Reaper

        loop = asyncio.get_running_loop()
        child = Reaper(loop).spawn(argv, fds, env)
        self.pid = child.pid
        watch = os.pidfd_open(child.pid)

        def ended():
            loop.remove_reader(watch)
            os.close(watch)
            status = os.waitstatus_to_exitcode(os.waitpid(child.pid, 0)[1])
            if not child.ended.done():
                child.ended.set_result(type("Exit", (), {"status": status})())

        loop.add_reader(watch, ended)
        return child


def python(code):
    return [sys.executable, "-I", "-S", "-c", code]


@in_loop
async def test_a_question_is_read_and_the_answer_comes_back_with_the_status():
    code = "import sys; sys.stdout.write(sys.stdin.read().upper()); sys.exit(3)"
    before = open_fds()
    assert await ask(Children(), python(code), timeout_s=10, question=b"x" * 200_000) == (3, b"X" * LIMIT)
    assert open_fds() == before


@in_loop
async def test_a_descriptor_is_passed_under_its_number():
    reader, writer = os.pipe()
    os.write(writer, b"seen")
    try:
        answer = await ask(Children(), python("import os; os.write(1, os.read(3, 9))"), timeout_s=10, fds={3: reader})
    finally:
        os.close(reader)
        os.close(writer)
    assert answer == (0, b"seen")


@in_loop
async def test_a_program_that_does_not_end_is_killed_and_not_waited_for():
    children, before = Children(), time.monotonic()
    with pytest.raises(DeadlineExceeded, match=r"no answer within 0\.2 s"):
        await ask(children, python("import time; print(1, flush=True); time.sleep(60)"), timeout_s=0.2)
    assert time.monotonic() - before < 5
    assert children.pid > 0
    await until(lambda: not os.path.exists(f"/proc/{children.pid}"))


@in_loop
async def test_a_program_that_is_not_there_is_an_error_and_leaks_nothing():
    before = open_fds()
    with pytest.raises(FileNotFoundError):
        await ask(Children(), ["/nonexistent/program"], timeout_s=1)
    assert open_fds() == before

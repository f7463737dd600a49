"""shim.task.application.boot_queue: a turn is waited for without blocking, and given up when it is called off."""

import asyncio
import os

from runtime.init.boot_tickets import Ticket
from shim.task.application.boot_queue import BootQueue
from tests.fakes.loop import in_loop


async def not_over(seconds):
    await asyncio.sleep(0)
    return False


def queue(tmp_path, name="c", at_once=1):
    return BootQueue(("ns", name), at_once, root=str(tmp_path / "boot"))


def tickets(tmp_path):
    return [name for name in os.listdir(tmp_path / "boot") if not name.startswith(".")]


@in_loop
async def test_turns_come_in_order_and_nobody_blocks(tmp_path):
    queues = [queue(tmp_path, str(number)) for number in range(4)]
    order = []

    async def boot(one, name):
        assert await one.wait_for_turn(not_over)
        order.append(name)
        await asyncio.sleep(0.01)
        one.leave()

    await asyncio.gather(*(boot(one, number) for number, one in enumerate(queues)))
    assert order == [0, 1, 2, 3]
    assert tickets(tmp_path) == []


@in_loop
async def test_a_wait_that_is_called_off_leaves_no_place(tmp_path):
    first = Ticket(("ns", "first"), root=str(tmp_path / "boot"))

    async def over(seconds):
        return True

    assert not await queue(tmp_path).wait_for_turn(over)
    assert len(tickets(tmp_path)) == 1
    waiting = asyncio.ensure_future(queue(tmp_path).wait_for_turn(not_over))
    await asyncio.sleep(0.01)
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    assert len(tickets(tmp_path)) == 1
    first.close()


@in_loop
async def test_who_is_further_behind_looks_less_often(tmp_path):
    tickets = [Ticket(("ns", str(number)), root=str(tmp_path / "boot")) for number in range(60)]
    waits = []

    async def over(seconds):
        waits.append(seconds)
        return True

    await queue(tmp_path).wait_for_turn(over)
    for one in tickets[1:]:
        one.close()
    await queue(tmp_path).wait_for_turn(over)
    tickets[0].close()
    assert waits == [0.5, 0.02]


@in_loop
async def test_a_queue_that_cannot_be_had_holds_nobody_up(tmp_path, caplog):
    (tmp_path / "boot").write_text("")
    assert await queue(tmp_path).wait_for_turn(not_over)
    assert "boots without waiting" in caplog.text

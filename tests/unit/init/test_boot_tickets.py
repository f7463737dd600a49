"""runtime.init.boot_tickets: a queue of locked files."""

import os
import signal

import pytest

from runtime.init import boot_tickets
from runtime.init.boot_tickets import BOOTING, WAITING, Ticket


@pytest.fixture
def queue(tmp_path):
    return str(tmp_path / "boot")


def take(queue, name):
    return Ticket(("ns", name), root=queue)


def test_who_comes_first_boots_first_and_as_many_as_may(queue):
    tickets = [take(queue, str(number)) for number in range(5)]
    assert [one.may_boot(2) for one in tickets] == [True, True, False, False, False]
    tickets[1].close()
    assert [one.may_boot(2) for one in (tickets[4], tickets[3], tickets[2])] == [False, False, True]
    assert boot_tickets.states(root=queue) == {
        ("ns", "0"): BOOTING,
        ("ns", "2"): BOOTING,
        ("ns", "3"): WAITING,
        ("ns", "4"): WAITING,
    }
    for one in tickets:
        one.close()
        one.close()
    assert os.listdir(queue) == []


def test_a_killed_holder_makes_room_and_leaves_nothing(queue):
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        ticket = take(queue, "killed")
        os.write(writer, b"x" if ticket.may_boot(1) else b"-")
        signal.pause()
    assert os.read(reader, 1) == b"x"
    mine = take(queue, "mine")
    assert not mine.may_boot(1)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert mine.may_boot(1)
    assert boot_tickets.states(root=queue) == {("ns", "mine"): BOOTING}
    mine.close()
    assert os.listdir(queue) == []


def test_a_ticket_that_is_being_made_is_none_yet(queue):
    mine = take(queue, "mine")
    os.makedirs(queue, exist_ok=True)
    open(f"{queue}/.new-1", "w").close()
    assert mine.may_boot(1)
    assert set(boot_tickets.states(root=queue)) == {("ns", "mine")}


def test_only_root_looks_into_it(queue):
    take(queue, "mine")
    assert os.stat(queue).st_mode & 0o777 == 0o700


def test_without_a_queue_nobody_waits(tmp_path):
    assert boot_tickets.states(root=str(tmp_path / "none")) == {}

"""runtime.init.boot_tickets: a queue of locked files."""

import os
import signal

import pytest

from runtime.init import boot_tickets
from runtime.init.boot_tickets import BOOTING, WAITING, Ticket


@pytest.fixture
def queue(tmp_path):
    return str(tmp_path / "boot")


def take(queue, name, tenant=""):
    return Ticket(("ns", name), tenant, root=queue)


def tickets_in(queue):
    return [name for name in os.listdir(queue) if not name.startswith(".last-")]


def may(tickets, at_once):
    """The names of those that may boot, asked again and again in the order of `tickets`."""
    found = []
    while True:
        more = [name for name, one in tickets.items() if name not in found and one.may_boot(at_once)]
        if not more:
            return found
        found += more


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
    assert tickets_in(queue) == []


def test_a_tenant_with_many_boots_holds_up_another_by_half_of_the_places_at_most(queue):
    """Which boot slowly, and could otherwise outlast the two minutes that the kubelet gives another tenant's start."""
    tickets = {f"a{number}": take(queue, f"a{number}", "a") for number in range(8)}
    assert may(tickets, 4) == ["a0", "a1", "a2", "a3"]
    tickets |= {f"b{number}": take(queue, f"b{number}", "b") for number in range(3)}
    waiting = {name: one for name, one in tickets.items() if name not in ("a0", "a1", "a2", "a3")}
    assert may(waiting, 4) == ["b0", "b1"]
    for name in ("a0", "a1"):
        tickets.pop(name).close()
        waiting.pop(name, None)
    assert may({name: one for name, one in waiting.items() if name not in ("b0", "b1")}, 4) == []
    for name in ("a2", "b0"):
        tickets.pop(name).close()
        waiting.pop(name, None)
    assert may({name: one for name, one in waiting.items() if name != "b1"}, 4) == ["a4", "b2"]


def test_of_those_that_wait_the_tenants_take_turns(queue):
    waiting = {name: take(queue, name, name[0]) for name in ("a0", "a1", "a2", "b0", "b1", "c0")}
    booting, order = [], []
    while waiting:
        for name in may(waiting, 2):
            booting.append(waiting.pop(name))
            order.append(name)
        booting.pop(0).close()
    assert order == ["a0", "b0", "c0", "a1", "b1", "a2"]


def test_a_tenant_is_forgotten_after_a_while(queue, monkeypatch):
    one = take(queue, "c", "a")
    assert one.may_boot(1)
    one.close()
    assert os.listdir(queue) == [".last-a"]
    monkeypatch.setattr(boot_tickets, "_FORGOTTEN_NS", 0)
    other = take(queue, "d", "b")
    assert other.may_boot(1)
    other.close()
    assert os.listdir(queue) == [".last-b"]


def test_tickets_of_an_earlier_version_name_no_tenant(queue):
    old = take(queue, "old")
    (name,) = tickets_in(queue)
    assert "." not in name
    assert [take(queue, str(number), "a").may_boot(1) for number in range(2)] == [False, False]
    old.close()


@pytest.mark.parametrize("tenant", ["a/b", "../a", "A" * 300, "."])
def test_no_name_of_a_tenant_leads_elsewhere(queue, tenant):
    one = take(queue, "c", tenant)
    assert len(tickets_in(queue)) == 1
    assert one.may_boot(1)
    one.close()
    assert tickets_in(queue) == []


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
    assert tickets_in(queue) == []


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

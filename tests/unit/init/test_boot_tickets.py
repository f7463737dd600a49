"""runtime.init.boot_tickets: a queue of locked files."""

import os
import signal

import pytest

from runtime.init import boot_tickets
from runtime.init.boot_tickets import BOOTING, WAITING, Ticket


class Queue(str):
    """The path of a queue's directory. `taken` are the tickets, each with a descriptor, that a test leaves open."""

    taken: list


@pytest.fixture
def queue(tmp_path):
    found = Queue(tmp_path / "boot")
    found.taken = []
    yield found
    for ticket in found.taken:
        ticket.close()


def take(queue, name, tenant=""):
    queue.taken.append(Ticket(("ns", name), tenant, root=queue))
    return queue.taken[-1]


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


@pytest.mark.parametrize("at_once", [1, 2, 4, 8])
def test_tenants_with_many_boots_keep_none_of_a_few_others_from_booting(queue, at_once):
    """Their boots may take longer than the two minutes that the kubelet gives another tenant's start."""
    tickets = {f"a{number}": take(queue, f"a{number}", "a") for number in range(3 * at_once)}
    began = may(tickets, at_once)
    assert began == [f"a{number}" for number in range(at_once)]
    for tenant in "bcdefg":
        tickets |= {f"{tenant}{number}": take(queue, f"{tenant}{number}", tenant) for number in range(3)}
        began += may({name: one for name, one in tickets.items() if name not in began}, at_once)
    beyond = max(1, at_once // 2)
    assert began[at_once:] == [f"{tenant}0" for tenant in "bcdefg"[:beyond]]
    for name in began[:2]:
        tickets.pop(name).close()
    assert len(may({name: one for name, one in tickets.items() if name not in began}, at_once)) == 2


def test_a_tenant_of_which_something_boots_waits_for_one_of_the_usual_places(queue):
    tickets = {name: take(queue, name, name[0]) for name in ("a0", "a1", "b0", "b1")}
    assert may(tickets, 2) == ["a0", "b0"]
    tickets.pop("a0").close()
    assert may({name: tickets[name] for name in ("a1", "b1")}, 2) == ["a1"]


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
    assert [take(queue, str(number), "a").may_boot(1) for number in range(2)] == [True, False]
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

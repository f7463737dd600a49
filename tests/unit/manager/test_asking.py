"""shim.manager.start: which spawner is asked, for how long, and that what was given up is never carried out."""

import os
import socket
from types import SimpleNamespace

import pytest

from shim.manager import start
from shim.manager.start import BEGIN_TRIES, TAKEN_TIMEOUT_S, NoSpawner
from shim.spawner import launch
from shim.spawner.request import DONE, READY, REFUSED, TAKEN


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


def test_a_socket_of_another_user_is_told_nothing(tmp_path, monkeypatch):
    path = str(tmp_path / "s")
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(path)
        listener.listen()
        monkeypatch.setattr(start, "_peer", lambda peer: (4711, os.geteuid() + 1))
        with pytest.raises(NoSpawner, match="found a socket of uid"):
            start.ask(path, b"secret")
        with listener.accept()[0] as connection:
            assert connection.recv(100) == b""


def test_what_was_given_up_can_be_taken_no_more(pair, tmp_path):
    ours, theirs = pair
    ours.settimeout(0)
    with pytest.raises(OSError):  # noqa: PT011 - which one is the socket's affair
        start._await_taken(ours, str(tmp_path / "no lock"))
    ours.settimeout(0.001)
    with pytest.raises(TimeoutError):
        start._await_taken(ours, str(tmp_path / "no lock"))
    with pytest.raises(BrokenPipeError):
        theirs.send(TAKEN)


def test_what_was_taken_at_the_last_moment_is_taken(monkeypatch, pair):
    ours, theirs = pair

    def too_late(peer, lock):
        theirs.send(TAKEN)
        raise TimeoutError

    monkeypatch.setattr(start, "_first_word", too_late)
    start._await_taken(ours, "")


@pytest.mark.parametrize(("word", "why"), [(REFUSED + b"no such key", "no such key"), (b"", "hung up")])
def test_a_refusal_is_told_from_an_end(pair, word, why):
    ours, theirs = pair
    theirs.send(word) if word else theirs.close()
    with pytest.raises(ConnectionResetError, match=why):
        start._await_taken(ours, "")


class Slow:
    """A spawner's end of a connection: it says TAKEN after so many waits, each as long as the time-out."""

    def __init__(self, monkeypatch, waits):
        self.left = waits
        self.now = 1_000.0
        monkeypatch.setattr(start, "time", SimpleNamespace(monotonic=lambda: self.now, time=lambda: self.now))

    def recv(self, size):
        self.now += TAKEN_TIMEOUT_S
        if not self.left:
            return TAKEN
        self.left -= 1
        raise TimeoutError


def lock(tmp_path, text, at):
    path = tmp_path / "s.lock"
    path.write_bytes(text)
    os.utime(path, (at, at))
    return str(path)


def test_a_spawner_that_is_being_begun_has_longer_but_not_for_ever(tmp_path, monkeypatch):
    beginning = lock(tmp_path, b"4711", 0)
    assert start._first_word(Slow(monkeypatch, 3), beginning) == TAKEN
    with pytest.raises(TimeoutError):
        start._first_word(Slow(monkeypatch, 100), beginning)


def test_a_spawner_that_serves_has_a_second(tmp_path, monkeypatch):
    slow = Slow(monkeypatch, 3)
    with pytest.raises(TimeoutError):
        start._first_word(slow, lock(tmp_path, b"4711 " + READY, 0))
    assert slow.left == 2


@pytest.fixture
def alone(monkeypatch):
    """What is done without a spawner: the reason is in `said`, and of each spawner begun whom it replaces."""
    found = SimpleNamespace(said=[], begun=[], asks=[])
    monkeypatch.setattr(start, "_run_without_spawner", lambda message, reason: found.said.append(reason) or DONE)
    monkeypatch.setattr(launch, "ensure_spawner", lambda key, *, hung: found.begun.append(hung) or True)
    monkeypatch.setattr(launch, "read_refusal", lambda path: "")

    def ask(path, message):
        raise found.asks.pop(0)

    monkeypatch.setattr(start, "_ask_when_there", ask)
    return found


def test_a_second_spawner_that_hangs_is_the_last(alone):
    alone.asks = [NoSpawner("hangs too", 5)] * 9
    assert start._ask_new_spawner("1", b"", NoSpawner("hangs", 4)) == DONE
    assert (alone.begun, alone.said) == ([4], ["hangs too"])


def test_a_spawner_that_is_killed_on_its_way_is_begun_again_some_times(alone):
    alone.asks = [NoSpawner("gone")] * 9
    assert start._ask_new_spawner("1", b"", NoSpawner("none", is_absent=True)) == DONE
    assert (len(alone.begun), alone.said) == (BEGIN_TRIES, ["gone"])

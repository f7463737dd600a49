"""runtime.hooks.journal: at most once, never forgotten, whatever point a crash comes at."""

import json
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.hooks import journal as journal_module
from runtime.hooks.journal import Journal, path_of, records
from runtime.hooks.journal_state import parse_journal

HEAD = {"boot": "b", "hooks": [{"name": "one"}, {"name": "two"}], "pinned": ""}


@pytest.fixture
def path(tmp_path):
    return path_of(str(tmp_path / "poststop"), "k8s.io", "c1")


def content(path):
    """What a record has of lines, without the room for more."""
    with open(path, "rb") as file:
        return file.read().rstrip(b"\0")


def crash(journal):
    """The holder is gone: the kernel closes its descriptors."""
    journal.close()


def test_a_record_is_roots_alone(path):
    Journal.create(path, HEAD).close()
    assert os.stat(path).st_mode & 0o777 == 0o600
    assert os.stat(os.path.dirname(path)).st_mode & 0o777 == 0o700


def test_a_second_opener_gets_nothing_while_the_first_lives(path):
    first = Journal.create(path, HEAD)
    assert Journal.open(path) is None
    crash(first)
    second = Journal.open(path)
    assert second is not None
    assert Journal.open(path) is None
    second.finish()
    assert not os.path.exists(path)
    assert Journal.open(path) is None


def test_a_container_that_was_never_created_owes_nothing(path):
    crash(Journal.create(path, HEAD))
    found = Journal.open(path)
    assert (found.state.owed, found.state.head["boot"]) == (False, "b")
    found.close()


def steps(journal):
    """One whole life, each step a write."""
    yield journal.owe
    yield lambda: journal.end(7, "Error")
    yield lambda: journal.start(0)
    yield lambda: journal.done(0, "exit status 0")
    yield lambda: journal.start(1)
    yield lambda: journal.done(1, "exit status 0")


@pytest.mark.parametrize("count", range(7))
def test_after_a_crash_at_any_point_a_started_hook_is_not_owed_and_every_other_is(path, count):
    journal = Journal.create(path, HEAD)
    for _, step in zip(range(count), steps(journal), strict=False):
        step()
    crash(journal)
    state = Journal.open(path).state
    started = sum(count > step for step in (2, 4))
    assert state.open_hooks == (0, 1)[started:]
    assert state.interrupted == ((0,) if count == 3 else (1,) if count == 5 else ())
    assert state.owed == (count >= 1)
    assert state.ended == ((7, "Error") if count >= 2 else None)


@pytest.mark.parametrize("done", [False, True])
def test_a_hook_that_was_started_is_never_started_again(path, done):
    journal = Journal.create(path, HEAD)
    journal.start(0)
    if done:
        journal.done(0, "exit status 0")
    crash(journal)
    later = Journal.open(path)
    with pytest.raises(ValueError, match="not owed"):
        later.start(0)
    later.close()


def test_a_hook_that_was_not_started_after_all_is_owed_in_its_place(path):
    journal = Journal.create(path, HEAD)
    journal.start(0)
    journal.unstart(0)
    crash(journal)
    later = Journal.open(path)
    assert (later.state.open_hooks, later.state.interrupted) == ((0, 1), ())
    later.start(0)
    later.done(0, "exit status 0")
    with pytest.raises(ValueError, match="not started"):
        later.unstart(0)
    later.close()


@pytest.mark.parametrize("cut", range(1, 40))
def test_a_line_cut_short_has_not_happened_and_the_next_one_is_read_again(path, cut):
    journal = Journal.create(path, HEAD)
    journal.owe()
    journal.start(0)
    crash(journal)
    line = len(json.dumps({"event": "started", "hook": 0})) + 1
    os.truncate(path, len(content(path)) - min(cut, line))
    found = Journal.open(path)
    assert found.state.open_hooks == (0, 1)
    found.start(0)
    crash(found)
    assert Journal.open(path).state.interrupted == (0,)


def test_what_was_cut_short_is_wiped(path):
    journal = Journal.create(path, HEAD)
    journal.owe()
    whole = content(path)
    os.pwrite(journal.fd, b'{"event": "ended", "exit_', len(whole))
    crash(journal)
    Journal.open(path).close()
    assert content(path) == whole


def test_how_it_ended_is_said_once(path):
    journal = Journal.create(path, HEAD)
    journal.end(0, "Completed")
    journal.end(137, "ShimKilled")
    crash(journal)
    assert Journal.open(path).state.ended == (0, "Completed")


def test_an_earlier_containers_record_of_the_same_name_is_kept_and_finished_where_it_went(path):
    earlier = Journal.create(path, HEAD)
    earlier.owe()
    later = Journal.create(path, HEAD)
    assert len(list(records(os.path.dirname(os.path.dirname(path))))) == 2
    earlier.finish()
    assert list(records(os.path.dirname(os.path.dirname(path)))) == [path]
    assert Journal.open(path) is None
    later.finish()
    assert list(records(os.path.dirname(os.path.dirname(path)))) == []


def test_without_a_directory_there_are_no_records(tmp_path):
    assert list(records(str(tmp_path / "missing"))) == []


def test_a_write_that_fails_half_way_leaves_whole_lines_only(path, monkeypatch):
    journal = Journal.create(path, HEAD)
    before = content(path)

    def full(fd):
        raise OSError(28, "no space")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="no space"):
        journal.start(0)
    assert content(path) == before
    assert journal.state.open_hooks == (0, 1)
    journal.close()


@given(st.binary(max_size=400))
def test_any_bytes_are_read_as_far_as_they_are_a_record(data):
    whole = json.dumps({"head": HEAD}).encode() + b"\n"
    state, good = parse_journal(whole + data)
    assert len(whole) <= good <= len(whole) + len(data)
    assert state.head["hooks"] == HEAD["hooks"] or good > len(whole)


def test_a_record_has_room_for_all_its_lines_from_the_beginning(path, monkeypatch):
    journal = Journal.create(path, HEAD)
    size = os.path.getsize(path)
    for step in (journal.owe, journal.hand, lambda: journal.end(137, "ShimKilled"), lambda: journal.start(0)):
        step()
    journal.done(0, "\x00" * 100_000)
    journal.skip(1, "no " * 100_000)
    assert os.path.getsize(path) == size
    assert journal.state.hooks[1][1].startswith("no no no")
    crash(journal)
    found = Journal.open(path)
    assert found.state == journal.state
    found.close()


@pytest.mark.parametrize("number", [95, 22, 38])
def test_where_the_file_system_reserves_nothing_the_room_is_written(path, monkeypatch, number):
    def not_offered(fd, offset, size):
        raise OSError(number, "")

    monkeypatch.setattr(os, "posix_fallocate", not_offered)
    journal = Journal.create(path, HEAD)
    assert os.path.getsize(path) > len(content(path)) + 1000
    assert os.stat(path).st_blocks * 512 >= os.path.getsize(path)
    journal.close()


def test_a_record_has_its_name_once_it_has_its_head(path, monkeypatch):
    """So nobody can take an empty one for broken."""
    real, seen = os.rename, []

    def rename(source, target):
        with open(source, "rb") as file:
            seen.append(parse_journal(file.read())[0].head.get("boot"))
        assert not os.path.exists(target)
        real(source, target)

    monkeypatch.setattr(os, "rename", rename)
    Journal.create(path, HEAD).close()
    assert seen == ["b"]


def test_a_record_without_room_for_more_is_appended_to_as_well(path):
    """An older version wrote it."""
    journal = Journal.create(path, HEAD)
    journal.owe()
    crash(journal)
    os.truncate(path, len(content(path)))
    later = Journal.open(path)
    later.start(0)
    crash(later)
    assert Journal.open(path).state.interrupted == (0,)


def test_a_new_record_is_durable_in_its_directory(path, monkeypatch):
    synced = []
    monkeypatch.setattr(journal_module, "_sync_directory", lambda where: synced.append((where, os.path.exists(path))))
    Journal.create(path, HEAD).close()
    assert synced[-1] == (os.path.dirname(path), True)


def test_a_record_that_was_replaced_while_it_was_locked_is_none(path, monkeypatch):
    Journal.create(path, HEAD).close()
    real = journal_module.fcntl.flock

    def locked(fd, how):
        os.rename(path, f"{path}.aside")
        with open(path, "w"):
            pass
        return real(fd, how)

    monkeypatch.setattr(journal_module.fcntl, "flock", locked)
    assert Journal.open(path) is None

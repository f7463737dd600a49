"""shim.task.hooks.poststop's sweeper: real processes, no container, no root."""

import fcntl
import logging
import os
import threading
import time
from dataclasses import asdict

import pytest

from pouchrich.cluster import membership
from pouchrich.node import InstallError, uninstall
from pouchrich.node.layout import Layout
from runtime import ended
from runtime.config.model import Hook, When
from runtime.hooks.environment import HookSubject
from runtime.hooks.journal import (
    UNFINISHED,
    UNFINISHED_S,
    Journal,
    boot_id,
    mount_namespace,
    node_init,
    path_of,
    records,
)
from runtime.hooks.journal_state import parse_journal
from runtime.linux import readable
from runtime.oci.argv import OCIBinary
from shim.spawner import child
from shim.task.hooks import kept, poststop

WITHIN_S = 20.0


class Node:
    """Where records are, and how hooks are counted."""

    def __init__(self, directory):
        self.directory = directory
        self.records = str(directory / "records")
        self.run = str(directory / "run")
        self.marker = directory / "run" / ".swept"

    def hook(self, name, where="host"):
        text = f"echo {name} $POUCHRICH_EXIT_REASON >> {self.directory}/said"
        return Hook(name, where, ("/bin/sh", "-c", text), 10.0, "continue", None, (), False, When())

    def owe(self, container_id, *, boot="another boot", hooks=None, bundle="/gone", mounts=None, init="", later=()):
        subject = HookSubject(container_id, "k8s.io", bundle, f"{bundle}/rootfs", "web", "shop", "systemd", {})
        chosen = hooks or [self.hook(container_id)]
        head = {
            "boot": boot,
            "init": init or node_init(),
            "subject": subject.to_dict(),
            "hooks": [asdict(hook) for hook in chosen],
            "budget_s": 10.0,
            "pod_budget_s": 10.0,
            "oci": asdict(OCIBinary("/bin/false", "/gone")),
            "pinned": "",
            "mount_namespace": mounts or mount_namespace(),
        }
        for one in (head["subject"], head["oci"], *head["hooks"], *(hook["when"] for hook in head["hooks"])):
            one.update(dict.fromkeys(later, 1))
        journal = Journal.create(path_of(self.records, "k8s.io", container_id), head)
        journal.owe()
        return journal

    def check(self):
        began = time.monotonic()
        poststop.start_sweeper(directory=self.records, run=self.run)
        return time.monotonic() - began

    def left(self):
        return [os.path.basename(path).removesuffix(".jsonl") for path in records(self.records)]

    def swept(self, *left):
        """What hooks said, once no record but `left` is there and nobody sweeps any more."""
        wait_for(lambda: self.left() == list(left) and self.is_idle())
        return sorted(self.said)

    def is_idle(self):
        with open(f"{self.marker}.lock", "w") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return False
        return True

    @property
    def said(self):
        path = self.directory / "said"
        return path.read_text().splitlines() if path.exists() else []


def wait_for(condition):
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


@pytest.fixture
def node(tmp_path, monkeypatch):
    """What sweepers and runners log is shown with a test that fails."""
    log = tmp_path / "log"
    log.touch()

    def log_to_file():
        logging.basicConfig(filename=log, level=logging.DEBUG, format="%(asctime)s [%(process)d] %(message)s")

    monkeypatch.setattr(poststop, "_log_to_syslog", log_to_file)
    yield Node(tmp_path)
    print(log.read_text())


def test_the_hooks_of_a_record_run_whatever_a_later_version_has_added_to_it(node):
    node.owe("c", later=("later",)).close()
    node.check()
    assert node.swept() == ["c ShimKilled"]


def test_results_are_added_to_what_is_kept_of_the_container(node, monkeypatch):
    root = str(node.directory / "kept")
    monkeypatch.setattr(kept.paths, "ENDED", root)
    about = {"annotations": {}, "mode": "dumb-init", "init": "dumb-init", "reason": "its pod server was killed"}
    ended.keep("k8s.io", "a", str(node.directory), **about, root=root)
    for name in ("a", "b"):
        node.owe(name).close()
    node.check()
    node.swept()
    (one,) = ended.every(root=root)
    assert [(line["source"], line["text"]) for line in ended.lines(one)] == [("hook", "poststop: exit status 0")]


def test_the_first_start_after_a_boot_runs_what_was_owed_before_it_once(node):
    for name in ("a", "b"):
        node.owe(name).close()
    assert node.check() < 1
    assert node.swept() == ["a ShimKilled", "b ShimKilled"]
    assert list(records(node.records)) == []
    node.check()
    assert node.swept() == ["a ShimKilled", "b ShimKilled"]


def test_who_takes_the_shim_away_has_what_was_owed_before_a_boot_run_first(node, monkeypatch):
    """No pod comes to such a node any more, whose start would see to it."""
    monkeypatch.setattr(uninstall, "RECORDS", node.records)
    monkeypatch.setattr(membership, "_POLL_S", 0.05)
    node.owe("a").close()
    layout = Layout.below(str(node.directory / "prefix"))
    with pytest.raises(InstallError, match=r"a\.jsonl"):
        membership.needed(layout, force=False, wait_s=0.2, settle=lambda layout: None)
    assert membership.needed(layout, force=False, wait_s=WITHIN_S, settle=lambda layout: node.check()) == ""
    assert node.swept() == ["a ShimKilled"]


def test_a_hook_of_the_container_is_skipped_and_the_hosts_runs(node):
    node.owe("a", hooks=[node.hook("inside", "container"), node.hook("outside")]).close()
    node.check()
    assert node.swept() == ["outside ShimKilled"]
    assert list(records(node.records)) == []


def test_what_was_recorded_of_the_end_is_what_the_hook_is_told_and_what_was_started_is_not_repeated(node):
    journal = node.owe("a", hooks=[node.hook("one"), node.hook("two")])
    journal.end(0, "Completed")
    journal.start(0)
    journal.close()
    node.check()
    assert node.swept() == ["two Completed"]


def test_a_record_of_this_boot_is_left_to_its_server_and_to_the_delete_that_is_to_come(node):
    alive = node.owe("alive", boot=boot_id())
    alive.end(0, "Completed")
    node.owe("before-delete", boot=boot_id(), bundle=str(node.directory)).close()
    node.owe("old").close()
    node.owe("somebody-elses", boot=boot_id(), mounts="mnt:[1]").close()
    node.check()
    assert node.swept("alive", "before-delete", "somebody-elses") == ["old ShimKilled"]
    alive.close()


def test_a_record_of_this_boot_that_was_given_up_is_taken_up(node):
    """By a server whose disk was full, one that was killed and whose bundle is gone too, or a runner that was."""
    ended = node.owe("ended", boot=boot_id(), bundle=str(node.directory), mounts="mnt:[1]")
    ended.end(3, "Error")
    ended.close()
    handed = node.owe("handed", boot=boot_id(), mounts="mnt:[1]")
    handed.hand()
    handed.close()
    node.owe("killed", boot=boot_id()).close()
    node.check()
    assert node.swept() == ["ended Error", "handed ShimKilled", "killed ShimKilled"]


def test_a_record_that_a_create_moves_aside_meanwhile_is_not_taken_for_settled(node, monkeypatch):
    node.owe("c").close()
    real = Journal.open

    def moved(path):
        os.rename(path, f"{node.records}/k8s.io/c.7.jsonl")
        return real(path)

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "open", moved)
        assert not poststop._in_child(lambda: poststop._sweep(node.records))
    assert poststop._in_child(lambda: poststop._sweep(node.records))
    assert (node.said, node.left()) == (["c ShimKilled"], [])


def test_a_record_that_cannot_be_written_is_tried_again_until_it_can(node, monkeypatch):
    real, full = Journal.start, node.directory / "full"
    full.touch()
    tries = node.directory / "tries"

    def start(self, hook):
        with open(tries, "a") as file:
            file.write("x")
        if full.exists():
            raise OSError(28, "No space left on device")
        real(self, hook)

    monkeypatch.setattr(Journal, "start", start)
    monkeypatch.setattr(poststop, "BACK_OFF_S", (0.01,) * 1000)
    node.owe("a").close()
    node.check()
    wait_for(lambda: tries.exists() and len(tries.read_text()) > 2)
    assert (node.said, node.left()) == ([], ["a"])
    full.unlink()
    assert node.swept() == ["a ShimKilled"]


def test_what_a_server_left_that_was_killed_before_its_record_had_a_name_is_removed(node):
    node.owe("good").close()
    paths = [path_of(node.records, "k8s.io", name) + UNFINISHED for name in ("old", "new")]
    for path in paths:
        with open(path, "wb"):
            pass
    os.utime(paths[0], times=(0, time.time() - UNFINISHED_S - 1))
    node.check()
    assert node.swept() == ["good ShimKilled"]
    assert [os.path.exists(path) for path in paths] == [False, True]


def test_a_start_looks_for_records_now_and_then(node):
    assert child.is_sweep_due(str(node.marker))
    node.check()
    assert not child.is_sweep_due(str(node.marker))
    for age_s, is_due in ((child.POSTSTOP_SWEEP_S - 10, False), (child.POSTSTOP_SWEEP_S, True), (-3600, True)):
        os.utime(node.marker, (0, time.time() - age_s))
        assert child.is_sweep_due(str(node.marker)) == is_due
    node.check()
    assert not child.is_sweep_due(str(node.marker)), "the marker was there, and is no newer"


def test_a_record_of_before_the_restart_of_a_node_that_is_a_container_is_settled(node):
    """The machine has not booted, so the boot's identity is the same: kind, LXC."""
    node.owe("restarted", boot=boot_id(), mounts="mnt:[1]", init="1 4242 pid:[4026532999]").close()
    node.owe("not-restarted", boot=boot_id(), mounts="mnt:[1]", init=node_init()).close()
    node.check()
    assert node.swept("not-restarted") == ["restarted ShimKilled"]


def test_a_record_that_cannot_be_read_does_not_stop_the_others(node):
    node.owe("good").close()
    bad = path_of(node.records, "k8s.io", "bad")
    with open(bad, "wb") as file:
        file.write(b"\0\0\0")
    node.check()
    assert node.swept() == ["good ShimKilled"]
    assert not os.path.exists(bad)


def test_a_node_without_records_has_no_process_left_behind(node):
    node.check()
    assert node.marker.exists()
    assert not os.path.exists(f"{node.marker}.lock")
    assert node.said == []


def test_a_node_that_cannot_be_written_does_not_stop_a_start(node, capfd):
    (node.directory / "run").write_text("in the way")
    node.check()
    assert "owed poststop hooks" in capfd.readouterr().err


def test_of_two_who_would_sweep_one_does(node):
    node.owe("a").close()
    os.makedirs(node.run)
    with open(f"{node.marker}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        poststop._sweep_until_settled(node.records, node.run)
        assert (node.said, node.left()) == ([], ["a"])
    node.check()
    assert node.swept() == ["a ShimKilled"]


class Handed:
    """A container whose pod server was killed, and the runner that `delete` leaves for it."""

    def __init__(self, node, monkeypatch):
        self.node = node
        self.bundle = node.directory / "bundle"
        self.bundle.mkdir()
        os.makedirs(node.run)
        self.runtime = node.directory / "runtime"
        self.runtime.write_text(f'#!/bin/sh\necho "$*" >>{node.directory}/calls\n')
        self.runtime.chmod(0o755)
        self.unpinned = []
        monkeypatch.setattr(poststop, "_leave_mounts", lambda: None)  # for root alone
        monkeypatch.setattr(poststop.pinned, "unpin", self.unpinned.append)

    def owe(self, *, owed=True, pinned=""):
        hooks = [self.node.hook("a")]
        subject = HookSubject("a", "k8s.io", str(self.bundle), f"{self.bundle}/rootfs", "web", "shop", "systemd", {})
        head = {
            "boot": boot_id(),
            "subject": subject.to_dict(),
            "hooks": [asdict(hook) for hook in hooks],
            "budget_s": 10.0,
            "pod_budget_s": 10.0,
            "oci": asdict(OCIBinary(str(self.runtime), "/gone")),
            "pinned": pinned,
            "mount_namespace": mount_namespace(),
        }
        journal = Journal.create(path_of(self.node.records, "k8s.io", "a"), head)
        if owed:
            journal.owe()
        journal.close()

    def hand_over(self):
        return poststop.hand_over("k8s.io", "a", str(self.bundle), directory=self.node.records, run=self.node.run)

    def state(self):
        with open(path_of(self.node.records, "k8s.io", "a"), "rb") as file:
            return parse_journal(file.read())[0]

    @property
    def calls(self):
        path = self.node.directory / "calls"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def handed(node, monkeypatch):
    return Handed(node, monkeypatch)


def test_a_runner_notes_that_it_has_the_record_and_runs_the_hooks_once_it_is_told(handed):
    handed.owe(pinned=str(handed.node.directory / "pinned"))
    handover = handed.hand_over()
    wait_for(lambda: handed.state().handed)
    assert handed.node.said == []
    assert handed.unpinned == [str(handed.node.directory / "pinned")]
    assert handover.finish(WITHIN_S)
    assert (handed.node.swept(), handed.calls) == (["a ShimKilled"], [])


def test_a_record_that_a_dying_pod_server_still_has_is_waited_for(handed, monkeypatch):
    handed.owe()
    holder = Journal.open(path_of(handed.node.records, "k8s.io", "a"))
    with monkeypatch.context() as patch:
        patch.setattr(poststop, "RECORD_PATIENCE_S", 0.05)
        assert handed.hand_over() is None, "it lives"
    monkeypatch.setattr(poststop, "RECORD_PATIENCE_S", WITHIN_S)
    dying = threading.Timer(0.1, holder.close)
    dying.start()
    handover = handed.hand_over()
    dying.join()
    assert handover.finish(WITHIN_S)
    assert handed.node.swept() == ["a ShimKilled"]


def test_a_runner_whose_delete_was_killed_has_the_container_forgotten_first(handed):
    handed.owe()
    handover = handed.hand_over()
    os.close(handover._go)
    assert readable.within(handover._ready, WITHIN_S)
    os.close(handover._ready)
    assert handed.node.swept() == ["a ShimKilled"]
    assert [" ".join(call.split()[-3:]) for call in handed.calls] == ["delete --force a"]


def test_a_container_that_was_made_owes_its_hooks_though_its_server_had_no_time_to_say_so(handed):
    handed.owe(owed=False)
    (handed.bundle / "init.pid").write_text("4711")
    handover = handed.hand_over()
    assert handed.state().owed
    assert handover.finish(WITHIN_S)
    assert handed.node.swept() == ["a ShimKilled"]


def test_a_container_that_was_never_made_owes_nothing_and_its_record_goes(handed):
    handed.owe(owed=False)
    assert handed.hand_over() is None
    assert (handed.node.said, handed.node.left()) == ([], [])

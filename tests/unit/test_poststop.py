"""shim.poststop after a boot: real processes, no container, no root."""

import os
import time
from dataclasses import asdict

import pytest

from runtime.config.model import Hook, When
from runtime.hooks.environment import Subject
from runtime.hooks.journal import Journal, boot_id, path_of, records
from runtime.oci.argv import OCIBinary
from shim import poststop

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

    def owe(self, container_id, *, boot="another boot", hooks=None):
        subject = Subject(container_id, "k8s.io", "/gone", "/gone/rootfs", "web", "shop", "systemd", {})
        chosen = hooks or [self.hook(container_id)]
        head = {
            "boot": boot,
            "subject": subject.to_dict(),
            "hooks": [asdict(hook) for hook in chosen],
            "budget_s": 10.0,
            "oci": asdict(OCIBinary("/bin/false", "/gone")),
            "held": "",
        }
        journal = Journal.create(path_of(self.records, "k8s.io", container_id), head)
        journal.owe()
        return journal

    def check(self):
        began = time.monotonic()
        poststop.check(directory=self.records, run=self.run)
        return time.monotonic() - began

    def swept(self):
        deadline = time.monotonic() + WITHIN_S
        while not self.marker.exists():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        return sorted(self.said)

    @property
    def said(self):
        path = self.directory / "said"
        return path.read_text().splitlines() if path.exists() else []


@pytest.fixture
def node(tmp_path):
    return Node(tmp_path)


def test_the_first_start_after_a_boot_runs_what_was_owed_before_it_once(node):
    for name in ("a", "b"):
        node.owe(name).close()
    assert node.check() < 1
    assert node.swept() == ["a ShimKilled", "b ShimKilled"]
    assert list(records(node.records)) == []
    node.check()
    assert node.said.count("a ShimKilled") == 1


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


def test_records_of_this_boot_are_left_to_their_server_and_those_of_a_dead_runner_are_not(node):
    node.owe("before-delete", boot=boot_id()).close()
    alive = node.owe("alive", boot=boot_id())
    handed = node.owe("handed", boot=boot_id())
    handed.hand()
    handed.close()
    node.check()
    assert node.swept() == ["handed ShimKilled"]
    assert [os.path.basename(path) for path in records(node.records)] == ["alive.jsonl", "before-delete.jsonl"]
    alive.close()


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
    assert node.said == []


def test_a_node_that_cannot_be_written_does_not_stop_a_start(node, capfd):
    (node.directory / "run").write_text("in the way")
    node.check()
    assert "poststop hooks owed before the last boot" in capfd.readouterr().err

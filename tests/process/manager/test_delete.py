"""shim.manager.delete: a try that was killed is made up for, and what a killed pod server left goes."""

import errno
import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import threading
import time
from dataclasses import asdict
from types import SimpleNamespace

import pytest

from protos.gen import task_pb2
from runtime import ended, index, measured, paths, rundir
from runtime.agents import cgroup as agents
from runtime.bundle_log import BundleLog
from runtime.errors import InvalidArgument
from runtime.init.cgroup import Delegation
from runtime.oci import interrupted
from shim.contract.bootstrap import delete_response
from shim.contract.flags import Flags
from shim.manager import delete as delete_module
from shim.manager.delete import delete
from shim.pod import cleanup
from shim.pod.cleanup import KILLED, OTHERS_PATIENCE_S
from shim.spawner import child

ID = "c"


def until(holds):
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.01)


class Node:
    """One container's bundle, with what it takes to be found by `delete`, and an OCI runtime that is a script.

    The runtime notes its words; `lines` of shell come before its end.
    """

    def __init__(self, directory):
        self.directory = directory
        self.bundle = directory / "bundle"
        self.bundle.mkdir()
        (self.bundle / "config.json").write_text('{"linux": {}}')
        (self.bundle / "address").write_text(f"unix://{directory}/gone.sock")
        self.calls_file = directory / "calls"
        self.flags = Flags()
        self.flags.namespace, self.flags.id, self.flags.bundle = "ns", ID, str(self.bundle)

    def owned(self, lines=""):
        """There is a container that a runtime knows of."""
        runtime = self.directory / "runtime"
        runtime.write_text(f'#!/bin/sh\necho "$*" >>{self.calls_file}\n{lines}\n')
        runtime.chmod(0o755)
        record = {"version": 1, "oci": {"path": str(runtime), "root": "/root", "systemd_cgroup": False}, "plan": {}}
        (self.bundle / "pouchrich.json").write_text(json.dumps(record))
        (self.bundle / "init.pid").write_text("4711")

    @property
    def calls(self):
        return self.calls_file.read_text().splitlines() if self.calls_file.exists() else []

    def delete(self):
        return task_pb2.DeleteResponse.FromString(delete(self.flags))

    def is_known(self):
        return (self.bundle / "pouchrich.json").exists()


@pytest.fixture
def node(tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(paths, "BUNDLES", str(tmp_path / "run/bundles"))
    return Node(tmp_path)


FORCED = f"--root /root --log /dev/null --log-format json delete --force {ID}"


def test_a_container_is_forgotten_by_its_runtime_and_reported_as_killed(node):
    node.owned()
    answer = node.delete()
    assert (answer.pid, answer.exit_status, KILLED) == (4711, 137, 137)
    assert answer.exited_at.seconds > 1_000_000_000
    assert node.calls == [FORCED]
    assert not node.is_known()
    again = node.delete()
    assert (again.pid, again.exit_status) == (4711, 137)
    assert node.calls == [FORCED]


def test_what_another_version_has_added_to_a_record_is_left_out(node):
    """After a rollback the record of a pod server that was killed is of the later version."""
    node.owned()
    file = node.bundle / "pouchrich.json"
    record = json.loads(file.read_text())
    record["oci"]["later"] = 1
    record["plan"] = {"cgroup": {**asdict(Delegation(descendants=0, depth=0)), "later": 1}}
    file.write_text(json.dumps(record))
    assert node.delete().exit_status == KILLED
    assert node.calls == [FORCED]
    assert not node.is_known()


@pytest.fixture
def running():
    """A process that stands for the container's init."""
    child = subprocess.Popen(["sleep", "1000"])
    yield child.pid
    child.kill()
    child.wait()


@pytest.mark.parametrize(
    ("plan", "is_alive", "is_told"),
    [
        ({"rich": True, "mode": "systemd"}, True, True),
        ({"rich": False, "mode": None}, True, False),
        ({}, True, False),  # of another version
        ({"rich": True, "mode": "systemd"}, False, False),  # its end was counted by its pod server
    ],
)
def test_a_container_whose_pod_server_was_killed_is_counted_once_and_told_of(
    node, monkeypatch, capsys, running, plan, is_alive, is_told
):
    monkeypatch.setattr(paths, "METRICS", str(node.directory / "metrics"))
    monkeypatch.setattr(paths, "ENDED", str(node.directory / "ended"))
    BundleLog(str(node.bundle)).write("console", "", ["hello"])
    node.owned(f"kill {running}" if is_alive else "")
    record = json.loads((node.bundle / "pouchrich.json").read_text())
    (node.bundle / "pouchrich.json").write_text(json.dumps({**record, "plan": plan}))
    (node.bundle / "init.pid").write_text(str(running if is_alive else 1 << 30))
    for _ in range(2):
        cleanup.clean_up(node.flags)
    said = f"container {ID}: killed, because its pod server was gone (mode systemd)\n"
    assert capsys.readouterr().err == (said if is_told else "")
    series = [(one.name, dict(one.labels), one.total) for one in measured.read(paths.METRICS)]
    assert series == ([("exits", {"mode": "systemd", "reason": "ShimKilled"}, 1.0)] if is_told else [])
    found = ended.every(root=paths.ENDED)
    kept = [(one.id, one.head["reason"], [line["text"] for line in ended.lines(one)]) for one in found]
    assert kept == ([(ID, "its pod server was killed", ["hello"])] if is_told else [])


def test_a_count_that_cannot_be_written_keeps_nothing_else_from_going(node, monkeypatch, running):
    (node.directory / "metrics").touch()
    (node.directory / "ended").touch()
    monkeypatch.setattr(paths, "ENDED", str(node.directory / "ended"))
    monkeypatch.setattr(paths, "METRICS", str(node.directory / "metrics"))
    node.owned(f"kill {running}")
    record = json.loads((node.bundle / "pouchrich.json").read_text())
    plan = {"rich": True, "mode": "../x"}
    (node.bundle / "pouchrich.json").write_text(json.dumps({**record, "plan": plan}))
    (node.bundle / "init.pid").write_text(str(running))
    cleanup.clean_up(node.flags)
    assert node.calls == [FORCED]
    assert not node.is_known()


@pytest.mark.parametrize("is_whole", [True, False], ids=["whole", "of a create that was cut short"])
def test_a_bundle_that_goes_meanwhile_was_read_before(node, monkeypatch, is_whole):
    """containerd removes that of a `delete` that was killed, whose work goes on."""
    node.owned()
    if not is_whole:
        (node.bundle / "init.pid").unlink()
    beside = node.directory / "c-agent-a"
    beside.mkdir()
    agents.note(str(node.bundle), [str(beside)])
    removed = []

    def hand_over(flags, bundle):
        shutil.rmtree(bundle)

    monkeypatch.setattr(delete_module, "_work_detached", lambda *_: os._exit(0))  # what is seen is in this process
    monkeypatch.setattr(cleanup, "_hand_over_hooks", hand_over)
    monkeypatch.setattr(interrupted, "remove_cgroups", lambda spec, name, *, patience_s: removed.append((spec, name)))
    ended = []
    monkeypatch.setattr(interrupted, "kill_creates", ended.append)
    node.delete()
    assert (node.calls, removed) == ([FORCED], [({"linux": {}}, ID)])
    assert ended == ([] if is_whole else [str(node.bundle)])
    assert not beside.exists()


def test_processes_of_other_pods_that_do_not_let_themselves_be_seen_delay_nothing_for_long(node, monkeypatch):
    """Such a process forks without end, so that the kernel does not show its command line."""
    node.owned()
    (node.bundle / "init.pid").unlink()
    answers, removed = threading.Event(), []
    monkeypatch.setattr(delete_module, "_work_detached", lambda *_: os._exit(0))  # what is seen is in this process
    monkeypatch.setattr(interrupted, "kill_creates", lambda _: answers.wait())
    monkeypatch.setattr(interrupted, "remove_cgroups", lambda spec, name, *, patience_s: removed.append(name) or True)
    monkeypatch.setattr(cleanup, "RUNTIME_TIMEOUT_S", 0.5)
    try:
        node.delete()
    finally:
        answers.set()
    assert removed == [ID]
    assert not node.is_known()


def test_what_another_delete_has_done_meanwhile_is_not_done_again(node, monkeypatch):
    node.owned()
    monkeypatch.setattr(cleanup, "_wait_for_others", lambda held: os.unlink(f"{held.bundle}/pouchrich.json"))
    node.delete()
    assert node.calls == []


def test_a_runtime_that_is_killed_is_run_again_and_no_more_often_than_it_helps(node):
    node.owned(f"[ $(wc -l <{node.calls_file}) -ge 2 ] || kill -9 $$")
    node.delete()
    assert node.calls == [FORCED] * 2
    node.calls_file.unlink()
    node.owned("kill -9 $$")
    node.delete()
    assert node.calls == [FORCED] * 3
    assert not node.is_known()


def test_a_runtime_that_says_no_is_not_run_again_and_keeps_nothing_else_from_going(node):
    node.owned("exit 1")
    node.delete()
    assert node.calls == [FORCED]
    assert not node.is_known()


def test_a_runtime_is_run_once_the_kernel_has_a_process_for_it(node, monkeypatch):
    real, failures = os.posix_spawn, [errno.EAGAIN, errno.ENOMEM]

    def spawn(*given, **more):
        if failures:
            raise OSError(failures.pop(), "short")
        return real(*given, **more)

    monkeypatch.setattr(os, "posix_spawn", spawn)
    node.owned()
    node.delete()
    assert node.calls == [FORCED]


@pytest.mark.parametrize("number", [errno.EAGAIN, errno.ENOENT])
def test_a_runtime_that_cannot_be_run_keeps_nothing_else_from_going(node, monkeypatch, capsys, number):
    def spawn(*given, **more):
        raise OSError(number, "short")

    monkeypatch.setattr(cleanup, "RUNTIME_TIMEOUT_S", 0.2)
    monkeypatch.setattr(os, "posix_spawn", spawn)
    node.owned()
    answer, _ = cleanup.clean_up(node.flags)
    assert task_pb2.DeleteResponse.FromString(answer).exit_status == 137
    assert not node.is_known()
    assert "runtime: not run: short" in capsys.readouterr().err


def test_a_runtime_that_hangs_is_killed_in_time_and_not_run_again(node, monkeypatch):
    real, pids = os.posix_spawn, []
    monkeypatch.setattr(cleanup, "RUNTIME_TIMEOUT_S", 0.05)
    monkeypatch.setattr(os, "posix_spawn", lambda *a, **k: pids.append(real(*a, **k)) or pids[-1])
    node.owned("exec sleep 1000")
    cleanup.clean_up(node.flags)
    assert len(pids) == 1
    with pytest.raises(ProcessLookupError):
        os.kill(pids[0], 0)


def test_a_runtime_has_the_kernels_sigpipe(node):
    node.owned(f"grep SigIgn /proc/$$/status >{node.directory}/ignored")
    node.delete()
    ignored = int((node.directory / "ignored").read_text().split()[1], 16)
    assert not ignored & 1 << (signal.SIGPIPE - 1)


def test_the_work_of_a_child_that_is_killed_is_done_again(node, monkeypatch):
    real, ours = cleanup.clean_up, os.getpid()

    def killed_once(flags):
        if os.getpid() != ours:
            os.kill(os.getpid(), signal.SIGKILL)
        return real(flags)

    monkeypatch.setattr(cleanup, "clean_up", killed_once)
    node.owned()
    assert node.delete().exit_status == 137
    assert node.calls == [FORCED]
    assert not node.is_known()


def test_the_work_goes_on_in_a_session_of_its_own_and_holds_none_of_containerds_pipes(node, monkeypatch):
    found = node.directory / "found"

    def look(flags):
        ends = [os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1)]
        found.write_text(json.dumps([os.getsid(0) == os.getpid(), ends]))
        return delete_response(1, KILLED, 1, 1), None

    monkeypatch.setattr(cleanup, "clean_up", look)
    node.delete()
    assert json.loads(found.read_text()) == [True, ["/dev/null", "/dev/null"]]


def test_what_a_child_says_is_shown_and_what_it_cannot_do_is_an_error(node, monkeypatch, capfd):
    def fail(flags):
        os.write(2, b"warning: one\n")
        raise ValueError("cannot")

    monkeypatch.setattr(cleanup, "clean_up", fail)
    with pytest.raises(RuntimeError, match="cannot"):
        node.delete()
    assert capfd.readouterr().err == "warning: one\n"


def test_processes_that_die_late_are_swept_up_after_the_answer(node, monkeypatch):
    """containerd kills the command after five seconds, which on a busy machine are few."""
    node.owned()
    beside, answered = node.directory / "c-agent-a", node.directory / "answered"
    agents.note(str(node.bundle), [str(beside)])

    def remove(spec, name, *, patience_s):
        if patience_s > 0:
            beside.mkdir()
            (beside / "busy").touch()  # as a cgroup that has a process still
        else:
            until(answered.exists)
            (beside / "busy").unlink()
        return True

    monkeypatch.setattr(interrupted, "remove_cgroups", remove)
    assert node.delete().exit_status == 137
    assert beside.exists()
    assert not node.is_known()
    answered.touch()
    until(lambda: not beside.exists())


def test_what_dies_late_is_swept_up_also_where_the_command_was_killed(node, monkeypatch):
    swept = node.directory / "swept"
    monkeypatch.setattr(cleanup, "clean_up", lambda flags: (b"", "left"))
    monkeypatch.setattr(cleanup, "retry_cgroup_removal", lambda left, name: swept.write_text(f"{left} {name}"))
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    ours.close()
    pid = os.fork()
    if pid == 0:  # it takes standard error
        try:
            os._exit(child.answer_delete(node.flags, theirs))
        finally:
            os._exit(99)
    theirs.close()
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert swept.read_text() == f"left {ID}"


def test_a_new_container_of_the_name_is_let_alone(node, monkeypatch):
    """containerd has killed a `delete` and removed the bundle, and a client has used the name again."""
    node.owned()
    entry = node.directory / "run" / "bundles" / "ns" / ID
    entry.parent.mkdir(parents=True)
    entry.symlink_to(node.bundle)
    beside = node.directory / "c-agent-a"
    agents.note(str(node.bundle), [str(beside)])

    def hand_over(flags, bundle):
        shutil.rmtree(bundle)
        node.bundle.mkdir()
        node.owned()
        beside.mkdir()

    monkeypatch.setattr(cleanup, "_hand_over_hooks", hand_over)
    monkeypatch.setattr(interrupted, "remove_cgroups", lambda *_, **__: pytest.fail("not its own"))
    _, left = cleanup.clean_up(node.flags)
    cleanup.retry_cgroup_removal(left, ID)
    assert node.calls == []
    assert node.is_known()
    assert entry.is_symlink()
    assert beside.exists()


def test_one_that_comes_while_the_runtime_is_at_work_keeps_its_record(node, monkeypatch):
    node.owned(f"rm -r {node.bundle}; mkdir {node.bundle}; echo >{node.bundle}/pouchrich.json")
    monkeypatch.setattr(interrupted, "remove_cgroups", lambda *_, **__: pytest.fail("not its own"))
    cleanup.clean_up(node.flags)
    assert node.is_known()


@pytest.mark.parametrize(("namespace", "name"), [("../x", ID), ("ns", "../x"), ("", ID)])
def test_names_that_lead_elsewhere_are_refused_before_anything_is_done(node, namespace, name):
    node.owned()
    node.flags.namespace, node.flags.id = namespace, name
    with pytest.raises(InvalidArgument, match="allowed"):
        node.delete()
    assert node.calls == []
    assert node.is_known()


def test_traces_of_a_killed_pod_server_go_and_what_says_that_there_are_some_goes_last(node, monkeypatch):
    entry = node.directory / "run" / "bundles" / "ns" / ID
    entry.parent.mkdir(parents=True)
    entry.symlink_to(node.bundle)
    said = []
    monkeypatch.setattr(rundir, "remove", lambda path: said.append((path, entry.is_symlink())))
    monkeypatch.setattr(index, "unregister", lambda namespace, name: (said.append((namespace, name)), entry.unlink()))
    cleanup.clean_up(node.flags)
    assert said == [(rundir.path_of("ns", ID), True), ("ns", ID)]
    cleanup._remove_traces(node.flags)
    assert len(said) == 2


@pytest.fixture
def first(node, monkeypatch):
    """Another `delete` that holds the bundle; time passes by the waits of the second alone, which are in `waits`."""
    held = os.open(node.bundle, os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(held, fcntl.LOCK_EX)
    one = SimpleNamespace(waits=[], until=10**9)

    def wait(seconds):
        one.waits.append(seconds)
        if len(one.waits) == one.until:
            fcntl.flock(held, fcntl.LOCK_UN)

    clock = SimpleNamespace(sleep=wait, monotonic=lambda: sum(one.waits), time_ns=time.time_ns)
    monkeypatch.setattr(cleanup, "time", clock)
    yield one
    os.close(held)


def test_a_second_delete_of_a_bundle_waits_for_the_first(node, first):
    first.until = 3
    node.owned()
    cleanup.clean_up(node.flags)
    assert len(first.waits) == 3
    assert not node.is_known()


def test_a_first_delete_that_does_not_end_is_not_waited_for_for_ever(node, first):
    node.owned()
    cleanup.clean_up(node.flags)
    assert sum(first.waits) == pytest.approx(OTHERS_PATIENCE_S, abs=0.1)
    assert not node.is_known()


def test_a_dead_servers_socket_goes_also_where_the_bundle_does_not_name_it(node):
    (node.bundle / "address").unlink()
    socket = node.directory / "left.sock"
    socket.touch()
    node.flags.socket = str(socket)
    node.delete()
    assert not socket.exists()

"""The Task API over its socket, from a client's view: concurrency, giving up, identities, texts, leaks."""

import asyncio
import os
import shutil
import signal
from contextlib import suppress
from pathlib import Path

import pytest
from google.protobuf.empty_pb2 import Empty

from protos.gen import events_pb2, runc_options_pb2, task_pb2
from runtime import paths
from shim.contract.flags import Flags
from shim.manager.delete import delete
from shim.pod import server as pod_server
from shim.task.stdio import stdio
from shim.ttrpc.errors import Code, ConnectionClosed, RemoteError
from tests.component.conftest import TASK, Pod
from tests.fakes.loop import in_loop, until, until_async

CREATED, STOPPED = 1, 3


async def refused(pod: Pod, method: str, **fields: object) -> tuple[int, str]:
    with pytest.raises(RemoteError) as caught:
        await pod.call(method, **fields)
    return caught.value.code, caught.value.message


@in_loop
async def test_a_hundred_execs_at_once_all_start_and_end_in_order(pod: Pod):
    async with pod.served():
        await pod.run("c")

        async def one(number: int) -> tuple[int, int]:
            name = f"e{number}"
            await pod.exec("c", name, f"exit {number}")
            waiting = asyncio.create_task(pod.call("Wait", id="c", exec_id=name))
            started = await pod.call("Start", id="c", exec_id=name)
            ended = await waiting
            await pod.call("Delete", id="c", exec_id=name)
            return started.pid, ended.exit_status

        results = await asyncio.gather(*(one(number) for number in range(100)))
        assert [status for _, status in results] == list(range(100))
        for number, (pid, status) in enumerate(results):
            exited = await pod.until_event(events_pb2.TaskExit, id=f"e{number}")
            assert (exited.pid, exited.exit_status) == (pid, status)
            told = [what for what in pod.told() if what.endswith(f":e{number}")]
            assert [what.partition(":")[0] for what in told] == ["TaskExecAdded", "TaskExecStarted", "TaskExit"]


@in_loop
async def test_what_a_create_and_execs_have_used_is_freed_without_a_garbage_collection(pod: Pod):
    """It would stay until one, in memory that nobody else has: containerd's CRI kills each exec once it has ended."""

    async def begin(name: str) -> None:
        await pod.run(name, init="exec sleep 1000")
        for number in range(3):
            one = {"id": name, "exec_id": f"e{number}"}
            files = {key: str(pod.directory / f"{name}{number}{key}") for key in ("stdout", "stderr")}
            for file in files.values():
                os.mkfifo(file)
            readers = [os.open(file, os.O_RDONLY | os.O_NONBLOCK) for file in files.values()]
            await pod.exec(name, one["exec_id"], "exit 3", **files)
            await pod.call("Start", **one)
            assert (await pod.call("Wait", **one)).exit_status == 3
            assert (await refused(pod, "Kill", **one, signal=9))[0] == Code.NOT_FOUND
            await pod.call("Delete", **one)
            for reader in readers:
                os.close(reader)
        assert (await refused(pod, "State", id="nobody"))[0] == Code.NOT_FOUND
        assert (await refused(pod, "Start", id=name, exec_id="nobody"))[0] == Code.NOT_FOUND
        await pod.exec(name, "missing", "")
        await refused(pod, "Start", id=name, exec_id="missing")
        await pod.call("Delete", id=name, exec_id="missing")

    async with pod.served():
        await begin("first")
        pod.garbage()
        await begin("second")
        assert pod.garbage() == {}


@in_loop
async def test_state_answers_while_a_create_hangs(pod: Pod):
    gate = pod.directory / "gate"
    async with pod.served():
        await pod.run("a")
        creating = asyncio.create_task(pod.create("c", create=f"block {gate}"))
        await until(lambda: "create c" in pod.calls())
        async with asyncio.timeout(0.5):
            assert (await pod.call("State", id="a")).id == "a"
            assert await refused(pod, "State", id="c") == (Code.NOT_FOUND, "container not created: not found")
        gate.touch()
        await creating


@in_loop
async def test_a_create_whose_connection_is_lost_leaves_nothing(pod: Pod):
    async with pod.served():
        before = await pod.settled_fds()
        other = await pod.connect()
        bundle = pod.bundle("c", create="delay 0.4")
        creating = asyncio.create_task(pod.call_by(other, "Create", id="c", bundle=bundle, options=pod.options()))
        await until(lambda: "create c" in pod.calls())
        other.close()
        with pytest.raises(ConnectionClosed):
            await creating
        # As containerd does next. It must be told only when there is nothing left.
        assert (await refused(pod, "Delete", id="c"))[0] == Code.NOT_FOUND
        assert pod.children() == []
        assert not (pod.directory / "oci" / "test" / "c").exists()
        assert not (pod.directory / "c" / "pouchrich.json").exists()
        assert await pod.settled_fds() == before
        assert pod.told() == []


@in_loop
async def test_a_create_that_never_returns_is_killed_when_its_client_has_gone(pod: Pod):
    async with pod.served():
        other = await pod.connect()
        bundle = pod.bundle("c", create="hang")
        creating = asyncio.create_task(pod.call_by(other, "Create", id="c", bundle=bundle, options=pod.options()))
        await until(lambda: "create c" in pod.calls())
        other.close()
        with pytest.raises(ConnectionClosed):
            await creating
        async with asyncio.timeout(5):  # what containerd gives the Delete that follows
            assert (await refused(pod, "Delete", id="c"))[0] == Code.NOT_FOUND
        assert pod.children() == []


async def start_and_go(pod: Pod, **one: str) -> None:
    """Ask for the Start of an exec of `c`, and lose the connection once the OCI runtime is at it."""
    other = await pod.connect()
    starting = asyncio.create_task(pod.call_by(other, "Start", **one))
    await until(lambda: "exec c" in pod.calls())
    other.close()
    with pytest.raises(ConnectionClosed):
        await starting


@in_loop
async def test_the_start_of_an_exec_that_never_returns_is_ended_when_its_client_has_gone(pod: Pod):
    """A container that freezes or stops the exec's process keeps the OCI runtime waiting for it."""
    one = {"id": "c", "exec_id": "e"}
    async with pod.served():
        await pod.run("c", exec="hang")
        before = pod.children()
        await pod.exec(*one.values(), "exit 0")
        await start_and_go(pod, **one)
        async with asyncio.timeout(5):
            assert (await refused(pod, "Kill", **one, signal=9))[0] == Code.FAILED_PRECONDITION
            await pod.call("Delete", **one)
        assert pod.children() == before
        assert pod.told("c") == ["TaskCreate", "TaskStart", "TaskExecAdded:e"]


@in_loop
async def test_so_it_is_if_the_client_goes_after_its_deadline(pod: Pod):
    one = {"id": "c", "exec_id": "e"}
    async with pod.served():
        await pod.run("c", exec="hang")
        before = pod.children()
        await pod.exec(*one.values(), "exit 0")
        other = await pod.connect()
        with pytest.raises((RemoteError, TimeoutError)):
            await other.call(TASK, "Start", task_pb2.StartRequest(**one), task_pb2.StartResponse, timeout_s=0.3)
        other.close()
        await pod.call("Delete", **one)
        assert pod.children() == before


@in_loop
async def test_an_exec_that_is_made_after_its_client_has_gone_is_killed(pod: Pod):
    one = {"id": "c", "exec_id": "e"}
    gate = pod.directory / "gate"
    async with pod.served():
        await pod.run("c", exec=f"block {gate}")
        before = pod.children()
        await pod.exec(*one.values(), "exec sleep 1000")
        await start_and_go(pod, **one)
        gate.touch()
        await pod.call("Delete", **one)
        await until(lambda: pod.children() == before)
        assert pod.told("c") == ["TaskCreate", "TaskStart", "TaskExecAdded:e"]
        assert not (pod.directory / "c/e.pid").exists()


@in_loop
async def test_a_delete_that_comes_while_one_is_going_on_gets_the_same_answer(pod: Pod):
    async with pod.served():
        await pod.run("c", init="exit 9", delete="delay 0.2")
        await pod.call("Wait", id="c")
        first, second = await asyncio.gather(pod.call("Delete", id="c"), pod.call("Delete", id="c"))
        assert first == second
        assert first.exit_status == 9
        await pod.until_event(events_pb2.TaskDelete)
        assert pod.told().count("TaskDelete") == 1
        assert pod.calls().count("delete c") == 1


@in_loop
async def test_a_delete_whose_client_has_gone_is_finished_and_forgotten(pod: Pod):
    async with pod.served():
        await pod.run("c", init="exit 0", delete="delay 0.2")
        await pod.call("Wait", id="c")
        other = await pod.connect()
        deleting = asyncio.create_task(pod.call_by(other, "Delete", id="c"))
        await until(lambda: "delete c" in pod.calls())
        other.close()
        with pytest.raises(ConnectionClosed):
            await deleting
        await pod.until_event(events_pb2.TaskDelete)
        assert await refused(pod, "State", id="c") == (Code.NOT_FOUND, "container not created: not found")
        await pod.call("Shutdown", id="c")
        assert await asyncio.to_thread(pod.exited) == 0


@in_loop
async def test_a_failed_delete_may_be_tried_again(pod: Pod):
    async with pod.served():
        await pod.run("c", init="exit 0", delete="error device busy")
        await pod.call("Wait", id="c")
        assert await refused(pod, "Delete", id="c") == (Code.UNKNOWN, "failed to delete task: device busy")
        assert (await pod.call("State", id="c")).status == STOPPED
        (pod.directory / "c" / "fail.delete").unlink()
        await pod.call("Delete", id="c")
        await pod.until_event(events_pb2.TaskDelete)


@in_loop
async def test_shutdown_does_nothing_while_there_is_a_container(pod: Pod):
    async with pod.served():
        await pod.create("c")
        await pod.call("Shutdown", id="c", now=True)
        assert (await pod.call("Connect", id="c")).shim_pid == pod.pid
        assert pod.listens()


@in_loop
async def test_shutdown_with_a_create_in_flight_waits_for_it(pod: Pod):
    gate = pod.directory / "gate"
    async with pod.served():
        creating = asyncio.create_task(pod.create("c", create=f"block {gate}"))
        await until(lambda: "create c" in pod.calls())
        await pod.call("Shutdown", id="other")
        gate.touch()
        assert await creating > 0
        await pod.call("Kill", id="c", signal=9)
        await pod.call("Wait", id="c")
        await pod.call("Delete", id="c")
        await pod.call("Shutdown", id="c")
        assert await asyncio.to_thread(pod.exited) == 0


@in_loop
async def test_shutdown_asked_while_a_create_fails_ends_the_server(pod: Pod):
    gate = pod.directory / "gate"
    async with pod.served():
        creating = asyncio.create_task(pod.create("c", create=f"block {gate}\nerror no"))
        await until(lambda: "create c" in pod.calls())
        await pod.call("Shutdown", id="c")
        gate.touch()
        with pytest.raises(RemoteError, match="create failed: no"):
            await creating
        assert await asyncio.to_thread(pod.exited) == 0
        assert not pod.listens()


@pytest.fixture
def own_bundles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the pod server of the test has the bundles of members."""
    monkeypatch.setattr(paths, "PODS", str(tmp_path / "pods"))
    return tmp_path / "pods/test/box"


def names(directory: Path) -> set[str]:
    return {path.name for path in directory.iterdir()} if directory.exists() else set()


@in_loop
async def test_a_member_has_a_bundle_of_ours_and_is_asked_for_by_containerds(own_bundles: Path, pod: Pod):
    async with pod.served():
        await pod.create("m", sandbox="box")
        assert (await pod.call("State", id="m")).bundle == str(pod.directory / "m")
        assert names(pod.directory / "m") == {"config.json", "rootfs", "sandbox"}
        assert {"config.json", "init.pid", "pouchrich.json"} < names(own_bundles / "m")
        await pod.call("Delete", id="m")
        assert names(own_bundles.parent) == set()


@in_loop
async def test_a_member_that_cannot_be_made_leaves_no_bundle(own_bundles: Path, pod: Pod):
    async with pod.served():
        with pytest.raises(RemoteError, match="process: found list"):
            await pod.create("m", sandbox="box", spec={"process": []})
        with pytest.raises(RemoteError, match=r"n/sandbox: found '\.\./box', allowed letters"):
            await pod.create("n", sandbox="../box")
        assert names(own_bundles.parent) == set()


@in_loop
async def test_the_server_of_a_sandbox_that_is_gone_goes_with_its_last_member(own_bundles: Path, pod: Pod):
    """containerd 2.0 to 2.3 asks for no Shutdown after the Delete of a member."""
    async with pod.served():
        await pod.create("box")
        for name in ("one", "two"):
            await pod.create(name, sandbox="box")
        await pod.call("Delete", id="one")
        await pod.call("Delete", id="box")
        await pod.call("Shutdown", id="box")
        assert (await pod.call("Connect", id="two")).shim_pid == pod.pid
        await pod.call("Delete", id="two")
        assert await asyncio.to_thread(pod.exited) == 0
        assert not pod.listens()


@pytest.fixture
def brief_drain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the server of a `pod` that is asked for after this."""
    monkeypatch.setattr(stdio, "DRAIN_TIMEOUT_S", 1.0)


@pytest.mark.parametrize("unread", [False, True], ids=["", "output that nobody reads"])
@in_loop
async def test_a_server_whose_member_containerd_has_given_up_goes_with_its_sandbox(
    brief_drain: None, tmp_path: Path, own_bundles: Path, pod: Pod, monkeypatch: pytest.MonkeyPatch, unread: bool
):
    """A containerd that cannot reach the server calls `delete`, and asks for no Delete then."""
    for name in ("RECORDS", "BUNDLES", "CONTAINERS"):
        monkeypatch.setattr(paths, name, str(tmp_path / name.lower()))
    os.mkfifo(tmp_path / "out")
    reader = os.open(tmp_path / "out", os.O_RDONLY | os.O_NONBLOCK)
    async with pod.served():
        await pod.run("box")
        spec = {
            "linux": {"namespaces": [{"type": "pid"}]},
            "process": {"args": ["x"], "apparmorProfile": "one with which output is copied"},
        }
        await pod.create("one", sandbox="box", stdout=str(tmp_path / "out"), spec=spec)
        says = 300_000 if unread else 1
        (own_bundles / "one/init.cmd").write_text(f"head -c {says} /dev/zero; exec sleep 1000")
        await pod.call("Start", id="one")
        flags = Flags()
        flags.namespace, flags.id, flags.bundle = "test", "one", str(pod.directory / "one")
        await asyncio.to_thread(delete, flags)
        await pod.until_event(events_pb2.TaskExit)
        shutil.rmtree(pod.directory / "one")
        await pod.call("Kill", id="box", signal=9)
        await pod.call("Wait", id="box")
        await pod.call("Delete", id="box")
        with suppress(RemoteError, TimeoutError):
            await pod.client.call(TASK, "Shutdown", task_pb2.ShutdownRequest(id="box"), Empty, timeout_s=0.3)
        assert await asyncio.to_thread(pod.exited) == 0
    os.close(reader)


@in_loop
async def test_a_containerd_before_2_finds_the_server_by_its_members_bundles(own_bundles: Path, pod: Pod):
    async with pod.served():
        await pod.create("box")
        (pod.directory / "box/address").write_text("unix:///here")
        await pod.create("one", sandbox="box")
        assert (pod.directory / "one/address").read_text() == "unix:///here"


@in_loop
async def test_a_shutdown_while_others_are_left_keeps_no_later_create_out(pod: Pod):
    """Of a group by the annotation of containerd's client, of which each has a Shutdown of its own."""
    async with pod.served():
        for name in ("one", "two"):
            await pod.create(name)
        await pod.call("Delete", id="one")
        await pod.call("Shutdown", id="one")
        await pod.call("Delete", id="two")
        assert await pod.create("three") > 0


@in_loop
async def test_a_sandbox_outlives_its_members(own_bundles: Path, pod: Pod):
    """containerd 2.4 asks for a Shutdown after the Delete of each."""
    async with pod.served():
        await pod.create("box")
        await pod.create("one", sandbox="box")
        await pod.call("Delete", id="one")
        await pod.call("Shutdown", id="one")
        await pod.create("two", sandbox="box")
        await pod.call("Delete", id="two")
        assert (await pod.call("Connect", id="box")).shim_pid == pod.pid
        assert pod.listens()


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """The pod server of the test has little patience with having nothing to serve."""
    monkeypatch.setattr(pod_server, "GIVE_UP_AFTER_S", 0.5)


@in_loop
async def test_a_server_that_has_nothing_to_serve_goes_though_it_is_connected(hasty: None, pod: Pod):
    """containerd 1.6 that was killed in the middle of the Create keeps its connection, and asks nothing."""
    async with pod.served():
        with pytest.raises(RemoteError, match="create failed: no"):
            await pod.create("c", create="error no")
        assert await asyncio.to_thread(pod.exited) == 0


@in_loop
async def test_a_server_that_has_something_to_serve_stays(hasty: None, pod: Pod):
    async with pod.served():
        gate = pod.directory / "gate"
        creating = asyncio.create_task(pod.create("c", create=f"block {gate}"))
        await asyncio.sleep(1)
        gate.touch()
        await creating
        await asyncio.sleep(1)
        assert (await pod.call("Connect", id="c")).task_pid > 0
        await pod.call("Delete", id="c")
        assert await asyncio.to_thread(pod.exited) == 0


@in_loop
async def test_shutdown_delivers_the_last_events_before_the_server_goes(pod: Pod):
    async with pod.served():
        await pod.run("c", init="exit 0")
        await pod.call("Wait", id="c")
        await pod.call("Delete", id="c")
        await pod.call("Shutdown", id="c")
        assert await asyncio.to_thread(pod.exited) == 0
        await pod.until_event(events_pb2.TaskDelete)
        assert not pod.listens()


@in_loop
async def test_an_id_is_taken_while_its_container_is_made_and_while_it_lives(pod: Pod):
    gate = pod.directory / "gate"
    async with pod.served():
        creating = asyncio.create_task(pod.create("c", create=f"block {gate}"))
        await until(lambda: "create c" in pod.calls())
        again = {"id": "c", "bundle": str(pod.directory / "c"), "options": pod.options()}
        taken = (Code.ALREADY_EXISTS, "container c: already exists")
        assert await refused(pod, "Create", **again) == taken
        gate.touch()
        await creating
        assert await refused(pod, "Create", **again) == taken
        await pod.exec("c", "e", "exit 0")
        with pytest.raises(RemoteError, match="id e: already exists") as caught:
            await pod.exec("c", "e", "exit 0")
        assert caught.value.code == Code.ALREADY_EXISTS
        await pod.call("Delete", id="c", exec_id="e")
        await pod.exec("c", "e", "exit 0")


@in_loop
async def test_bad_requests_are_invalid_arguments_that_name_the_field(pod: Pod):
    async with pod.served():
        await pod.create("c")
        cases = [
            ("Exec", {"id": "c", "exec_id": "e", "spec": {"value": b"{"}}, "spec: not valid JSON"),
            ("Exec", {"id": "c", "exec_id": "e", "spec": {"value": b"[]"}}, "spec: found list, allowed an object"),
            ("Exec", {"id": "c", "exec_id": "e", "spec": {"value": b"\xff\xfe{"}}, "spec: not valid JSON"),
            ("Exec", {"id": "c", "exec_id": "../e", "spec": {"value": b"{}"}}, "exec_id: found '../e'"),
            ("Update", {"id": "c"}, "resources: not valid JSON"),
            ("Kill", {"id": "c", "signal": 65}, "signal: found 65, allowed 0 to 64"),
            ("Create", {"id": "../x", "bundle": "/b"}, "id: found '../x'"),
            ("Create", {"id": "x", "bundle": "b"}, "bundle: found 'b', allowed an absolute path"),
            ("Create", {"id": "x", "bundle": "/nowhere"}, "/nowhere/config.json: No such file"),
            ("Create", {"id": "x", "bundle": "/b", "options": {"type_url": "what"}}, ""),
        ]
        for method, fields, text in cases:
            code, message = await refused(pod, method, **fields)
            assert (method, code) == (method, Code.INVALID_ARGUMENT)
            assert message.startswith(text)


@in_loop
async def test_unknown_containers_and_execs_have_the_texts_that_clients_know(pod: Pod):
    async with pod.served():
        await pod.create("c")
        one = {"value": b"{}"}
        for method, fields in [
            *((name, {}) for name in ("State", "Start", "Delete", "Kill", "Wait", "Pids", "Stats", "Pause", "Resume")),
            *((name, {}) for name in ("ResizePty", "CloseIO", "Checkpoint")),
            ("Exec", {"exec_id": "e", "spec": one}),
            ("Update", {"resources": one}),
        ]:
            assert await refused(pod, method, id="gone", **fields) == (
                Code.NOT_FOUND,
                "container not created: not found",
            )
        for method in ("State", "Start", "Delete", "Kill", "Wait", "ResizePty", "CloseIO"):
            code, message = await refused(pod, method, id="c", exec_id="e")
            assert (code, message) == (Code.NOT_FOUND, "process does not exist e: not found")
        assert (await pod.call("Connect", id="gone")).task_pid == 0


@in_loop
async def test_a_stopped_container_still_has_a_pid_to_show(pod: Pod):
    async with pod.served():
        pid = await pod.run("c", init="exit 0")
        await pod.call("Wait", id="c")
        # Of its cgroup's processes (here the tests' own) or, where none is left, of init.
        assert [entry.pid for entry in (await pod.call("Pids", id="c")).processes]
        state = await pod.call("State", id="c")
        assert (state.pid, state.status) == (pid, STOPPED)
        assert state.exited_at.seconds > 0


@in_loop
async def test_an_exec_that_cannot_be_started_lets_its_waiters_go_and_can_be_deleted(pod: Pod):
    out = str(pod.directory / "out")
    os.mkfifo(out)
    async with pod.served():
        await pod.run("c")
        reader = os.open(out, os.O_RDONLY | os.O_NONBLOCK)
        await pod.exec("c", "first", "exit 0")  # the container's execs share one /dev/null
        await pod.call("Start", id="c", exec_id="first")
        await pod.call("Wait", id="c", exec_id="first")
        await pod.call("Delete", id="c", exec_id="first")
        before = await pod.settled_fds()
        await pod.exec("c", "e", "", stdout=out)
        waiting = asyncio.create_task(pod.call("Wait", id="c", exec_id="e"))
        code, message = await refused(pod, "Start", id="c", exec_id="e")
        assert (code, message) == (
            Code.UNKNOWN,
            "OCI runtime exec failed: executable file not found in $PATH",
        )
        waited = await waiting
        assert (waited.exit_status, waited.exited_at.ToJsonString()) == (0, "0001-01-01T00:00:00Z")
        assert (await pod.call("State", id="c", exec_id="e")).status == 1
        await pod.call("Delete", id="c", exec_id="e")
        assert await pod.settled_fds() == before
        assert os.listdir(pod.directory / "c").count("e-process.json") == 0
        os.close(reader)
        assert "TaskExit:e" not in pod.told()


@in_loop
async def test_an_exec_whose_start_was_given_up_is_deleted_without_a_word(pod: Pod):
    """As containerd's CRI does where the time of an ExecSync is over while the OCI runtime works: kill, then delete."""
    async with pod.served():
        await pod.run("c", exec=f"block {pod.directory}/go")
        await pod.exec("c", "e", "exec sleep 1000")
        starting = asyncio.create_task(pod.call("Start", id="c", exec_id="e"))
        await until(lambda: "exec c" in pod.calls())
        killing = asyncio.create_task(pod.call("Kill", id="c", exec_id="e", signal=9))
        assert (await pod.call("State", id="c", exec_id="e")).status == CREATED  # and later calls are answered
        (pod.directory / "go").touch()
        await starting
        await killing
        assert (await pod.call("Wait", id="c", exec_id="e")).exit_status == 137
        assert (await pod.call("Delete", id="c", exec_id="e")).exit_status == 137


@in_loop
async def test_a_delete_waits_for_the_start_of_an_exec(pod: Pod):
    async with pod.served():
        await pod.run("c", exec=f"block {pod.directory}/go\nerror no such file")
        await pod.exec("c", "e", "exec sleep 1000")
        starting = asyncio.create_task(refused(pod, "Start", id="c", exec_id="e"))
        await until(lambda: "exec c" in pod.calls())
        deleting = asyncio.create_task(pod.call("Delete", id="c", exec_id="e"))
        assert (await pod.call("State", id="c", exec_id="e")).status == CREATED
        (pod.directory / "go").touch()
        assert "no such file" in (await starting)[1]
        await deleting
        assert (await refused(pod, "State", id="c", exec_id="e"))[0] == Code.NOT_FOUND


@in_loop
async def test_pids_name_the_exec_of_each_main_process(pod: Pod):
    async with pod.served():
        await pod.run("c")
        await pod.exec("c", "e", "exec sleep 1000")
        started = await pod.call("Start", id="c", exec_id="e")
        # All are in the tests' own cgroup here.
        entries = {entry.pid: entry.info for entry in (await pod.call("Pids", id="c")).processes}
        info = entries[started.pid]
        assert info.type_url == "containerd.runc.v1.ProcessDetails"
        assert runc_options_pb2.ProcessDetails.FromString(info.value).exec_id == "e"
        assert sum(bool(info.type_url) for info in entries.values()) == 1


@in_loop
async def test_pause_and_resume_keep_to_the_phases(pod: Pod):
    async with pod.served():
        await pod.create("c")
        assert (await refused(pod, "Pause", id="c"))[1].startswith("cannot pause task in created state")
        await pod.call("Start", id="c")
        assert (await refused(pod, "Resume", id="c"))[1].startswith("cannot resume task in running state")
        await pod.call("Pause", id="c")
        assert (await pod.call("State", id="c")).status == 4
        with pytest.raises(RemoteError, match="cannot exec in a paused state"):
            await pod.exec("c", "e", "exit 0")
        await pod.call("Kill", id="c", signal=9)
        assert (await pod.call("Wait", id="c")).exit_status == 137
        assert "resume c" in pod.calls()
        await pod.until_event(events_pb2.TaskPaused)


@in_loop
async def test_the_init_of_a_shared_pid_namespace_takes_the_others_with_it(pod: Pod):
    spec = {"linux": {"namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}]}, "root": {}}
    async with pod.served():
        await pod.run("c", init="exit 0", spec=spec)
        await pod.call("Wait", id="c")
        assert "kill c all" in pod.calls()


@in_loop
async def test_limits_reach_the_runtime_as_they_came(pod: Pod):
    async with pod.served():
        await pod.run("c")
        await pod.call("Update", id="c", resources={"value": b'{"cpu": {"shares": 3}}'})
        assert (pod.directory / "c" / "updated").read_text() == '{"cpu": {"shares": 3}}'


@in_loop
async def test_twenty_lives_leave_no_descriptor_child_or_thread_behind(pod: Pod):
    out, err = str(pod.directory / "out"), str(pod.directory / "err")
    os.mkfifo(out)
    os.mkfifo(err)
    async with pod.served():
        readers = [os.open(path, os.O_RDONLY | os.O_NONBLOCK) for path in (out, err)]

        async def live(name: str) -> None:
            await pod.create(name, stdout=out, stderr=err, init="exec sleep 1000")
            await pod.call("Start", id=name)
            await pod.exec(name, "e", "echo hello", stdout=out)
            await pod.call("Start", id=name, exec_id="e")
            await pod.call("Wait", id=name, exec_id="e")
            await pod.call("Delete", id=name, exec_id="e")
            await pod.call("Kill", id=name, signal=signal.SIGTERM)
            assert (await pod.call("Wait", id=name)).exit_status == 143
            await pod.call("Delete", id=name)
            assert os.read(readers[0], 4096) == b"hello\n"

        await live("first")
        before = await pod.settled_fds()
        for number in range(20):
            await live(f"c{number}")

        async def quiet() -> bool:
            return await pod.settled_fds() == before

        await until_async(quiet)
        assert pod.children() == []
        for reader in readers:
            os.close(reader)

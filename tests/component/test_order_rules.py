"""The order of what containerd hears, one rule a test (runc shim, task/service.go)."""

import asyncio
import os

import pytest

from protos.gen import events_pb2
from shim.ttrpc.errors import Code, RemoteError
from tests.component.conftest import Pod
from tests.fakes.loop import in_loop, until

CREATED, RUNNING = 1, 2
LIFE = ["TaskCreate", "TaskStart", "TaskExit", "TaskDelete"]


@in_loop
async def test_create_goes_before_start_before_exit_before_delete(pod: Pod):
    async with pod.served():
        pid = await pod.run("c", init="exit 7")
        waited = await pod.call("Wait", id="c")
        deleted = await pod.call("Delete", id="c")
        await pod.until_event(events_pb2.TaskDelete)

        assert pod.told() == LIFE
        assert [event.pid for event in pod.events] == [pid] * 4
        exits = [waited, deleted, *pod.events[2:]]
        assert [one.exit_status for one in exits] == [7] * 4
        assert len({one.exited_at.ToNanoseconds() for one in exits}) == 1


@in_loop
async def test_an_init_that_dies_in_create_is_told_of_after_create_and_create_succeeds(pod: Pod):
    async with pod.served():
        assert await pod.create("c", create="die") > 0
        waited = await pod.call("Wait", id="c")
        await pod.call("Delete", id="c")
        await pod.until_event(events_pb2.TaskDelete)

        assert waited.exit_status == 3
        assert pod.told() == ["TaskCreate", "TaskExit", "TaskDelete"]


@in_loop
async def test_an_init_that_dies_while_create_waits_for_a_reader_is_told_of_after_create(pod: Pod):
    fifo = str(pod.directory / "out")
    os.mkfifo(fifo)
    async with pod.served():
        creating = asyncio.create_task(pod.create("c", create="die", stdout=fifo))
        await until(lambda: (pod.directory / "c" / "init.pid").exists())
        await asyncio.sleep(0.1)  # what must not happen has the time to
        assert pod.told() == []
        reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
        try:
            await creating
            await pod.until_event(events_pb2.TaskExit)
            assert pod.told() == ["TaskCreate", "TaskExit"]
        finally:
            os.close(reader)


@in_loop
async def test_an_exit_during_start_is_held_until_the_start_event(pod: Pod):
    async with pod.served():
        await pod.create("c", init="exit 0")
        fail = pod.directory / "c" / "fail.start"
        fail.write_text("delay 0\n")
        await pod.call("Start", id="c")
        await pod.until_event(events_pb2.TaskExit)
        assert pod.told() == ["TaskCreate", "TaskStart", "TaskExit"]


@in_loop
async def test_an_exec_that_ends_before_its_start_returns_is_told_of_after_its_start(pod: Pod):
    async with pod.served():
        await pod.run("c")
        await pod.exec("c", "e", "exit 5")
        waiting = asyncio.create_task(pod.call("Wait", id="c", exec_id="e"))
        started = await pod.call("Start", id="c", exec_id="e")
        assert (await waiting).exit_status == 5
        exited = await pod.until_event(events_pb2.TaskExit, id="e")
        assert exited.pid == started.pid
        assert pod.told()[2:] == ["TaskExecAdded:e", "TaskExecStarted:e", "TaskExit:e"]


@in_loop
async def test_inits_exit_is_the_last_exit(pod: Pod):
    async with pod.served():
        pid = await pod.run("c")
        for number in range(5):
            await pod.exec("c", f"e{number}", "exec sleep 1000")
        started = [await pod.call("Start", id="c", exec_id=f"e{number}") for number in range(5)]
        waiting = asyncio.create_task(pod.call("Wait", id="c"))
        os.kill(pid, 9)
        await until(lambda: not os.path.exists(f"/proc/{pid}"))
        assert (await pod.call("State", id="c")).status == RUNNING  # until its exit is told
        assert not waiting.done()
        assert "TaskExit" not in pod.told()
        for exec_ in started:
            os.kill(exec_.pid, 9)
        assert (await waiting).exit_status == 137
        await pod.until_event(events_pb2.TaskExit, id="c")
        assert pod.told()[-1] == "TaskExit"
        assert sorted(pod.told()[-6:-1]) == [f"TaskExit:e{number}" for number in range(5)]


@in_loop
async def test_inits_exit_waits_for_an_exec_whose_start_is_in_flight(pod: Pod):
    async with pod.served():
        pid = await pod.run("c", exec="delay 0.3")
        await pod.exec("c", "e", "exit 0")
        starting = asyncio.create_task(pod.call("Start", id="c", exec_id="e"))
        await until(lambda: "exec c" in pod.calls())
        os.kill(pid, 9)
        await starting
        await pod.until_event(events_pb2.TaskExit, id="c")
        assert pod.told()[2:] == ["TaskExecAdded:e", "TaskExecStarted:e", "TaskExit:e", "TaskExit"]


@in_loop
async def test_no_exec_starts_once_init_has_ended(pod: Pod):
    async with pod.served():
        pid = await pod.run("c")
        await pod.exec("c", "e", "exit 0")
        os.kill(pid, 9)
        await pod.call("Wait", id="c")
        with pytest.raises(RemoteError, match="container c init process is not running") as refused:
            await pod.call("Start", id="c", exec_id="e")
        assert refused.value.code == Code.FAILED_PRECONDITION
        with pytest.raises(RemoteError, match="cannot exec in a stopped state"):
            await pod.exec("c", "f", "exit 0")
        assert "exec c" not in pod.calls()


@in_loop
async def test_a_running_container_is_not_deleted(pod: Pod):
    async with pod.served():
        await pod.run("c")
        with pytest.raises(RemoteError, match="cannot delete a running process") as refused:
            await pod.call("Delete", id="c")
        assert refused.value.code == Code.FAILED_PRECONDITION
        assert (await pod.call("State", id="c")).status == RUNNING


@in_loop
async def test_killing_what_has_ended_or_is_gone_is_not_found(pod: Pod):
    async with pod.served():
        await pod.run("c", init="exit 0")
        await pod.call("Wait", id="c")
        for everyone in (False, True):
            with pytest.raises(RemoteError, match="process already finished: not found") as ended:
                await pod.call("Kill", id="c", signal=9, all=everyone)
            assert ended.value.code == Code.NOT_FOUND
        await pod.call("Delete", id="c")
        with pytest.raises(RemoteError, match="container not created: not found") as gone:
            await pod.call("Kill", id="c", signal=9)
        assert gone.value.code == Code.NOT_FOUND


@in_loop
async def test_a_wait_holds_up_nothing(pod: Pod):
    async with pod.served():
        await pod.create("c")
        waiting = [asyncio.create_task(pod.call("Wait", id="c")) for _ in range(10)]
        await pod.call("Start", id="c")
        await pod.call("Kill", id="c", signal=15)
        assert {(await one).exit_status for one in waiting} == {143}


@in_loop
async def test_a_container_deleted_before_its_start_tells_of_its_exit_first(pod: Pod):
    async with pod.served():
        await pod.create("c", delete="late")
        deleted = await pod.call("Delete", id="c")
        await pod.until_event(events_pb2.TaskDelete)
        assert pod.told() == ["TaskCreate", "TaskExit", "TaskDelete"]
        assert deleted.exit_status == 137


@in_loop
async def test_a_failed_start_leaves_the_container_created_and_tells_of_no_start(pod: Pod):
    async with pod.served():
        await pod.create("c", start="error no such device")
        with pytest.raises(RemoteError, match=r"^OCI runtime start failed: no such device") as refused:
            await pod.call("Start", id="c")
        assert refused.value.code == Code.UNKNOWN
        assert (await pod.call("State", id="c")).status == CREATED
        (pod.directory / "c" / "fail.start").unlink()
        await pod.call("Start", id="c")
        with pytest.raises(RemoteError, match="cannot start a running process"):
            await pod.call("Start", id="c")
        await pod.until_event(events_pb2.TaskStart)
        assert pod.told() == ["TaskCreate", "TaskStart"]


@in_loop
async def test_a_failed_create_tells_of_nothing_and_leaves_nothing(pod: Pod):
    async with pod.served():
        with pytest.raises(RemoteError, match=r"^OCI runtime create failed: no such device"):
            await pod.create("c", create="error no such device")
        with pytest.raises(RemoteError, match="container not created: not found") as unknown:
            await pod.call("Delete", id="c")
        assert unknown.value.code == Code.NOT_FOUND
        await pod.run("d")
        await pod.until_event(events_pb2.TaskStart)
        assert pod.told("c") == []
        assert not (pod.directory / "c" / "pouchrich.json").exists()


@in_loop
async def test_a_create_whose_client_never_reads_tells_of_no_exit_either(pod: Pod):
    async with pod.served():
        with pytest.raises(RemoteError) as refused:
            await pod.create("c", stdout=str(pod.directory / "nothing"))  # fails after init is there
        assert refused.value.code == Code.UNKNOWN  # never NotFound: that would mean the task is gone
        await until(lambda: not pod.children())
        await pod.run("d")
        await pod.until_event(events_pb2.TaskStart)
        assert pod.told("c") == []

"""shim.task.hooks.hooks on the host: real programs, no root, no container."""

import asyncio
import errno
import json
import os
import resource
import sys
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from runtime import bundle_log
from runtime.config.model import Hook, When
from runtime.errors import HookFailed, PouchrichError, RuntimeFailed
from runtime.hooks import environment, host_supervisor
from runtime.hooks.environment import Ending, HookSubject
from runtime.hooks.journal import Journal, boot_id, path_of, records
from runtime.hooks.select import Selection
from runtime.oci.argv import OCIBinary
from runtime.oci.cli import OCIRuntime
from shim.task import thread
from shim.task.hooks import hooks as hooks_module
from shim.task.hooks import owed
from shim.task.hooks.hooks import RESULTS, HookRunner, Places
from shim.task.hooks.owed import run_owed
from shim.task.reaper import Reaper


def shell(name, text, **fields):
    given = {
        "name": name,
        "where": "host",
        "command": ("/bin/sh", "-c", text),
        "timeout_s": 10.0,
        "on_failure": "abort",
        "user": None,
        "env": (),
        "mandatory": False,
        "when": When(),
    }
    return Hook(**{**given, **fields})


async def no_runtime(words, fds):
    raise AssertionError(f"no OCI runtime was to run: {words}")


class World:
    """One container's runner in a place of its own."""

    def __init__(self, directory):
        self.directory = directory
        self.places = Places(str(directory / "records"), str(directory / "run"))
        (directory / "bundle").mkdir()
        self.subject = HookSubject(
            id="c1",
            containerd_namespace="k8s.io",
            bundle=str(directory / "bundle"),
            rootfs=str(directory / "bundle" / "rootfs"),
            name="web",
            namespace="shop",
            mode="dumb-init",
            annotations={"a": "x" * 200_000},
        )

    def runner(self, *, prestart=(), poststop=(), budget_s=20.0, pod_budget_s=None):
        loop = asyncio.get_running_loop()
        reaper = Reaper(loop)
        reaper.install()
        return HookRunner(
            self.subject,
            Selection(tuple(prestart), tuple(poststop), budget_s, budget_s if pod_budget_s is None else pod_budget_s),
            spec={"process": {}},
            oci=OCIRuntime(OCIBinary("/bin/false", "/nonexistent"), no_runtime),
            run=no_runtime,
            reaper=reaper,
            places=self.places,
        )

    def prestart(self, *hooks):
        """Run them and return the results, whether or not they fail."""

        async def run():
            runner = self.runner(prestart=hooks)
            error = None
            try:
                await runner.run_prestart(init=4242, cgroup=None)
            except HookFailed as err:
                error = str(err)
            return self.results(), error

        return asyncio.run(run())

    def told(self):
        """What `pouchrich inspect` reads of the hooks that have run."""
        path = self.directory / "bundle" / RESULTS
        return json.loads(path.read_text())["hooks"] if path.exists() else []

    def results(self):
        return [(one["name"], one["result"]) for one in self.told()]

    def records(self):
        return list(records(self.places.records))


@pytest.fixture
def world(tmp_path):
    return World(tmp_path)


def lives(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_hooks_run_in_order_and_find_the_state_and_a_fixed_environment(world, monkeypatch):
    monkeypatch.setenv("SECRET", "of the pod server")
    out = world.directory / "out"
    results, error = world.prestart(
        shell("one", f"cat > {out}.json; env > {out}.env", env=(("A", "b=c"),)),
        shell("two", f"test -e {out}.env"),
    )
    assert (results, error) == ([("one", "exit status 0"), ("two", "exit status 0")], None)
    state = json.loads((world.directory / "out.json").read_text())
    assert (state["id"], state["status"], state["pid"]) == ("c1", "created", 4242)
    assert state["annotations"] == world.subject.annotations
    env = dict(line.split("=", 1) for line in (world.directory / "out.env").read_text().splitlines())
    assert env.keys() - {"PWD", "OLDPWD", "_", "SHLVL"} == {  # a shell's own
        "A",
        "PATH",
        "POUCHRICH_NAME",
        "POUCHRICH_NAMESPACE",
        "POUCHRICH_MODE",
    }
    assert env["A"] == "b=c"


def test_a_supervisor_is_of_no_session_of_the_pod_servers(world):
    out = world.directory / "out"
    world.prestart(shell("one", f"cat /proc/$PPID/stat > {out}"))
    words = out.read_text().rpartition(")")[2].split()
    assert words[3] == out.read_text().split()[0]


def test_a_failure_with_abort_stops_and_names_the_hook_but_not_what_a_host_hook_said(world):
    results, error = world.prestart(shell("check", "echo secret; exit 3"), shell("never", "true"))
    assert results == [("check", "exit status 3")]
    assert error == "prestart hook check: exit status 3"


def test_a_failure_with_continue_goes_on(world):
    results, error = world.prestart(shell("check", "kill -9 $$", on_failure="continue"), shell("next", "true"))
    assert (results, error) == ([("check", "exit status 137"), ("next", "exit status 0")], None)


def test_a_missing_file_is_named_as_such(world):
    results, error = world.prestart(shell("gone", "", command=("/no/such",)))
    assert results == [("gone", "no such file or directory")]
    assert error == "prestart hook gone: no such file or directory"


def test_ten_megabytes_of_output_neither_block_nor_are_kept(world, caplog):
    began = time.monotonic()
    results, _ = world.prestart(shell("loud", "head -c 10000000 /dev/zero | tr '\\0' x; echo end >&2; exit 1"))
    assert results == [("loud", "exit status 1")]
    assert time.monotonic() - began < 10
    assert "xend" in caplog.text
    assert len(caplog.text) < 2000


def test_a_timeout_kills_the_grandchild_that_called_setsid_and_holds_the_output(world):
    pids = world.directory / "pids"
    text = (
        f"setsid sh -c 'echo $$ >> {pids}; (setsid sh -c \"echo \\$\\$ >> {pids}; sleep 60\" &) ; sleep 60' & sleep 60"
    )
    began = time.monotonic()
    results, error = world.prestart(shell("slow", text, timeout_s=0.5))
    assert results == [("slow", "timed out after 0.5s")]
    assert error == "prestart hook slow: timed out after 0.5s"
    assert time.monotonic() - began < 5
    found = [int(line) for line in pids.read_text().split()]
    assert len(found) == 2
    assert not any(map(lives, found))


def test_a_hook_that_leaves_a_child_with_its_output_is_not_waited_for(world):
    pid_file = world.directory / "pid"
    began = time.monotonic()
    results, _ = world.prestart(shell("daemon", f"sleep 60 & echo $! > {pid_file}"))
    assert results == [("daemon", "exit status 0")]
    assert time.monotonic() - began < 5
    pid = int(pid_file.read_text())
    assert lives(pid)
    os.kill(pid, 9)


def test_a_start_that_is_cancelled_ends_the_hook_with_all_it_started(world):
    pid_file = world.directory / "pid"

    async def run():
        hook = shell("slow", f"setsid sleep 60 & echo $! > {pid_file}; sleep 60")
        runner = world.runner(prestart=[hook])
        task = asyncio.create_task(runner.run_prestart(init=1, cgroup=None))
        while not pid_file.exists() or not pid_file.read_text().strip():  # noqa: ASYNC110  another process's doing
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(run())
    assert not lives(int(pid_file.read_text()))


@pytest.mark.parametrize("running", [False, True])
def test_the_end_of_init_ends_the_prestart_hooks(world, running):
    began, over = world.directory / "began", world.directory / "over"

    async def run():
        runner = world.runner(prestart=[shell("slow", f"touch {began}; sleep 60"), shell("next", f"touch {over}")])
        if not running:
            runner.init_ended()
        async with asyncio.timeout(50):
            hooks = asyncio.create_task(runner.run_prestart(init=1, cgroup=None))
            while running and not began.exists():  # noqa: ASYNC110  another process's doing
                await asyncio.sleep(0.01)
            runner.init_ended()
            with pytest.raises(RuntimeFailed, match="PID 1 ended while the prestart hooks ran"):
                await hooks

    asyncio.run(run())
    assert (began.exists(), over.exists()) == (running, False)


@pytest.mark.parametrize("step", ["create", "owe"])
def test_a_create_that_is_cancelled_while_the_record_is_written_leaves_none(world, monkeypatch, step):
    written = getattr(Journal, step)

    def slow(*args):
        time.sleep(0.1)  # a disk that is busy
        return written(*args)

    monkeypatch.setattr(Journal, step, slow)

    async def run():
        runner = world.runner(poststop=[shell("one", "true")])

        async def create():
            await runner.prepare()
            await runner.owe(os.getpid())

        creating = asyncio.create_task(create())
        await asyncio.sleep(0.05)
        creating.cancel()
        with pytest.raises(asyncio.CancelledError):
            await creating
        await runner.discard()
        await asyncio.sleep(0.2)

    asyncio.run(run())
    assert world.records() == []


# Poststop


def tally(world, name="hook", **fields):
    return shell(name, f"echo {name} $POUCHRICH_EXIT_CODE $POUCHRICH_EXIT_REASON >> {world.directory}/tally", **fields)


def counted(world):
    path = world.directory / "tally"
    return path.read_text().splitlines() if path.exists() else []


COMPLETED = Ending(0, "Completed")


async def poststop(world, hooks, *, end=COMPLETED, created=True, times=1, **options):
    runner = world.runner(poststop=hooks, **options)
    await runner.prepare()
    if created:
        await runner.owe(os.getpid())
    await asyncio.gather(*(runner.run_poststop(end) for _ in range(times)))
    return world.results()


@pytest.mark.parametrize(
    "end",
    [
        environment.ending(0),
        environment.ending(7),
        environment.ending(143),
        environment.ending(137, oom_killed=True),
        environment.NEVER_STARTED,
        environment.SHIM_KILLED,
    ],
)
def test_in_every_ending_it_starts_once_however_often_it_is_asked_for(world, end):
    results = asyncio.run(poststop(world, [tally(world)], end=end, times=3))
    assert counted(world) == [f"hook {end.exit_code} {end.reason}"]
    assert results == [("hook", "exit status 0")]
    assert world.records() == []
    assert world.told()[0]["stage"] == "poststop"


def test_a_failed_create_owes_nothing(world):
    async def run():
        runner = world.runner(poststop=[tally(world)])
        await runner.prepare()
        await runner.discard()
        await runner.discard()
        await runner.run_poststop(Ending(0, "Completed"))

    asyncio.run(run())
    assert (counted(world), world.records()) == ([], [])
    assert asyncio.run(poststop(world, [tally(world)], created=False)) == []
    assert (counted(world), world.records()) == ([], [])


def test_a_create_that_failed_late_lets_go_of_what_was_held(world):
    async def run():
        runner = world.runner(poststop=[container_hook()])
        await runner.prepare()
        directory = runner._journal.state.head["pinned"]
        os.makedirs(directory)
        await runner.discard()
        return directory

    assert not os.path.exists(asyncio.run(run()))


def test_a_wait_for_the_hooks_that_is_given_up_does_not_stop_them(world):
    go = world.directory / "go"

    async def run():
        hook = shell("slow", f"while [ ! -e {go} ]; do sleep 0.01; done; echo over >> {world.directory / 'tally'}")
        runner = world.runner(poststop=[hook])
        await runner.prepare()
        await runner.owe(os.getpid())
        waiting = asyncio.create_task(runner.run_poststop(COMPLETED))
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        go.touch()
        await runner.run_poststop(COMPLETED)
        return world.results()

    assert asyncio.run(run()) == [("slow", "exit status 0")]


@pytest.mark.parametrize("full", [False, True], ids=["", "full disk"])
def test_a_hook_that_was_interrupted_in_the_container_is_forgotten_and_not_repeated(world, monkeypatch, full):
    """It is told of once that is noted, so that a retry does not tell of it again."""
    forgotten = []
    if full:
        monkeypatch.setattr(Journal, "done", refuse_to_write)

    async def forget(second):
        forgotten.append(second.id)

    monkeypatch.setattr(owed.PoststopContainer, "forget_interrupted", forget)
    counted = []
    monkeypatch.setattr(owed.measures, "observe_seconds", lambda name, s, **labels: counted.append(labels["outcome"]))
    head = {
        "boot": boot_id(),
        "subject": world.subject.to_dict(),
        "hooks": [asdict(container_hook()), asdict(tally(world))],
        "budget_s": 5.0,
        "pod_budget_s": 5.0,
        "oci": asdict(OCIBinary("/bin/false", "/r")),
        "pinned": str(world.directory / "gone"),
    }
    path = path_of(world.places.records, "k8s.io", "c1")
    journal = Journal.create(path, head)
    journal.owe()
    journal.start(0)
    notes = []

    async def run():
        reaper = Reaper(asyncio.get_running_loop())
        reaper.install()
        await run_owed(journal, run=no_runtime, reaper=reaper, end=environment.SHIM_KILLED, note=notes.append)

    asyncio.run(run())
    assert forgotten == ["c1-poststop-0"]
    assert [one.result for one in notes] == ([] if full else ["interrupted", "exit status 0"])
    assert counted == ([] if full else ["interrupted", "ok"])


def refuse_to_write(*_):
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def test_without_poststop_hooks_nothing_is_written(world):
    assert asyncio.run(poststop(world, [])) == []
    assert not os.path.exists(world.places.records)


def test_a_failure_goes_on_with_continue_and_skips_the_rest_with_abort(world):
    hooks = [
        shell("a", "exit 1", on_failure="continue"),
        shell("b", "exit 2", on_failure="abort"),
        tally(world, "c"),
    ]
    assert asyncio.run(poststop(world, hooks)) == [
        ("a", "exit status 1"),
        ("b", "exit status 2"),
        ("c", "skipped: hook b failed"),
    ]
    assert (counted(world), world.records()) == ([], [])


def test_the_budget_is_for_all_of_them_together(world):
    hooks = [shell("slow", "sleep 60", on_failure="continue"), tally(world, "late")]
    began = time.monotonic()
    results = asyncio.run(poststop(world, hooks, budget_s=0.5))
    assert time.monotonic() - began < 5
    assert results[0][1].startswith("timed out after 0.")
    assert results[1] == ("late", "skipped: the budget of 0.5s is used up")
    assert world.records() == []


def pods(name, text="true", **fields):
    """A hook of the pod's. That it runs on the host here, where no container is, makes no difference to its owner."""
    return shell(name, text, owner="pod", **fields)


def test_a_pods_hook_that_aborts_skips_the_pods_and_none_of_the_nodes(world):
    hooks = [pods("x", "exit 1"), pods("y"), tally(world, "node-cleanup", on_failure="abort")]
    assert asyncio.run(poststop(world, hooks)) == [
        ("x", "exit status 1"),
        ("y", "skipped: hook x failed"),
        ("node-cleanup", "exit status 0"),
    ]
    assert (counted(world), world.records()) == (["node-cleanup 0 Completed"], [])


def test_a_pods_hook_that_uses_up_the_pods_time_uses_up_none_of_the_nodes(world):
    hooks = [pods("x", "sleep 60", on_failure="continue"), pods("y"), tally(world, "node-cleanup")]
    began = time.monotonic()
    results = asyncio.run(poststop(world, hooks, pod_budget_s=0.5))
    assert time.monotonic() - began < 10
    assert dict(results) == {
        "x": "timed out after 0.5s",
        "y": "skipped: the budget of 0.5s is used up",
        "node-cleanup": "exit status 0",
    }
    assert world.records() == []


def test_a_pods_hook_that_cannot_be_ended_holds_up_none_of_the_nodes(world, monkeypatch):
    """A process in an uninterruptible wait: its end comes when it comes."""
    let_go = asyncio.Event()

    async def on_host(reaper, hook, **given):
        if hook.owner == "pod":
            await let_go.wait()
        else:
            let_go.set()
        return owed.Outcome(True, "over")

    monkeypatch.setattr(owed, "run_host_hook", on_host)
    results = asyncio.run(poststop(world, [pods("stuck"), tally(world, "node-cleanup")], pod_budget_s=0.2))
    assert results == [("node-cleanup", "over"), ("stuck", "over")]
    assert world.records() == []


def test_what_goes_wrong_with_a_pods_hook_in_us_stops_none_of_the_nodes(world, monkeypatch):
    real = owed.run_host_hook

    async def on_host(reaper, hook, **given):
        if hook.owner == "pod":
            raise TypeError("nobody thought of this")
        return await real(reaper, hook, **given)

    monkeypatch.setattr(owed, "run_host_hook", on_host)
    results = asyncio.run(poststop(world, [pods("odd"), tally(world, "node-cleanup")]))
    assert results == [("odd", "nobody thought of this"), ("node-cleanup", "exit status 0")]


def test_hooks_in_the_container_use_up_none_of_the_time_of_those_on_the_host(world, monkeypatch):
    """Their programs are the image's, which may hang."""

    async def hang(self, *given, timeout_s, **more):
        await asyncio.sleep(timeout_s)
        return owed.Outcome(False, "hung")

    monkeypatch.setattr(owed.PoststopContainer, "run", hang)
    monkeypatch.setattr(owed.process, "poststop_spec", lambda *given, **more: {"process": {}})
    monkeypatch.setattr(owed.process, "owner", lambda *given: 0)
    monkeypatch.setattr(owed, "_has_files", lambda rootfs: True)
    monkeypatch.setattr(owed, "_is_there", lambda path: True)
    monkeypatch.setattr(owed.pinned, "load_spec", lambda directory: {})
    monkeypatch.setattr(owed.pinned, "pin", lambda *given: None)
    hooks = [container_hook("a"), container_hook("b"), tally(world, "node-cleanup")]
    results = asyncio.run(poststop(world, hooks, budget_s=0.5))
    assert results == [
        ("a", "hung"),
        ("b", "skipped: the budget of 0.5s is used up"),
        ("node-cleanup", "exit status 0"),
    ]


def test_a_root_filesystem_that_hangs_costs_a_hook_in_the_container_its_time_and_nobody_else(world, monkeypatch):
    """A lazily loaded image, or layers on NFS: the pod's other containers are served meanwhile."""
    answers = threading.Event()
    monkeypatch.setattr(owed, "_has_files", lambda rootfs: answers.wait(5))
    monkeypatch.setattr(owed, "_is_there", lambda path: True)
    hooks = [replace(container_hook("a"), timeout_s=0.1), tally(world, "node-cleanup")]

    async def play():
        found = await poststop(world, hooks)
        answers.set()
        while thread._unanswered:  # noqa: ASYNC110 (a thread tells)
            await asyncio.sleep(0.001)
        return found

    ((name, said), after) = asyncio.run(play())
    assert (name, after) == ("a", ("node-cleanup", "exit status 0"))
    assert "its root filesystem did not answer for 0.1 s" in said


def test_owners_are_in_the_record_and_in_what_is_told_of_the_hooks(world, caplog):
    async def run():
        runner = world.runner(poststop=[pods("node-cleanup", "exit 1"), tally(world, "node-cleanup")])
        await runner.prepare()
        await runner.owe(os.getpid())
        (record,) = map(Path, world.records())
        head = json.loads(record.read_text().splitlines()[0])["head"]
        await runner.run_poststop(COMPLETED)
        return [one["owner"] for one in head["hooks"]]

    assert asyncio.run(run()) == ["pod", "node"]
    assert [one["owner"] for one in world.told()] == ["pod", "node"]
    assert "poststop hook node-cleanup of the pod: exit status 1" in caplog.text
    shown = [(line["name"], line["text"]) for line in bundle_log.read(str(world.directory / "bundle"))]
    assert shown == [
        ("node-cleanup of the pod", "poststop: exit status 1"),
        ("node-cleanup", "poststop: exit status 0"),
    ]


def container_hook(name="inside"):
    return shell(name, "true", where="container", on_failure="continue")


def test_after_a_reboot_host_hooks_run_and_container_hooks_are_skipped(world):
    head = {
        "boot": boot_id(),
        "subject": world.subject.to_dict(),
        "hooks": [asdict(container_hook()), asdict(tally(world))],
        "budget_s": 5.0,
        "pod_budget_s": 5.0,
        "oci": asdict(OCIBinary("/bin/false", "/r")),
        "pinned": str(world.directory / "gone"),
    }
    path = path_of(world.places.records, "k8s.io", "c1")
    journal = Journal.create(path, head)
    journal.owe()
    journal.close()
    notes = []

    async def run():
        reaper = Reaper(asyncio.get_running_loop())
        reaper.install()
        taken = Journal.open(path)
        await run_owed(taken, run=no_runtime, reaper=reaper, end=environment.SHIM_KILLED, note=notes.append)

    asyncio.run(run())
    assert notes[0].result.startswith("skipped: nothing is left of the container")
    assert counted(world) == ["hook 137 ShimKilled"]
    assert world.records() == []


class Crash(BaseException):
    """The pod server is killed here."""


STEPS = ("end", "start", "done", "start", "done")


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("step", range(len(STEPS)))
def test_a_server_killed_at_any_write_leaves_each_hook_started_at_most_once_and_none_forgotten(
    world, monkeypatch, caplog, step, after
):
    hooks = [tally(world, "one"), tally(world, "two")]
    writes = []

    def wrap(name):
        real = getattr(Journal, name)

        def write(self, *args):
            number = len(writes)
            writes.append(name)
            if number == step and not after:
                raise Crash
            real(self, *args)
            if number == step:
                raise Crash

        return write

    path = path_of(world.places.records, "k8s.io", "c1")

    async def until_killed():
        runner = world.runner(poststop=hooks)
        await runner.prepare()
        await runner.owe(os.getpid())
        journal = runner._journal
        with pytest.raises(Crash):
            await owed._Owed(journal, no_runtime, runner._reaper, lambda _: None).settle(Ending(7, "Error"))
        journal.close()

    async def settle():
        reaper = Reaper(asyncio.get_running_loop())
        reaper.install()
        await run_owed(Journal.open(path), run=no_runtime, reaper=reaper, end=environment.SHIM_KILLED)

    with monkeypatch.context() as patch:
        for name in ("end", "start", "done"):
            patch.setattr(Journal, name, wrap(name))
        asyncio.run(until_killed())
    asyncio.run(settle())
    starts = [line.split()[0] for line in counted(world)]
    interrupted = {(1, True): "one", (3, True): "two"}.get((step, after))
    assert starts == [name for name in ("one", "two") if name != interrupted]
    reported = [name for name in ("one", "two") if f"poststop hook {name}: was interrupted" in caplog.text]
    if interrupted:
        assert reported == [interrupted]
    assert all(line.split()[1:] in (["7", "Error"], ["137", "ShimKilled"]) for line in counted(world))
    assert world.records() == []


def test_where_the_record_cannot_be_written_no_hook_is_started_and_the_record_stays(world, monkeypatch):
    def full(self, hook):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Journal, "start", full)
    assert asyncio.run(poststop(world, [tally(world)])) == []
    assert counted(world) == []
    assert len(world.records()) == 1


@pytest.mark.parametrize("what", ["end", "start"])
def test_a_record_that_could_not_be_written_is_taken_up_again_when_it_can(world, monkeypatch, what):
    real, tries = getattr(Journal, what), []

    def full(self, *given):
        tries.append(given)
        if len(tries) < 3:
            raise OSError(28, "No space left on device")
        real(self, *given)

    monkeypatch.setattr(Journal, what, full)
    monkeypatch.setattr(hooks_module, "AGAIN_S", 0.01)

    async def run():
        runner = world.runner(poststop=[tally(world)])
        await runner.prepare()
        await runner.owe(os.getpid())
        await runner.run_poststop(Ending(7, "Error"))
        assert counted(world) == []
        async with asyncio.timeout(10):
            await runner._again

    asyncio.run(run())
    assert (counted(world), world.records()) == (["hook 7 Error"], [])


def test_a_record_of_a_later_container_of_the_name_is_not_taken_up(world, monkeypatch):
    def full(self, *given):
        raise OSError(28, "No space left on device")

    real, is_closed = Journal.open, threading.Event()
    in_threads = lambda: threading.get_ident() != threading.main_thread().ident  # noqa: E731
    monkeypatch.setattr(Journal, "open", lambda path: real(path) if not in_threads() or is_closed.wait(10) else None)
    monkeypatch.setattr(Journal, "start", full)
    monkeypatch.setattr(hooks_module, "AGAIN_S", 0.01)

    async def run():
        runner = world.runner(poststop=[tally(world)])
        await runner.prepare()
        await runner.owe(os.getpid())
        await runner.run_poststop(COMPLETED)
        later = world.runner(poststop=[tally(world, "later")])
        await later.prepare()
        later._journal.close()  # its server was killed
        is_closed.set()
        async with asyncio.timeout(10):
            await runner._again

    asyncio.run(run())
    assert (counted(world), len(world.records())) == ([], 2)


def owed_by_a_former(world):
    """A container of the same id before the reboot, whose hook is owed."""

    async def run():
        former = world.runner(poststop=[tally(world, "former")])
        await former.prepare()
        await former.owe(os.getpid())
        former._journal.close()

    asyncio.run(run())


def test_what_an_earlier_container_of_the_id_owes_runs_before_a_later_ones_hooks(world):
    """After a reboot the same id comes again: what was registered is taken back before it is registered again."""
    owed_by_a_former(world)

    async def run():
        runner = world.runner(prestart=[tally(world, "prestart of the later")])
        await runner.prepare()
        await runner.run_prestart(init=4242, cgroup=None)
        assert world.results() == [("prestart of the later", "exit status 0")]

    asyncio.run(run())
    said = [line.partition(" 1")[0] for line in counted(world)]
    assert (said, world.records()) == (["former", "prestart of the later"], [])


def test_who_runs_them_already_is_waited_for_and_not_for_ever(world, monkeypatch):
    owed_by_a_former(world)
    (path,) = world.records()

    async def run(patience_s, ends_after_s):
        monkeypatch.setattr(owed, "FORMER_PATIENCE_S", patience_s)
        journal = Journal.open(path)
        ending = asyncio.get_running_loop().call_later(ends_after_s, journal.close)
        runner = world.runner(poststop=[tally(world)])
        await runner.prepare()
        await runner.discard()
        ending.cancel()
        journal.close()

    asyncio.run(run(0.05, 20))
    assert (counted(world), len(world.records())) == ([], 1)
    (path,) = world.records()
    os.rename(path, world.places.records + "/k8s.io/c1.jsonl")
    path = world.places.records + "/k8s.io/c1.jsonl"
    asyncio.run(run(20, 0.1))
    assert ([line.split()[0] for line in counted(world)], world.records()) == (["former"], [])


def test_a_record_that_cannot_be_opened_is_tried_again(world, monkeypatch):
    real, opens = Journal.open, []

    def start(self, *given):
        raise OSError(28, "No space left on device")

    def opened(path):
        opens.append(path)
        if len(opens) < 3:
            raise OSError(24, "Too many open files")
        return real(path)

    async def run():
        runner = world.runner(poststop=[tally(world)])
        await runner.prepare()
        await runner.owe(os.getpid())
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "start", start)
            await runner.run_poststop(COMPLETED)
        async with asyncio.timeout(10):
            await runner._again

    monkeypatch.setattr(Journal, "open", opened)
    monkeypatch.setattr(hooks_module, "AGAIN_S", 0.01)
    asyncio.run(run())
    assert (len(opens), counted(world), world.records()) == (3, ["hook 0 Completed"], [])


@pytest.mark.parametrize(
    "gone",
    ["interpreter", "supervisor", "both hooks' supervisor", "descriptors", "the supervisor's descriptors"],
)
def test_a_hook_on_the_host_that_cannot_be_started_is_owed_until_it_can(world, monkeypatch, tmp_path, gone):
    """As while the shim is uninstalled, or another is put in its place."""
    broken = [True]
    real = owed.run_host_hook
    few = tmp_path / "python3"
    few.write_text(f'#!/bin/sh\nulimit -n 6\nexec {sys.executable} "$@"\n')  # a pipe would be 5 and 6
    few.chmod(0o755)

    async def on_host(reaper, hook, **given):
        if not broken or (hook.name != "b" and gone != "both hooks' supervisor"):
            return await real(reaper, hook, **given)
        if gone in ("interpreter", "the supervisor's descriptors"):
            with monkeypatch.context() as patch:
                patch.setattr(sys, "executable", "/nonexistent/python3" if gone == "interpreter" else str(few))
                return await real(reaper, hook, **given)
        if gone == "descriptors":
            before = resource.getrlimit(resource.RLIMIT_NOFILE)
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, before[1]))
            try:
                return await real(reaper, hook, **given)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
        with monkeypatch.context() as patch:
            patch.setattr(host_supervisor, "__file__", "/nonexistent/host_supervisor.py")
            return await real(reaper, hook, **given)

    monkeypatch.setattr(owed, "run_host_hook", on_host)
    monkeypatch.setattr(hooks_module, "AGAIN_S", 0.2)
    hooks = [tally(world, "a"), tally(world, "b"), tally(world, "c")]

    async def run():
        runner = world.runner(poststop=hooks)
        await runner.prepare()
        await runner.owe(os.getpid())
        await runner.run_poststop(COMPLETED)
        first = ["a 0 Completed"] if gone != "both hooks' supervisor" else []
        assert (counted(world), len(world.records())) == (first, 1)
        broken.clear()
        async with asyncio.timeout(20):
            await runner._again

    asyncio.run(run())
    assert counted(world) == [f"{name} 0 Completed" for name in "abc"]
    assert world.records() == []


def test_a_hook_whose_supervisor_came_to_its_end_and_says_nothing_is_not_run_again(world, monkeypatch):
    real = owed.run_host_hook

    async def on_host(reaper, hook, **given):
        with monkeypatch.context() as patch:
            patch.setattr(sys, "executable", "/bin/true")
            return await real(reaper, hook, **given)

    monkeypatch.setattr(owed, "run_host_hook", on_host)
    results = asyncio.run(poststop(world, [tally(world)]))
    assert [result for _, result in results] == ["its supervisor ended before the hook began"]
    assert world.records() == []


@pytest.mark.parametrize(("number", "way_out"), [(28, "make room"), (122, "make room"), (30, "root can write")])
def test_a_record_that_cannot_be_begun_is_an_error_that_says_where_and_what_to_do(world, monkeypatch, number, way_out):
    def full(fd, offset, size):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "posix_fallocate", full)

    async def run():
        runner = world.runner(poststop=[tally(world)])
        with pytest.raises(PouchrichError) as error:
            await runner.prepare()
        await runner.discard()
        return str(error.value)

    said = asyncio.run(run())
    for part in ("poststop hooks", os.strerror(number).lower(), "/var/lib/pouchrich", way_out):
        assert part in said
    assert [name for _, _, names in os.walk(world.places.records) for name in names] == []


@pytest.mark.parametrize("where", ["making its container", "looking at its files"])
def test_a_hook_in_the_container_that_a_shortage_keeps_from_starting_is_owed_still(world, monkeypatch, where):
    """A full /run, or no descriptor left: the hook has not run, and can run later."""

    async def run(self, *given, **more):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def scandir(directory):
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(owed, "_is_there", lambda path: True)
    monkeypatch.setattr(owed.pinned, "load_spec", lambda directory: {})
    monkeypatch.setattr(owed.pinned, "pin", lambda *given: None)
    monkeypatch.setattr(owed.process, "poststop_spec", lambda *given, **more: {"process": {}})
    monkeypatch.setattr(owed.process, "owner", lambda *given: 0)
    if where == "looking at its files":
        monkeypatch.setattr(owed.os, "scandir", scandir)
    else:
        monkeypatch.setattr(owed, "_has_files", lambda rootfs: True)
        monkeypatch.setattr(owed.PoststopContainer, "run", run)
    assert asyncio.run(poststop(world, [container_hook("a")])) == []
    (record,) = map(Path, world.records())
    said = record.read_text()
    assert '"done"' not in said
    assert '"skipped"' not in said

"""shim.task.rich.rich: what must not fail a container."""

import asyncio
import json
import signal
from types import SimpleNamespace

import pytest

from runtime import bundle_log, ended
from runtime.cgroup import Cgroup, delegation
from runtime.errors import NotFound, RuntimeFailed, Unsupported
from runtime.init.cgroup import Delegation
from runtime.rich.extras import Extras
from shim.task.application.restarts import Restarts
from shim.task.application.stop import StopTracker
from shim.task.rich import own_cgroups
from shim.task.rich import rich as rich_module
from shim.task.rich.container_agents import ContainerAgents
from shim.task.rich.rich import RichLifecycle
from shim.task.rich.subject import ContainerInfo
from tests.fakes.clock import in_time
from tests.unit.agents.making import selected


def life(bundle, plan=None, stop_signal=None, **parts):
    made = SimpleNamespace(helpers=(), mode="systemd", boot=None)
    decided = SimpleNamespace(extras=Extras(), plan=made, command_hidden=False)
    about = ContainerInfo("c", "ns", str(bundle), "/", {})
    cgroups = own_cgroups.OwnCgroups("c", plan, SimpleNamespace(inside=None), (0, 0))
    stop = StopTracker("", stop_signal, None)
    parts = {"application": None, "hooks": None, "agents": agents(about), "cgroups": cgroups, "stop": stop, **parts}
    return RichLifecycle(about, decided, None, **parts)


def agents(about, *chosen):
    tools = SimpleNamespace(reaper=None, oci=None)
    return ContainerAgents(
        about, Extras(chosen=chosen), tools, selects=lambda when: True, source="/c.toml", root=(0, 0)
    )


def test_a_started_container_is_started_although_its_state_cannot_be_kept(tmp_path, caplog):
    life(tmp_path / "full-disk").started()
    assert "state.json" in caplog.text


def test_the_state_is_kept_for_the_operators_command(tmp_path):
    life(tmp_path).started()
    assert (tmp_path / "state.json").stat().st_mode & 0o777 == 0o600


def test_a_restart_in_place_is_noted_with_the_new_pid_and_the_first_start(tmp_path):
    application = SimpleNamespace(pid=41, manner="pidfd", restarts=Restarts("c", "systemd", wanted=True))
    one = life(tmp_path, application=application)
    one.started()
    first = json.loads((tmp_path / "state.json").read_text())
    application.pid = 77
    application.restarts.restarted(3)
    again = json.loads((tmp_path / "state.json").read_text())
    assert (first["application"], first["restarts"]) == (41, 0)
    assert again == {**first, "application": 77, "restarts": 1}
    assert [line["text"].partition(" (")[0] for line in bundle_log.read(str(tmp_path))] == ["the application runs"]


def test_a_container_with_a_real_init_has_no_checkpoint_and_one_without_may_have(tmp_path):
    restarts = Restarts("c", "systemd", wanted=False)
    life(tmp_path).check_checkpoint()
    with pytest.raises(Unsupported, match=r"checkpoint of a container whose PID 1 is a real init: .* dumb-init"):
        life(tmp_path, application=SimpleNamespace(restarts=restarts)).check_checkpoint()


async def owe(init):
    """No hooks."""


@pytest.mark.parametrize(
    ("cgroup", "path"),
    [
        (Cgroup(unified="/sys/fs/cgroup/pod/c"), "/sys/fs/cgroup/pod/c"),
        (Cgroup(controllers=(("memory", "/sys/fs/cgroup/memory/pod/c"),)), ""),
        (None, ""),
    ],
)
def test_supervised_agents_learn_of_the_cgroup_that_theirs_go_beside(tmp_path, cgroup, path):
    one = agents(ContainerInfo("c", "ns", str(tmp_path), "/", {}), selected())
    asyncio.run(life(tmp_path, agents=one, hooks=SimpleNamespace(owe=owe)).created(7, cgroup))
    assert one._exec.cgroup_path == path


@pytest.fixture
def nested(tmp_path, monkeypatch):
    """A running container whose limits are one level above its own cgroup, and the directories of both."""
    own = tmp_path / "c/pouchrich"
    scope = own / "init.scope"
    scope.mkdir(parents=True)
    for directory in (own.parent, own, scope):
        for name in ("memory.max", "pids.max", "cgroup.max.descendants", "cgroup.max.depth"):
            (directory / name).write_text("max\n")
    (own / "pids.max").write_text("300\n")
    (own.parent / "cgroup.freeze").write_text("0\n")
    (own.parent / "cgroup.events").write_text("frozen 1\n")
    monkeypatch.setattr(delegation, "_unified", lambda pid, proc: str(own))
    running = life(tmp_path, Delegation(9, 3, parent="/c"), hooks=SimpleNamespace(owe=owe))
    asyncio.run(running.created(7, None))
    monkeypatch.setattr(delegation, "_unified", lambda pid, proc: str(scope))  # systemd's first act
    return running, own.parent, own


async def update(running, path, text):
    async with running.updating():
        path.write_text(text)


def test_an_update_keeps_to_the_cgroup_of_create_wherever_pid_1_has_gone(nested):
    running, above, own = nested
    asyncio.run(update(running, own / "memory.max", "4096\n"))
    assert (above / "memory.max").read_text().startswith("4096")
    assert (own / "memory.max").read_text() == "4096\n"


def test_what_the_container_wrote_is_undone_by_an_update_and_goes_nowhere(nested):
    running, above, own = nested
    (own / "pids.max").write_text("max\n")
    asyncio.run(update(running, own / "memory.max", "4096\n"))
    assert [(each / "pids.max").read_text().strip() for each in (above, own)] == ["300", "300"]


def test_an_update_finds_the_container_frozen_and_leaves_it_as_it_was(nested):
    running, above, _ = nested
    during = []

    async def fail():
        async with running.updating():
            during.append((above / "cgroup.freeze").read_text()[0])
            raise OSError("the runtime cannot")

    with pytest.raises(OSError, match="the runtime cannot"):
        asyncio.run(fail())
    assert during == ["1"]
    assert (above / "cgroup.freeze").read_text()[0] == "0"


def test_an_update_of_what_does_not_freeze_is_refused(nested, monkeypatch):
    running, above, own = nested
    monkeypatch.setattr(own_cgroups, "FREEZE_S", 0.01)
    (above / "cgroup.events").write_text("frozen 0\n")
    with pytest.raises(RuntimeFailed, match="does not freeze"):
        asyncio.run(update(running, own / "memory.max", "4096\n"))
    assert (above / "cgroup.freeze").read_text()[0] == "0"


@in_time
async def test_a_pods_stop_signal_stands_in_for_sigterm_under_dumb_init_too(tmp_path):
    one = life(tmp_path, stop_signal=signal.SIGINT)
    assert one.signal(signal.SIGTERM) == signal.SIGINT
    assert one.signal(signal.SIGHUP) == signal.SIGHUP


@in_time
async def test_a_change_of_an_agent_shows_the_limits_again_that_systemd_has_reset_meanwhile(tmp_path):
    one, shown = life(tmp_path), []
    one._cgroups._shown = SimpleNamespace(refresh=lambda: shown.append("again"))
    with pytest.raises(NotFound, match="agent x"):
        await one.change_agent("x", "upgrade", settled_s=0)
    assert shown == ["again"]


@in_time
async def test_agents_are_not_started_again_while_init_shuts_down(tmp_path):
    one = agents(ContainerInfo("c", "ns", str(tmp_path), "/", {}), selected())
    one._supervisor = SimpleNamespace(pause=lambda: paused.append("paused"))
    paused = []
    one.leaving()
    assert paused == ["paused"]


@in_time
async def test_the_log_of_a_container_that_failed_to_start_outlives_its_bundle(tmp_path, monkeypatch):
    monkeypatch.setattr(rich_module.post_mortem.paths, "ENDED", str(tmp_path / "ended"))
    monkeypatch.setattr(rich_module.rundir, "remove", lambda path: None)
    monkeypatch.setattr(rich_module.index, "unregister", lambda namespace, name: None)
    bundle = tmp_path / "bundle"
    bundle.mkdir()
    one = life(bundle, hooks=SimpleNamespace(results=()))
    await one.close()
    assert list(ended.every(root=str(tmp_path / "ended"))) == []
    one.start_failed()
    await one.close()
    (kept,) = ended.every(root=str(tmp_path / "ended"))
    assert (kept.id, kept.head["reason"]) == ("c", "its start failed")
    assert [line["text"].partition(" (")[0] for line in ended.lines(kept)] == ["the start failed"]

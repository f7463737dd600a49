"""shim.task.rich.assembly: the parts of a container's life know each other."""

import asyncio
import json
import signal
from contextlib import contextmanager
from types import SimpleNamespace

from runtime import config
from runtime.init.boot import AppProcess, Boot
from runtime.rich import policy
from runtime.rich.extras import Extras
from runtime.rich.plan import Plan
from runtime.spec.identity import Identity
from shim.task.rich import assembly
from shim.task.rich import times as times_module
from shim.task.rich.decide import Decided
from shim.task.rich.subject import ContainerInfo, ContainerTools
from tests.fakes.clock import in_time


@contextmanager
def assembled(bundle, settings=""):
    """The life of a container with systemd, in a spec of nothing."""
    about = ContainerInfo("c", "ns", str(bundle), str(bundle / "rootfs"), {})
    decided = Decided(Plan(True, "systemd", (), boot=Boot("systemd", 38, launch=AppProcess(("x",)))), Extras())
    known = config.parse(f"version = 1\n{settings}", source="/c.toml")
    choice = policy.choose({}, known, Identity.from_spec({}, namespace="ns", container_id="c"))
    tools = ContainerTools(oci=SimpleNamespace(inside=None), run=None, reaper=None)
    stdio = SimpleNamespace(process_ended=lambda: None)
    life = assembly.make(about, decided, choice, known, tools, stdio=stdio, console=None)
    yield life
    life._application.close()


@in_time
async def test_a_signal_for_the_application_is_a_stop_that_is_counted(tmp_path, monkeypatch):
    told = []
    monkeypatch.setattr(times_module.measures, "observe_seconds", lambda name, seconds, **labels: told.append(seconds))
    with assembled(tmp_path) as life:
        life.signal(signal.SIGTERM)
        await asyncio.sleep(7)
        life._times.ended()
    assert told == [7.0]


@in_time
async def test_a_restart_by_init_is_noted_for_the_operators_command(tmp_path):
    with assembled(tmp_path, 'rich.restart = "on-failure"') as life:
        life._application.restarts.restarted(3)
    assert json.loads((tmp_path / "state.json").read_text())["restarts"] == 1


@in_time
async def test_what_the_node_configures_of_restarts_decides_whether_they_are_waited_for(tmp_path):
    for settings, enabled in (('rich.restart = "on-failure"', True), ("", False)):
        with assembled(tmp_path, settings) as life:
            assert life._application.restarts.enabled is enabled

"""Who may import whom, who may wait for children, how long a module may be."""

import ast
from pathlib import Path

import pytest

from tests.sources import ROOT, imports_any, modules, name, nodes

MAX_LINES = 300
MAX_ROOMS = 25
MODULES = modules("shim", "runtime")
PROGRAMS = modules("pouchrich", "hack")

# Modules that take protobuf messages apart or make them.
MAY_USE_PROTOS = {
    "shim/pod/sandbox_cleanup.py",
    "shim/pod/server.py",
    "shim/spawner/info.py",
    "shim/spawner/warmup.py",
    "shim/task/agent_service.py",
    "shim/task/checkpoint.py",
    "shim/task/container/container.py",
    "shim/task/container/execs.py",
    "shim/task/container/freezer.py",
    "shim/task/container/process.py",
    "shim/task/report/publisher.py",
    "shim/task/service.py",
    "shim/task/create/options.py",
    "shim/task/stats/v1.py",
    "shim/task/stats/v2.py",
    "shim/ttrpc/envelope.py",
}
# Processes without a reaper of their own (the commands, the spawner, the poststop runner, the supervisor of a hook's
# tree), a child that only holds a user namespace open, and a wait that names one pidfd.
MAY_WAIT = {
    "runtime/hooks/host_supervisor.py",
    "runtime/linux/idmap.py",
    "runtime/linux/pidfd.py",
    "runtime/oci/readonly_exec.py",
    "shim/installed/detached.py",
    "shim/manager/delete.py",
    "shim/pod/oci_delete.py",
    "shim/spawner/info.py",
    "shim/spawner/launch.py",
    "shim/spawner/child.py",
    "shim/spawner/containerd_version.py",
    "shim/manager/start.py",
    "shim/spawner/server.py",
    "shim/task/hooks/poststop.py",
    "shim/task/reaper.py",
}
CORE = {f"shim/ttrpc/{name}.py" for name in ("frame", "envelope", "events", "connection", "errors")}

# The folders of each folder: one may import those after it, none before it.
FOLDERS = {
    "shim": ("manager", "spawner", "pod", "task", "ttrpc", "installed", "contract"),
    "shim/task": ("create", "container", "rich", "application", "hooks", "stdio", "stats", "report"),
    "runtime": (
        *("rich", "agents", "hooks", "cgroup", "oci", "image", "init", "routes"),
        *("spec", "linux", "config"),
    ),
}


@pytest.mark.parametrize("path", [path for path in MODULES if name(path).startswith("runtime/")], ids=name)
def test_runtime_knows_nothing_of_containerd_nor_of_the_event_loop(path: Path):
    assert imports_any(path, "shim", "protos", "google", "asyncio", "subprocess") == set()


@pytest.mark.parametrize("core", sorted(CORE))
def test_the_ttrpc_core_does_no_input_or_output(core: str):
    assert imports_any(ROOT / core, "asyncio", "socket", "_socket", "logging", "time", "os", "threading") == set()


@pytest.mark.parametrize("above", FOLDERS)
def test_folders_import_only_those_that_come_after_them(above: str):
    order = FOLDERS[above]
    assert sorted(order) == sorted(path.parent.name for path in (ROOT / above).glob("*/__init__.py"))
    for at, folder in enumerate(order):
        before = [f"{above}/{other}".replace("/", ".") for other in order[:at]]
        for path in (ROOT / above / folder).rglob("*.py"):
            assert imports_any(path, *before) == set(), name(path)


def test_a_picture_of_the_shim_has_few_rooms():
    """Modules and folders, its largest folder opened."""
    inside = [*(ROOT / "shim").iterdir(), *(ROOT / "shim/task").iterdir()]
    rooms = [path for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()]
    assert len([path for path in rooms if path.name not in ("__init__.py", "task")]) <= MAX_ROOMS


def test_phases_are_pure():
    phase = ROOT / "shim/task/container/phase.py"
    assert imports_any(phase, "asyncio", "os", "logging", "time", "protos", "google") == set()


def test_messages_are_taken_apart_where_the_list_says():
    assert {name(path) for path in MODULES if imports_any(path, "protos")} <= MAY_USE_PROTOS


def test_the_task_api_does_not_know_its_server():
    for path in (ROOT / "shim" / "task").rglob("*.py"):
        assert (
            imports_any(
                path,
                "shim.ttrpc.server",
                "shim.pod.server",
                "shim.pod.daemon",
                "shim.spawner.child",
                "shim.spawner.server",
            )
            == set()
        )


def test_nobody_starts_programs_beside_the_reaper():
    for path in MODULES:
        assert imports_any(path, "subprocess", "multiprocessing", "concurrent") == set(), name(path)


def test_only_the_reaper_waits_for_children():
    waits = {"waitpid", "wait3", "wait4", "waitid", "wait"}
    found = {
        name(path)
        for path in MODULES
        for node in nodes(path, "os.wait")
        if isinstance(node, ast.Attribute)
        and node.attr in waits
        and isinstance(node.value, ast.Name)
        and node.value.id == "os"
    }
    assert found <= MAY_WAIT


def test_no_module_is_named_for_nothing():
    assert {path.stem for path in MODULES} & {"utils", "util", "helpers", "common", "misc"} == set()


def test_a_module_is_one_idea_long():
    lengths = {name(path): len(path.read_text().splitlines()) for path in (*MODULES, *PROGRAMS)}
    assert {path: length for path, length in lengths.items() if length > MAX_LINES} == {}

"""What several modules need is written down in one."""

import ast
import re

import pytest

from runtime import paths, rundir
from runtime.config.values import MODES
from runtime.init import AUTO, INIT_MODES
from runtime.init.base import CONTAINER_RUN_DIR
from runtime.init.detect import SUPPORTED
from shim.pod import cleanup
from shim.spawner import request
from tests.sources import ROOT, modules, name, nodes, texts

MODULES = modules("shim", "runtime", "pouchrich")

# What the fast path of `start` may not import it says again: see the test below.
FAST = "shim/spawner/request.py"


@pytest.mark.parametrize(
    ("pattern", "homes"),
    [
        (r"io\.kubernetes\.", {"runtime/spec/cri.py"}),
        # On the host; and in a container, where it is the one directory that is ours.
        (r"/run/pouchrich(?![\w-])", {"runtime/paths.py", "runtime/init/base.py", FAST}),
        (r"/var/lib/pouchrich", {"runtime/paths.py"}),
        (r"/usr/local/sbin:", {"runtime/default_path.py"}),
    ],
)
def test_a_name_is_written_in_one_place(pattern, homes):
    assert {name(path) for path in MODULES if any(re.search(pattern, text) for text in texts(path))} == homes


def test_who_may_not_import_the_paths_says_the_same():
    assert request.DIRECTORY == paths.RUN
    assert f"{paths.RUN}/bundles" == paths.BUNDLES  # as native/clean.c says


@pytest.mark.parametrize(
    ("file", "line"),
    [
        ("native/shim.h", f'#define RUN "{paths.RUN}"'),
        ("native/shim.h", f'#define RECORDS "{paths.RECORDS}"'),
        ("native/clean.c", f"#define KILLED {cleanup.KILLED}"),
        ("launcher/launch.h", f'#define SETTINGS "{CONTAINER_RUN_DIR}/{rundir.SETTINGS}"'),
        ("launcher/launch.c", f'#define APP_SOCKET "{CONTAINER_RUN_DIR}/{rundir.APP_SOCKET}"'),
        ("launcher/launch.c", f'#define HALT_SOCKET "{CONTAINER_RUN_DIR}/{rundir.HALT_SOCKET}"'),
    ],
)
def test_other_languages_say_the_same(file, line):
    assert line in (ROOT / file).read_text().splitlines()


INITS = {*INIT_MODES, *SUPPORTED}
CONSTANTS = ("AUTO", "SYSTEMD", "SBIN_INIT", "DUMB_INIT")


def test_facts_of_a_mode_or_an_init_are_asked_for_and_its_name_is_compared_nowhere():
    """But by the modes themselves: whoever compares a name elsewhere knows something that `InitMode` does not say."""
    found = {
        f"{name(path)}:{node.lineno}: {ast.unparse(node)}"
        for path in MODULES
        if not name(path).startswith("runtime/init/")
        for node in nodes(path, *INITS, AUTO, *CONSTANTS)
        if isinstance(node, ast.Compare | ast.MatchValue) and _names_an_init(node)
    }
    assert found == set()


def _names_an_init(comparison: ast.AST) -> bool:
    constants = {node.value for node in ast.walk(comparison) if isinstance(node, ast.Constant)}
    return (
        not constants.isdisjoint(INITS)
        or (AUTO in constants and "mode" in ast.unparse(comparison))  # a word of other keys too
        or any(isinstance(node, ast.Name) and node.id in CONSTANTS for node in ast.walk(comparison))
    )


def test_the_configuration_knows_the_modes_that_there_are():
    assert (*INIT_MODES, AUTO) == MODES


def test_a_descriptor_is_waited_for_in_one_place():
    """But by the spawner's own loop, an OOM watch, and the supervisor, a script that finds none of our modules."""
    found = {
        name(path)
        for path in MODULES
        for node in nodes(path, "select")
        if isinstance(node, ast.Import) and any(one.name in ("select", "selectors") for one in node.names)
    }
    others = {"shim/spawner/server.py", "runtime/cgroup/oom.py", "runtime/hooks/host_supervisor.py"}
    assert found == {"runtime/linux/readable.py", *others}


def test_work_is_run_whole_though_cancelled_in_one_place():
    """But for the OCI runtime's programs, which are killed when they then take too long."""
    found = {
        name(path)
        for path in MODULES
        for node in nodes(path, "shield")
        if isinstance(node, ast.AsyncFunctionDef) and _shields(node) and _catches_cancellation(node)
    }
    assert found == {"shim/pod/server.py"}


def _shields(function: ast.AsyncFunctionDef) -> bool:
    return any(isinstance(node, ast.Attribute) and node.attr == "shield" for node in ast.walk(function))


def _catches_cancellation(function: ast.AsyncFunctionDef) -> bool:
    return any(
        isinstance(node, ast.ExceptHandler) and node.type is not None and "CancelledError" in ast.unparse(node.type)
        for node in ast.walk(function)
    )

"""Options, environments and fixtures of the integration tests.

Every test takes a fixture that leads to `node`, runs once in each environment, and fails if it leaves a trace.
"""

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration import binaries, images, isolation, leaks, spawners
from tests.integration.binaries import Environment
from tests.integration.ctr import Ctr
from tests.integration.node import Node
from tests.integration.pods import Pods
from tests.integration.rich_pods import RichPods
from tests.integration.tasks import Tasks

HERE = Path(__file__).parent
KILLED = pytest.StashKey[int]()
"""How many spawners a run has killed (`spawners`)."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("pouchrich")
    group.addoption(
        "--containerd",
        action="append",
        type=binaries.named,
        default=[binaries.named(own)] if (own := os.environ.get("POUCHRICH_CONTAINERD")) else None,
        metavar="RELEASE|DIR",
        help="only this release, or the one whose executables are in DIR (POUCHRICH_CONTAINERD)",
    )
    group.addoption("--oci", action="append", choices=binaries.OCIS, help="only this OCI runtime")
    group.addoption("--runtime", action="append", choices=binaries.RUNTIMES, help="only this shim")


def pytest_configure(config: pytest.Config) -> None:
    try:
        spawners.said()
    except ValueError as err:
        raise pytest.UsageError(str(err)) from None
    config.addinivalue_line("markers", "only(containerd=, oci=, runtime=): runs only in environments with these values")
    config.addinivalue_line(
        "markers", "defect(reason, containerd=, oci=, runtime=): not run there: a known fault of theirs"
    )
    config.addinivalue_line("markers", "usually(*environments): in the default run only there; elsewhere it is `full`")
    config.addinivalue_line("markers", "smoke: also runs in environments that get the short list")


def _selected(config: pytest.Config, environment: Environment) -> bool:
    return all(
        not (wanted := config.getoption(name)) or getattr(environment, name) in wanted
        for name in ("containerd", "oci", "runtime")
    )


def _matches(mark: pytest.Mark, environment: Environment) -> bool:
    """Whether each keyword of the mark has, or contains, the environment's value."""
    found = {"containerd": environment.generations, "oci": (environment.oci,), "runtime": (environment.runtime,)}
    return all(
        not {value}.isdisjoint(found[name]) if isinstance(value, str) else not set(value).isdisjoint(found[name])
        for name, value in mark.kwargs.items()
    )


def _allowed(metafunc: pytest.Metafunc, environment: Environment) -> bool:
    return all(_matches(mark, environment) for mark in metafunc.definition.iter_markers("only"))


def _defects(metafunc: pytest.Metafunc, environment: Environment) -> list[pytest.MarkDecorator]:
    return [
        pytest.mark.xfail(reason=mark.args[0], run=False)
        for mark in metafunc.definition.iter_markers("defect")
        if _matches(mark, environment)
    ]


def _in_default_run(metafunc: pytest.Metafunc, environment: Environment) -> bool:
    if environment not in binaries.DEFAULT:
        return False
    if usually := metafunc.definition.get_closest_marker("usually"):
        return str(environment) in usually.args
    return environment not in binaries.SHORT or metafunc.definition.get_closest_marker("smoke") is not None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "environment" not in metafunc.fixturenames:
        return
    named = any(metafunc.config.getoption(name) for name in ("containerd", "oci", "runtime"))
    parameters = []
    containerds = tuple(metafunc.config.getoption("containerd") or binaries.CONTAINERDS)
    for environment in binaries.every(containerds):
        if not _selected(metafunc.config, environment) or not _allowed(metafunc, environment):
            continue
        marks = _defects(metafunc, environment)
        if not named and not _in_default_run(metafunc, environment):
            marks.append(pytest.mark.full)
        parameters.append(pytest.param(environment, id=str(environment), marks=marks))
    metafunc.parametrize("environment", parameters, indirect=True, scope="session")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    nowhere = [item for item in items if _runs_nowhere(item)]
    items[:] = [item for item in items if item not in nowhere]
    config.hook.pytest_deselected(items=nowhere)
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.integration)
            if os.geteuid() != 0:
                item.add_marker(pytest.mark.skip(reason="integration tests need root"))


def _runs_nowhere(item: pytest.Item) -> bool:
    """Whether no selected environment suits the test: pytest keeps a stand-in for it, to be skipped."""
    parameters = item.callspec.params if isinstance(item, pytest.Function) and hasattr(item, "callspec") else {}
    return "environment" in parameters and not isinstance(parameters["environment"], Environment)


def pytest_report_header(config: pytest.Config) -> list[str]:
    if os.geteuid() != 0:
        return []
    lines = [f"spawners: {spawners.said()}"]
    for version in config.getoption("containerd") or binaries.CONTAINERDS:
        try:
            programs = [
                binaries.containerd(version),
                *(binaries.oci(version, name) for name in binaries.OCIS),
            ]
        except FileNotFoundError as error:
            lines.append(f"environment {binaries.release(version)}: {error}")
            continue
        lines.append(
            f"environment {binaries.release(version)}: " + ", ".join(_version(program) for program in programs)
        )
    return lines


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    if KILLED in config.stash:
        terminalreporter.write_line(f"spawners killed meanwhile: {config.stash[KILLED]}")


def _version(program: Path) -> str:
    first = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    words = first.replace(" version ", " ").split()
    return f"{program.name} {words[-1] if program.name != 'containerd' else words[2]}"


@pytest.fixture(scope="session")
def isolated() -> None:
    """This process is in namespaces of its own from here on."""
    isolation.enter()


@pytest.fixture(scope="session")
def environment(request: pytest.FixtureRequest) -> Environment:
    """The environment the test runs in."""
    found: Environment = request.param
    if found.runtime != "runc.v2" and not binaries.shim().exists():
        pytest.fail(f"{binaries.shim()}: not there; hack/install.sh --prefix {binaries.prefix()} installs it")
    return found


@pytest.fixture(scope="session")
def image_tars(isolated: None) -> list[Path]:
    """In the run's own /run, which goes with its namespace."""
    return images.write_all(Path("/run/pouchrich-tests/images"))


class Nodes:
    """The running nodes by (containerd, oci), and the traces each had when it was fresh.

    One runs at a time: tests come grouped by environment, and old ones would only take memory.
    """

    def __init__(self, tars: list[Path]) -> None:
        self._tars = tars
        self._key: tuple[str, str] | None = None
        self._node: Node | None = None
        self.baseline: frozenset[str] = frozenset()

    def get(self, containerd: str, oci: str) -> Node:
        if self._node is None or self._key != (containerd, oci):
            self.drop()
            self._node = Node(containerd, oci, self._tars)
            self._key = (containerd, oci)
            self.baseline = leaks.everything(self._node)
        return self._node

    @property
    def running(self) -> Node | None:
        return self._node

    def drop(self) -> None:
        """Close the running node; the next test gets a new one."""
        node, self._node = self._node, None
        if node is not None:
            node.close()


@pytest.fixture(scope="session")
def nodes(image_tars: list[Path], pytestconfig: pytest.Config) -> Iterator[Nodes]:
    found = Nodes(image_tars)
    with spawners.as_the_run_says(lambda: found.running) as killer:
        yield found
    if killer:
        pytestconfig.stash[KILLED] = killer.killed
    found.drop()


@pytest.hookimpl(trylast=True)
def pytest_sessionfinish() -> None:
    """Wait for the files of the nodes to go, when all fixtures have ended; not in a test, whose time is limited."""
    Node.await_removals()


@pytest.fixture
def node(nodes: Nodes, environment: Environment) -> Iterator[Node]:
    """The environment's node; after the test nothing may be left on it."""
    try:
        found = nodes.get(environment.containerd, environment.oci)
    except BaseException:
        nodes.drop()
        raise
    yield found
    left = leaks.settled(found, nodes.baseline)
    if left:
        tail = found.log_tail()
        nodes.drop()
        pytest.fail("left behind:\n  " + "\n  ".join(left) + f"\ncontainerd's log ends:\n{tail}")


@pytest.fixture
def ctr(node: Node, environment: Environment) -> Iterator[Ctr]:
    """ctr on the node, with the environment's runtime."""
    found = Ctr(node, environment)
    yield found
    found.remove_all()


@pytest.fixture
def tasks(ctr: Ctr) -> Iterator[Tasks]:
    """containerd's Tasks service on the node, for containers of `ctr`."""
    found = Tasks(ctr)
    yield found
    ctr.remove_all()
    found.close()


@pytest.fixture
def pods(node: Node, environment: Environment) -> Iterator[Pods]:
    """Pods on the node, with the environment's runtime."""
    if (environment.containerd, environment.runtime) == ("1.6", "dropin"):
        pytest.skip("the CRI of containerd 1.6.20 does not look at runtime_path (containerd #8207)")
    found = Pods(node, environment.runtime)
    yield found
    failed = found.remove_all()
    found.client.close()
    assert not failed, "\n".join(failed)


@pytest.fixture
def rich_pods(pods: Pods) -> RichPods:
    """Pods with whole systems as images."""
    return RichPods(pods)

"""The lives that docs/architecture.md tells, held against what a pod server does: the modules come in that order.

Of a plain container, without what is told of rich ones, and as root of a rich one with hooks and an agent; from the
request on, as the rest is other processes'. What is asked of the order: all modules of a step come after those of the
steps before it.
"""

import os
import re
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType

import pytest
from google.protobuf.any_pb2 import Any as Packed

from protos.gen import events_pb2, runtimeoptions_pb2
from runtime import libexec
from runtime.errors import PouchrichError
from runtime.linux import syscalls
from shim.pod import server as pod_server
from shim.task import thread
from tests.component.conftest import FAKE, Pod
from tests.fakes.loop import in_loop

ROOT = Path(__file__).parents[2]
TOLD = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
MARK = "test: "
FROM_THE_REQUEST, FROM_DELETE = 4, 15
"""Steps of a Create and of an exit: the first in the pod server, and the first behind it."""
NOT_HERE = {"runtime/rootfs.py", "runtime/hooks/host_supervisor.py"}
"""What only a request that brings mounts comes to, and what is a program of its own."""
BY_INIT = {"shim/task/application/application.py", "shim/task/container/lifecycle.py"}
"""What only a container with a real init comes to, and what stands for a rich one's life."""
KILLS_THE_REST = {"runtime/oci/cli.py"}
"""What the end of a container comes to that shares a pid namespace, as no rich one does."""


class Visits:
    """Every move from one module of ours to another, in the process that is traced and all that are forked from it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
        self._last = ""

    def note(self, frame: FrameType, event: str, argument: object) -> None:
        """For sys.setprofile."""
        file = frame.f_code.co_filename
        if event == "call" and file != self._last and file.startswith((f"{ROOT}/shim/", f"{ROOT}/runtime/")):
            self._last = file
            os.write(self._fd, f"{os.path.relpath(file, ROOT)}\n".encode())

    def mark(self, word: str) -> None:
        """Write a line of the test's own."""
        os.write(self._fd, f"{MARK}{word}\n".encode())

    def between(self, begin: str, end: str) -> list[str]:
        """The modules between two marks."""
        lines = self._path.read_text().splitlines()
        return lines[lines.index(f"{MARK}{begin}") + 1 : lines.index(f"{MARK}{end}")]


@pytest.fixture
def visits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Visits]:
    """Trace what is forked from here on; a test that has its pod server ends the trace of its own process."""
    found = Visits(tmp_path / "visits")

    def start(work: object, arguments: tuple[object, ...]) -> None:  # a thread that is traced, too
        threading.Thread(target=work, args=arguments, daemon=True).start()  # type: ignore[arg-type]

    monkeypatch.setattr(thread, "start_new_thread", start)
    threading.setprofile(found.note)
    sys.setprofile(found.note)
    yield found
    sys.setprofile(None)
    threading.setprofile(None)


def steps(life: str, *, rich: bool, but: set[str]) -> list[tuple[int, list[str]]]:
    """(number, modules) of each step, without those in `but`; if not `rich`, without a rich container's."""
    text = re.split(r"^## ", TOLD.split(f"\n## The life of {life}\n")[1], flags=re.MULTILINE)[0]
    found = re.split(r"^(\d+)\. ", text, flags=re.MULTILINE)[1:]
    told = [step if rich else step.partition("*Rich:*")[0] for step in found[1::2]]
    named = [
        (int(number), {*re.findall(r"`((?:shim|runtime)/[\w/]+\.py)`", step)} - but)
        for number, step in zip(found[::2], told, strict=True)
    ]
    return [(number, sorted(modules)) for number, modules in named if modules]


def out_of_order(told: list[tuple[int, list[str]]], visited: list[str]) -> list[str]:
    """The first step whose modules do not all come after those before it, with what is missing there; or nothing."""
    at = 0
    for number, modules in told:
        left = visited[at:]
        if missing := [one for one in modules if one not in left]:
            return [f"step {number}", *missing]
        at += max((left.index(one) for one in modules), default=0)
    return []


def test_an_order_is_told_from_another():
    visited = ["a", "b", "a", "c"]
    assert out_of_order([(1, ["b", "a"]), (2, ["c"])], visited) == []
    assert out_of_order([(1, ["c"]), (2, ["b"])], visited) == ["step 2", "b"]
    assert out_of_order([(1, ["d"])], visited) == ["step 1", "d"]


async def live(visits: Visits, pod: Pod, options: Packed, spec: dict[str, object], exit_status: int) -> None:
    """One container's life, whose marks `visits` has afterwards."""
    sys.setprofile(None)
    threading.setprofile(None)
    async with pod.served():
        bundle = pod.bundle("c", init=f"exit {exit_status}", spec=spec)
        program = Path(bundle) / "rootfs" / "bin" / "x"
        program.parent.mkdir()
        program.write_text("#!/bin/x\n")
        program.chmod(0o755)
        visits.mark("create")
        await pod.call("Create", id="c", bundle=bundle, options=options)
        await pod.until_event(events_pb2.TaskCreate, container_id="c")
        visits.mark("created")
        await pod.call("Start", id="c")
        assert (await pod.call("Wait", id="c")).exit_status == exit_status
        await pod.until_event(events_pb2.TaskExit, container_id="c")
        await pod.call("Delete", id="c")
        await pod.call("Shutdown", id="c")
    assert pod.exited() == 0
    visits.mark("gone")


def spec_with(*namespaces: str) -> dict[str, object]:
    linux = {"namespaces": [{"type": one} for one in namespaces]}
    return {"ociVersion": "1.0.2", "linux": linux, "process": {"args": ["/bin/x"]}, "root": {}}


@in_loop
async def test_a_plain_containers_create_and_exit_are_as_they_are_told(visits: Visits, pod: Pod):
    # In the host's pid namespace, so that there is something to kill at its end.
    await live(visits, pod, pod.options(), spec_with(), 3)
    create = [one for one in steps("a Create", rich=False, but=NOT_HERE) if one[0] >= FROM_THE_REQUEST]
    assert out_of_order(create, visits.between("create", "created")) == []
    exit = [one for one in steps("an exit", rich=False, but=NOT_HERE) if one[0] < FROM_DELETE]
    assert out_of_order(exit, visits.between("created", "gone")) == []


def has_dumb_init() -> bool:
    try:
        libexec.path("dumb-init")
    except PouchrichError:
        return False
    return True


@pytest.fixture
def own_node(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have the pod server see a /run and a /var/lib of its own."""
    serve = pod_server.serve

    def isolated(**how: object) -> int:
        syscalls.unshare(syscalls.CLONE_NEWNS)
        syscalls.mount(None, "/", None, syscalls.MS_REC | syscalls.MS_PRIVATE)
        for path in ("/run", "/var/lib"):
            syscalls.mount("tmpfs", path, "tmpfs", 0, "mode=0755")
        return serve(**how)  # type: ignore[arg-type]

    monkeypatch.setattr(pod_server, "serve", isolated)


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to mount")
@pytest.mark.skipif(not has_dumb_init(), reason="dumb-init is not built")
@in_loop
async def test_a_rich_containers_create_and_exit_are_as_they_are_told(own_node: None, visits: Visits, pod: Pod):
    # The hook in the container comes as far as its user, whom the image does not have.
    body = f"""
version = 1
runtime = {{ binary = "{FAKE}", root = "{pod.directory}/oci", systemd-cgroup = false }}
agents = [{{ name = "a", command = ["/bin/x"], restart = "no" }}]
[hooks]
poststop = [
    {{ name = "inside", where = "container", command = ["/bin/x"], user = "nobody-here" }},
    {{ name = "outside", where = "host", command = ["/bin/true"] }},
]
"""
    value = runtimeoptions_pb2.Options(config_body=body.encode()).SerializeToString()
    options = Packed(type_url="runtimeoptions.v1.Options", value=value)
    await live(visits, pod, options, spec_with("pid", "mount"), 0)
    create = [one for one in steps("a Create", rich=True, but=NOT_HERE | BY_INIT) if one[0] >= FROM_THE_REQUEST]
    assert out_of_order(create, visits.between("create", "created")) == []
    exit = [one for one in steps("an exit", rich=True, but=NOT_HERE | BY_INIT | KILLS_THE_REST) if one[0] < FROM_DELETE]
    assert out_of_order(exit, visits.between("created", "gone")) == []

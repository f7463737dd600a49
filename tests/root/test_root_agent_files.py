"""shim.task.rich.agent_files beside a process that changes its root, as PID 1 of a container may."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.errors import FailedPrecondition
from shim.task.rich.agent_files import AgentFiles
from tests.fakes.loop import in_loop, open_fds
from tests.unit.agents.making import agent, bind, selected

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="needs root")]

TARGET = "opt/node/guard"


class Init:
    """A process whose root is `path`, and then `path`/elsewhere, where all is that was there before."""

    def __init__(self, path: Path) -> None:
        (path / TARGET).mkdir(parents=True)
        self._path, self._go, self._done = path, os.pipe(), os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            for root in (path, "/elsewhere"):
                os.chroot(root)
                os.write(self._done[1], b"x")
                os.read(self._go[0], 1)
            os._exit(0)
        os.read(self._done[0], 1)

    def move(self) -> None:
        (self._path / "elsewhere/opt").mkdir(parents=True)
        os.rename(self._path / "opt/node", self._path / "elsewhere/opt/node")
        (self._path / TARGET).mkdir(parents=True)
        os.write(self._go[1], b"x")
        os.read(self._done[0], 1)
        assert os.path.samefile(f"/proc/{self.pid}/root/{TARGET}", self._path / "elsewhere" / TARGET)

    def end(self) -> None:
        os.write(self._go[1], b"x")
        os.waitpid(self.pid, 0)
        for fd in (*self._go, *self._done):
            os.close(fd)


@pytest.fixture
def init(tmp_path: Path) -> Iterator[Init]:
    made = Init(tmp_path)
    yield made
    made.end()


@in_loop
async def test_a_root_that_pid_1_has_changed_hides_nothing(tmp_path: Path, init: Init) -> None:
    before, name = open_fds(), agent().name
    files = AgentFiles([selected(mounts=(bind(source=str(tmp_path / TARGET), target=f"/{TARGET}"),))])
    await files.created(init.pid)
    await files.require(name)
    init.move()
    with pytest.raises(FailedPrecondition, match="found another file than the node's"):
        await files.require(name)
    files.close()
    assert open_fds() == before

"""An OCI runtime within the test: strict about its words and about the order of its commands.

`tests/fakes/ocifake` is the same as a program. What is not meant to be asked of a runtime raises AssertionError: a
second create of one id, a start of what was not created, anything of a container that was deleted but a forced delete.
"""

import json
import os
import signal
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from runtime.oci.argv import OCIBinary

if TYPE_CHECKING:
    import asyncio

BINARY = OCIBinary("/fake/runtime", "/fake/root")
NOT_THERE = 1 << 30
"""A pid that no process has."""

KILLED = 128 + signal.SIGKILL


class StrictRuntime:
    """To be given to `OCIRuntime` as what runs programs.

    `answers[command]` are taken first to last: "" is success, a text the error that the runtime logs, an int its exit
    status; without one, it succeeds. `gates[command]` is waited for in between. `calls` are the commands so far, `fds`
    the descriptors of the last call, `before[command]` is called as the command begins.
    """

    def __init__(self, pid: int = NOT_THERE) -> None:
        self.pid = pid
        self.calls: list[str] = []
        self.fds: dict[int, int] = {}
        self.answers: dict[str, list[str | int]] = defaultdict(list)
        self.gates: dict[str, asyncio.Event] = {}
        self.before: dict[str, Callable[[], Any]] = {}
        self.containers: dict[str, str] = {}

    async def __call__(self, words: Sequence[str], fds: Mapping[int, int]) -> int:
        assert list(words[:3]) == [BINARY.path, "--root", BINARY.root]
        assert (words[3], words[5], words[6]) == ("--log", "--log-format", "json")
        log, command, rest = words[4], words[7], list(words[8:])
        self.fds = dict(fds)
        self.calls.append(" ".join([command, *(one for one in rest if one == "--force")]))
        self.before.get(command, lambda: None)()
        if command in self.gates:
            await self.gates[command].wait()
        answer = self.answers[command].pop(0) if self.answers[command] else ""
        if isinstance(answer, int):
            return answer
        if answer:
            _write(log, json.dumps({"level": "error", "msg": answer}) + "\n")
            return 1
        getattr(self, f"_{command}")(rest)
        return 0

    def _state(self, container: str, *allowed: str) -> None:
        assert self.containers.get(container, "none") in allowed, (container, self.containers, self.calls)

    def _create(self, rest: list[str]) -> None:
        bundle, pid_file, container = _options(rest, "--bundle", "--pid-file")
        self._state(container, "none")
        assert os.path.isfile(f"{bundle}/config.json")
        self.containers[container] = "created"
        _write(pid_file, str(self.pid))

    def _start(self, rest: list[str]) -> None:
        (container,) = _options(rest)
        self._state(container, "created")
        self.containers[container] = "running"

    def _exec(self, rest: list[str]) -> None:
        assert rest.pop(2) == "--detach"
        process, pid_file, container = _options(rest, "--process", "--pid-file")
        self._state(container, "created", "running")
        with open(process) as file:
            assert json.load(file)["args"]
        _write(pid_file, str(self.pid))

    def _kill(self, rest: list[str]) -> None:
        container, number = rest[-2:]
        assert rest[:-2] in ([], ["--all"])
        assert number.isdigit()
        self._state(container, "created", "running", "paused")

    def _pause(self, rest: list[str]) -> None:
        (container,) = _options(rest)
        self._state(container, "running")
        self.containers[container] = "paused"

    def _resume(self, rest: list[str]) -> None:
        (container,) = _options(rest)
        self._state(container, "paused")
        self.containers[container] = "running"

    def _delete(self, rest: list[str]) -> None:
        force = rest[0] == "--force"
        (container,) = rest[force:]
        self._state(container, *(("none",) if force else ()), "created", "running", "paused")
        self.containers.pop(container, None)


def _options(rest: list[str], *names: str) -> list[str]:
    """The values of options that have to be there in this order, and the container's id, which comes last."""
    assert len(rest) == 2 * len(names) + 1, rest
    assert tuple(rest[0:-1:2]) == names
    return [*rest[1:-1:2], rest[-1]]


def _write(path: str, text: str) -> None:
    with open(path, "a") as file:
        file.write(text)

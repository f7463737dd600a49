"""runtime.oci.cli: how the runtime is run. What it is told is `runtime.oci.argv`'s."""

import asyncio
import os

import pytest

from runtime.linux import null
from runtime.oci import argv
from runtime.oci.cli import OCIRuntime

OPTIONS = argv.ExecOptions("/process", "/pid")


@pytest.mark.parametrize(("score", "told"), [(None, {}), (321, {"oom_score_adj": 321}), (0, {"oom_score_adj": 0})])
def test_what_is_executed_has_the_containers_oom_score_and_nothing_else_is_given_it(score, told):
    asked = []

    async def run(command, fds, **how):
        asked.append((next(word for word in command if word in ("exec", "start")), how))
        return 0

    async def calls():
        oci = OCIRuntime(argv.OCIBinary("/crun", "/state"), run)
        oci.oom_score_adj = score
        await oci.exec("c", OPTIONS, {})
        await oci.start("c")

    asyncio.run(calls())
    assert asked == [("exec", told), ("start", {})]


@pytest.mark.parametrize("terminal", [False, True], ids=["streams", "a terminal"])
@pytest.mark.parametrize("maps_ids", [False, True])
def test_with_a_user_namespace_a_container_without_input_gets_no_null(monkeypatch, maps_ids, terminal):
    """crun would make its root the owner of the node's /dev/null, which the container's is."""
    read = []

    async def run(command, fds, **how):
        read.append(os.read(fds[0], 1) if 0 in fds else None)
        return 0

    monkeypatch.setattr(null, "open_own_sink", lambda: os.open(os.devnull, os.O_WRONLY))  # the real one needs root
    oci = OCIRuntime(argv.OCIBinary("/crun", "/state"), run)
    oci.maps_ids = maps_ids
    asyncio.run(oci.create("c", argv.CreateOptions(bundle="/b", pid_file="/p"), None if terminal else {1: 1, 2: 2}))
    assert read == [b"" if maps_ids else None]

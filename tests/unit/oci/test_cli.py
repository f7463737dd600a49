"""runtime.oci.cli: how the runtime is run. What it is told is `runtime.oci.argv`'s."""

import asyncio

import pytest

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

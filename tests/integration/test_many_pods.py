"""Many pods at once: all of them start, all of them end, and nothing is left of any."""

import re
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.integration.ctr import Ctr, Result
from tests.integration.waiting import until

SCRIPT = "trap 'exit 3' TERM; while :; do sleep 1000 & wait $!; done"
PATIENCE_S = 300.0


class AtOnce:
    """The same `ctr` command for every container, by a client each, all of them at the same time."""

    def __init__(self, ctr: Ctr, containers: list[str]) -> None:
        self._ctr = ctr
        self._containers = containers

    def results(self, *args: str) -> list[Result]:
        """What each got; NAME in the arguments stands for the container."""

        def call(container: str) -> Result:
            words = [word.replace("NAME", container) for word in args]
            return self._ctr.call(*words, timeout_s=PATIENCE_S)

        with ThreadPoolExecutor(len(self._containers)) as pool:
            return list(pool.map(call, self._containers))

    def check(self, *args: str) -> None:
        """All of them must succeed."""
        assert [found.stderr for found in self.results(*args) if found.code != 0] == []


@pytest.mark.timeout(1200)
@pytest.mark.usually("2.1-crun-pouchrich")
@pytest.mark.parametrize("count", [40, pytest.param(200, marks=pytest.mark.full)])
def test_pods_that_start_and_stop_at_once_do_so_without_an_error(ctr: Ctr, count: int) -> None:
    pods = AtOnce(ctr, [ctr.new_id() for _ in range(count)])

    def statuses() -> list[str]:
        return [line.split()[2] for line in ctr.check("tasks", "ls").splitlines()[1:]]

    run = ctr.run_args("NAME", ("sh", "-c", SCRIPT), ("--detach", "--null-io"))
    pods.check(*run)
    assert statuses() == ["RUNNING"] * count
    assert len(ctr.node.shims()) == count
    pods.check("tasks", "exec", "--exec-id", "one", "NAME", "true")
    pods.check("tasks", "kill", "NAME")
    until(lambda: statuses() == ["STOPPED"] * count, "all to have ended", timeout_s=PATIENCE_S)
    told = [re.search(r"non-zero exit code (\d+)", found.stderr) for found in pods.results("tasks", "rm", "NAME")]
    assert [found and found[1] for found in told] == ["3"] * count
    until(lambda: not ctr.node.shims(), "the pod servers to end", timeout_s=PATIENCE_S)
    pods.check("containers", "rm", "NAME")

"""Whatever is killed meanwhile: no exit and no output is lost, each poststop hook runs once, and nothing is left.

Rounds of hack/chaos.py, which has the faults as well that need a place of their own: a full disk, a killed `delete`,
to which containerd does not come back. What happens when is chance; the seed is in the output, DISORDER_SEED gives it
again, and DISORDER_ROUNDS says how many rounds.
"""

import os
import random
from pathlib import Path

import pytest

from hack.chaos import rounds, table
from hack.chaos.plan import FAULTS, MODES, draw
from hack.chaos.rounds import Ground, Outcome
from tests.integration.rich_pods import RichPods
from tests.integration.test_crashes import restart

ROUNDS = int(os.environ.get("DISORDER_ROUNDS", "1"))
FAULTS_OF_A_ROUND = 40
ELSEWHERE = ("disk", "command")


@pytest.mark.full
@pytest.mark.timeout(300 + 600 * ROUNDS)
@pytest.mark.only(runtime="pouchrich")
@pytest.mark.defect(
    "containerd 1.6 stops reading when it hears of an exit, and removes a root file system before it runs `delete`",
    containerd="1.6",
)
def test_in_all_disorder_each_poststop_hook_runs_once_and_nothing_is_left(rich_pods: RichPods) -> None:
    seed = int(os.environ.get("DISORDER_SEED") or random.randrange(1 << 20))
    print(f"DISORDER_SEED={seed}")
    ground = Ground(rich_pods.node, "ours", None, shared=Path("/run/chaos"))
    kinds = [kind for kind in FAULTS if kind not in ELSEWHERE]
    whole = Outcome()
    try:
        for number in range(ROUNDS):
            drawn = draw(seed, number, faults=FAULTS_OF_A_ROUND, modes=list(MODES), kinds=kinds)
            outcome, _ = rounds.play(ground, drawn, print)
            whole.add(outcome)
            assert outcome.wrong == [], table.findings(outcome) + "\n" + "\n".join(outcome.evidence)
    finally:
        print(table.table({"ours": whole}))
        ground.pods.client.close()
        rich_pods.pods.reconnect()
    restart(rich_pods.pods)

"""What hack/chaos.py calls lost: the judgement of containers, without any."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from hack.chaos import law
from hack.chaos.life import OPEN, YES, Life, Strike, Strikes
from hack.chaos.plan import FAULTS, MODES, ContainerPlan, draw
from hack.chaos.work import WORKS

POD, CONTAINER = "pod-id", "container-id"


def life_of(tmp_path: Path, work: str, *, code: int | None, output: bytes | None = None, **more: Any) -> Life:
    """A container that was there from 0 to 10, and has written all of its output, or `output`."""
    log = tmp_path / "log"
    text = WORKS[work].output if output is None else output
    log.write_bytes(b"".join(b"2026-01-01T00:00:00.0Z stdout F %s" % line for line in text.splitlines(keepends=True)))
    container: Any = SimpleNamespace(id=CONTAINER, log=log)
    given = {"started": YES, "state": "CONTAINER_EXITED", **more}
    return Life(
        ContainerPlan("c", work, True, (), 30), "dumb-init", POD, container, began=0.0, ended=10.0, code=code, **given
    )


def strikes_of(*strikes: Strike) -> Strikes:
    found = Strikes()
    for strike in strikes:
        found.add(strike)
    return found


def at(kind: str, **more: Any) -> Strike:
    return Strike(kind, 5.0, 5.1, **more)


def wrong(life: Life, *strikes: Strike, told: frozenset[int] = frozenset()) -> set[str]:
    return set(law.judge(life, strikes_of(*strikes), told=told).wrong)


def test_what_ends_as_it_should_is_right(tmp_path: Path) -> None:
    assert wrong(life_of(tmp_path, "lines", code=9)) == set()
    assert wrong(life_of(tmp_path, "term", code=42, grace_s=30)) == set()


@pytest.mark.parametrize(
    ("mode", "code", "right"),
    [
        ("dumb-init", 137, True),
        ("dumb-init", 143, False),
        ("sbin-init", 143, True),
        ("systemd", 143, True),
        ("systemd", 1, False),
    ],
)
def test_an_exec_ends_with_its_container_as_that_is_ended(tmp_path: Path, mode: str, code: int, right: bool) -> None:
    life = life_of(tmp_path, "code", code=WORKS["code"].code, wrong_execs=[(code, "what it said")])
    life.mode = mode
    assert ("wrong exec" not in wrong(life)) == right


def test_an_exit_that_is_never_told_is_lost(tmp_path: Path) -> None:
    assert wrong(life_of(tmp_path, "code", code=None, state="CONTAINER_RUNNING")) == {"lost exit"}
    assert wrong(life_of(tmp_path, "code", code=None, state="CONTAINER_RUNNING", started=OPEN)) == {"lost exit"}
    assert wrong(life_of(tmp_path, "code", code=None, state="CONTAINER_CREATED", started=OPEN)) == set()


def test_another_exit_code_is_wrong_and_after_the_death_of_its_server_137_is_right(tmp_path: Path) -> None:
    assert wrong(life_of(tmp_path, "code", code=137)) == {"wrong exit"}
    assert wrong(life_of(tmp_path, "code", code=137), at("server", pod="another")) == {"wrong exit"}
    assert wrong(life_of(tmp_path, "code", code=137), at("server", pod=POD)) == set()
    assert wrong(life_of(tmp_path, "code", code=1), at("server", pod=POD)) == {"wrong exit"}


def test_faults_that_may_cost_nothing_excuse_nothing(tmp_path: Path) -> None:
    for kind in set(FAULTS) - {"server", "init"}:
        assert wrong(life_of(tmp_path, "code", code=137), at(kind, pod=POD, words=CONTAINER)) == {"wrong exit"}


def test_255_after_containerd_was_killed_is_its_own_where_it_had_been_told_better(tmp_path: Path) -> None:
    assert wrong(life_of(tmp_path, "code", code=255), at("containerd")) == {"wrong exit"}
    assert wrong(life_of(tmp_path, "code", code=255), at("containerd"), told=frozenset({7})) == set()


def test_output_must_be_whole(tmp_path: Path) -> None:
    lines = WORKS["lines"].output
    assert wrong(life_of(tmp_path, "lines", code=9, output=lines[:-8])) == {"lost output"}
    assert wrong(life_of(tmp_path, "lines", code=9, output=lines[7:])) == {"lost output"}
    assert wrong(life_of(tmp_path, "lines", code=9, output=lines + b"line 3\n")) == {"lost output"}
    assert wrong(life_of(tmp_path, "lines", code=137, output=lines[:-8]), at("server", pod=POD)) == set()
    assert wrong(life_of(tmp_path, "lines", code=137, output=lines[7:]), at("server", pod=POD)) == {"lost output"}


def test_a_killed_containerd_may_lose_one_piece_of_64_kib(tmp_path: Path) -> None:
    burst = WORKS["burst"].output
    small = burst[:1000].rpartition(b"\n")[0] + b"\n" + burst[5000:].partition(b"\n")[2]
    large = burst[:1000].rpartition(b"\n")[0] + b"\n" + burst[90_000:].partition(b"\n")[2]
    assert wrong(life_of(tmp_path, "burst", code=3, output=small)) == {"lost output"}
    assert wrong(life_of(tmp_path, "burst", code=3, output=small), at("containerd")) == set()
    assert wrong(life_of(tmp_path, "burst", code=3, output=large), at("containerd")) == {"lost output"}


def test_what_containerd_says_it_left_unread_may_be_missing_too(tmp_path: Path) -> None:
    burst = WORKS["burst"].output
    life = life_of(tmp_path, "burst", code=3, output=burst[:20_000].rpartition(b"\n")[0] + b"\n")
    kill = strikes_of(at("containerd"))
    assert set(law.judge(life, kill).wrong) == {"lost output"}
    assert set(law.judge(life, kill, left_unread=True).wrong) == set()
    assert set(law.judge(life, strikes_of()).wrong) == {"lost output"}


def test_an_init_that_has_its_runtimes_name_may_be_killed_for_it(tmp_path: Path) -> None:
    killed = at("oci", words=f"crun --root x create --bundle y {CONTAINER}")
    assert wrong(life_of(tmp_path, "term", code=137, grace_s=30, output=b""), killed) == set()
    other = at("oci", words=f"crun --root x exec {CONTAINER}")
    assert wrong(life_of(tmp_path, "term", code=137, grace_s=30), other) == {"wrong exit"}


def test_a_line_that_a_killed_containerd_has_not_finished_is_none(tmp_path: Path) -> None:
    life = life_of(tmp_path, "code", code=7)
    head = b"2026-01-01T00:00:00.0Z stdout F "
    life.container.log.write_bytes(head + b"on" + head + b"one\n" + head + b"two\n")
    assert wrong(life) == set()


@pytest.mark.parametrize("where", ["host", "container"])
def test_a_poststop_hook_runs_once(tmp_path: Path, where: str) -> None:
    life = life_of(tmp_path, "code", code=137)
    begun = frozenset({(CONTAINER, where)})
    kill = at("server", pod=POD)

    def problem(ran: int, *strikes: Strike) -> str:
        return law.poststop(life, strikes_of(*strikes), ran, where=where)[0]

    assert problem(1, kill) == ""
    assert problem(2, kill) == f"{where} poststop hook ran 2 times"
    assert problem(0, kill) == f"{where} poststop hook did not run"
    assert problem(0, at("server", pod=POD, begun=begun)) == ""
    assert problem(0, at("server", pod="another", begun=begun)) == f"{where} poststop hook did not run"
    assert bool(problem(0, at("runner", words=CONTAINER))) == (where == "host")


def test_a_seed_gives_the_same_plan_again() -> None:
    def plan(seed: int, number: int) -> object:
        return draw(seed, number, faults=20, modes=list(MODES), kinds=list(FAULTS))

    assert plan(3, 1) == plan(3, 1)
    assert plan(3, 1) != plan(3, 2)
    assert plan(3, 1) != plan(4, 1)

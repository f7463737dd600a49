import subprocess
from pathlib import Path

import pytest

from runtime.linux import oom_score


@pytest.mark.parametrize("score", [-1000, -1, 0, 1, 1000])
def test_a_containers_is_what_its_specification_says(score):
    assert oom_score.from_spec({"process": {"oomScoreAdj": score}}) == score


@pytest.mark.parametrize("found", [None, -1001, 1001, "1", 1.5, True, [1]])
def test_what_the_kernel_would_not_take_is_none(found):
    assert oom_score.from_spec({"process": {"oomScoreAdj": found}}) is None


@pytest.mark.parametrize("spec", [{}, {"process": None}, {"process": []}, {"process": {}}])
def test_nor_is_there_one_where_it_says_nothing(spec):
    assert oom_score.from_spec(spec) is None


def own():
    return int(Path("/proc/self/oom_score_adj").read_text())


def test_what_is_spawned_meanwhile_has_it_and_this_process_what_it_had():
    before = own()
    with oom_score.for_forks(777):
        process = subprocess.Popen(["cat", "/proc/self/oom_score_adj"], stdout=subprocess.PIPE, text=True)
    assert own() == before
    assert process.communicate()[0] == "777\n"


def test_so_it_has_where_nothing_could_be_spawned_or_nothing_is_asked():
    before = own()
    with pytest.raises(FileNotFoundError), oom_score.for_forks(777):
        subprocess.run(["/nowhere"], check=True)
    assert own() == before
    with oom_score.for_forks(None):
        assert own() == before


def test_a_score_that_the_kernel_refuses_is_passed_over():
    before = own()
    with oom_score.for_forks(1001):
        assert own() == before
    assert own() == before

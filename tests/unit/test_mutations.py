"""hack/mutations.toml fits the code; hack/mutate.py says whether the tests notice what it lists."""

import importlib.util
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def load():
    spec = importlib.util.spec_from_file_location("mutate", ROOT / "hack" / "mutate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


mutate = load()
MUTATIONS = mutate.read()


@pytest.mark.parametrize("file", sorted({one.file for one in MUTATIONS}))
def test_each_change_is_one_of_code_that_is_there(file):
    text = (ROOT / file).read_text()
    for one in MUTATIONS:
        if one.file == file:
            assert one.line(text) > 0
            compile(text.replace(one.find, one.replace), file, "exec")


def test_the_tests_that_have_to_notice_are_there():
    assert {test for one in MUTATIONS for test in one.tests if not (ROOT / test).is_file()} == set()


def test_a_change_that_may_survive_has_its_reason():
    assert len([one for one in MUTATIONS if one.reason]) <= 5
    assert len(MUTATIONS) >= 60


@pytest.mark.parametrize(("text", "count"), [("b", 0), ("a a", 2)])
def test_a_text_that_is_not_there_once_is_an_error(text, count):
    change = mutate.Mutation("f.py", "a", "b", ())
    with pytest.raises(mutate.Stale, match=f"found {count} times, allowed once"):
        change.line(text)


def test_a_change_is_told_by_the_first_line_that_differs():
    change = mutate.Mutation("f.py", "    a()\n    b()\n", "    a()\n", ())
    assert (change.line("x\n    a()\n    b()\n"), change.summary()) == (3, "without b()")

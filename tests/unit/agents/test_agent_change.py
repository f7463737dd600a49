import pytest

from runtime.agents import change
from runtime.errors import FailedPrecondition
from tests.unit.agents.making import agent, bind, selected


def test_differences_are_named_as_the_configuration_names_them_and_not_whose_it_is():
    other = agent(command=("/other",), restart="no", memory_bytes=1, user="app", env=(("A", "b"),))
    assert change.differences(agent(), other) == ("command", "restart", "memory", "user", "env")
    assert change.differences(agent(), agent()) == ()


@pytest.mark.parametrize(("key", "more"), [("mounts", {"mounts": (bind(),)}), ("mandatory", {"mandatory": True})])
def test_what_belongs_to_the_container_needs_a_new_one(key, more):
    with pytest.raises(FailedPrecondition, match=rf"^/c\.toml: agents\[0\]\.{key}: changed since .* a new pod"):
        change.require_possible(selected(), selected(**more), source="/c.toml")
    change.require_possible(selected(), selected(command=("/other",)), source="/c.toml")


def test_a_unit_of_systemd_gets_no_memory_limit():
    change.require_possible(selected(), selected(memory_bytes=1), source="/c.toml")
    with pytest.raises(FailedPrecondition, match=r"^/c\.toml: agents\[0\]\.memory: changed since .* a new pod"):
        change.require_possible(selected(), selected(memory_bytes=1), source="/c.toml", is_unit=True)

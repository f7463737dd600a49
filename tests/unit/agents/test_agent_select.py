import pytest

from runtime.agents.select import select, targets
from runtime.errors import InvalidArgument
from runtime.image.passwd import User
from tests.unit.agents.making import agent, bind

APP = User(1000, 1000, (), "app", "/home/app")


def users(name):
    if name != "app":
        raise InvalidArgument(f"user: found {name!r}, allowed a name in the image")
    return APP


def choose(*agents, selects=lambda one: True, has_v2_memory=True):
    return select(agents, selects, resolve=users, source="node.toml", has_v2_memory=has_v2_memory)


def test_agents_keep_their_order_and_the_ones_not_selected_are_left_out():
    found = choose(agent("a"), agent("b"), agent("c"), selects=lambda one: one.name != "b")
    assert [(one.agent.name, one.key) for one in found] == [("a", "agents[0]"), ("c", "agents[2]")]


def test_an_agent_runs_as_root_unless_it_names_a_user_of_the_image():
    root, app = choose(agent("a"), agent("b", user="app"))
    assert root.user.uid == 0
    assert app.user == APP


def test_an_agent_that_could_not_be_started_is_refused_by_its_key():
    with pytest.raises(InvalidArgument, match=r"node.toml: agents\[0\]: user: found 'nobody-here'"):
        choose(agent(user="nobody-here"))


def test_a_wrong_agent_that_is_not_selected_hurts_nobody():
    assert choose(agent(user="nobody-here"), selects=lambda one: False) == ()


def test_memory_is_refused_where_the_node_has_no_memory_controller_on_v2():
    with pytest.raises(InvalidArgument, match=r"agents\[0\].memory: found 1048576, allowed only on a node"):
        choose(agent(memory_bytes=1 << 20), has_v2_memory=False)
    assert choose(agent(memory_bytes=1 << 20))[0].agent.memory_bytes == 1 << 20


def test_every_target_is_named_once():
    found = choose(agent("a", mounts=(bind(),)), agent("b", mounts=(bind(), bind("/srv/x", "/x"))))
    assert targets(one.agent for one in found) == ("/opt/probe", "/x")

import pytest

from runtime.agents import unit
from runtime.default_path import DEFAULT_PATH
from runtime.errors import InvalidArgument
from runtime.image.passwd import User
from tests.unit.agents.making import selected


def text(**more):
    return unit.text(selected(**more), source="node.toml")


def test_the_whole_unit_of_a_plain_agent():
    assert text().splitlines() == [
        "[Unit]",
        "Description=Agent probe of the node",
        "StartLimitIntervalSec=0",
        "",
        "[Service]",
        "Type=simple",
        'ExecStart="/opt/probe/bin/probe"',
        "Restart=always",
        "RestartSec=1",
        "RestartSteps=6",
        "RestartMaxDelaySec=60",
        "StartLimitInterval=0",
        "TimeoutStopSec=5",
        "IgnoreSIGPIPE=no",
    ]


@pytest.mark.parametrize(
    ("word", "quoted"),
    [
        ("a b", '"a b"'),
        ("", '""'),
        (";", '";"'),
        ("%n", '"%%n"'),
        ("$HOME", '"$$HOME"'),
        ('"\\', '"\\"\\\\"'),
        ("a\nExecStart=/bin/evil", '"a\\nExecStart=/bin/evil"'),
        ("\x01\x7f", '"\\x01\\x7f"'),
        ("é", '"é"'),
    ],
)
def test_a_word_is_quoted_as_systemd_reads_it(word, quoted):
    assert unit.quoted(word) == quoted


@pytest.mark.parametrize("program", ['/a"b', "/a'b", "/a\\b", "/a\nb", "/", "/a/", "a"])
def test_a_program_that_systemd_would_not_take_is_refused(program):
    with pytest.raises(InvalidArgument, match=r"node.toml: agents\[0\].command\[0\]"):
        text(command=(program,))


def test_a_variable_keeps_its_dollars():
    assert 'Environment="A=$x %%n"\n' in text(env=(("A", "$x %n"),))


@pytest.mark.parametrize("env", [("a.b", "x"), ("1", "x"), ("A", "\x01"), ("A", "\r")])
def test_a_variable_that_systemd_would_drop_in_silence_is_refused(env):
    with pytest.raises(InvalidArgument, match=r"node.toml: agents\[0\].env"):
        text(env=(env,))


def test_user_and_groups_are_numbers_of_the_image():
    app = User(1000, 1001, (4, 5), "app", "/")
    found = unit.text(selected(app, user="app"), source="node.toml")
    assert "User=1000\nGroup=1001\nSupplementaryGroups=4 5\n" in found


def test_a_number_that_the_image_does_not_list_is_refused():
    with pytest.raises(InvalidArgument, match=r"agents\[0\].user: found 4711, allowed a user in the image"):
        unit.text(selected(User(4711), user="4711"), source="node.toml")


def test_an_at_sign_makes_no_instance_of_a_template():
    assert unit.unit_name("a@b") == "pouchrich-agent-a\\x40b.service"


def test_agents_are_wanted_by_the_boot_and_required_by_nothing():
    made = unit.units((selected(name="a"), selected(name="b")), source="node.toml")
    assert [file.name for file in made.files] == [
        "pouchrich-agent-a.service",
        "pouchrich-agent-b.service",
        "agents.conf",
    ]
    assert made.files[-1].text == "[Unit]\nWants=pouchrich-agent-a.service\nWants=pouchrich-agent-b.service\n"
    assert made.binds[0].target == "/run/systemd/system/pouchrich-agent-a.service"
    assert made.binds[-1].target == "/run/systemd/system/multi-user.target.d/60-agents.conf"


def test_without_agents_there_is_nothing_to_bind():
    assert unit.units((), source="node.toml") == unit.Units()


def test_variables_that_systemd_gives_to_every_unit_are_taken_away_but_for_the_agents_own():
    one = selected(env=(("A", "own"),))
    found = unit.text(one, source="node.toml", foreign=("A", "B", "PATH")).splitlines()
    assert 'Environment="A=own"' in found
    assert found[-2:] == [f"Environment=PATH={DEFAULT_PATH}", "UnsetEnvironment=B"]

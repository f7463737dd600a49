import pytest

from runtime.errors import FailedPrecondition, RuntimeFailed
from shim.task.rich.agent_units import AgentUnits
from tests.fakes.loop import in_loop
from tests.unit.agents.making import selected

SPEC = {"process": {"user": {"uid": 1000}, "capabilities": {"bounding": ["CAP_KILL"]}, "noNewPrivileges": True}}
UNIT = "pouchrich-agent-probe.service"


class Systemd:
    """What is run in the container: `answers` are by systemctl's verb.

    At first it has started the unit `restarts` times by itself: what it counts goes on after a `restart` from between
    two starts of its own.
    """

    def __init__(self, *, restarts=0, **show):
        self.calls, self.answers, self._restarts = [], {}, restarts
        self._shown = "; ".join(f"{key}={value}" for key, value in show.items())

    async def program(self, process, *, timeout_s):
        assert process["args"][:2] == ["systemctl", "--no-ask-password"]
        assert process["user"] == {"uid": 0, "gid": 0, "additionalGids": []}
        assert process["capabilities"]["effective"] == ["CAP_KILL"]
        assert process["noNewPrivileges"]
        self.calls.append(process["args"][2])
        if self.calls.count("show") == 1 and self.calls[-1] == "show":
            return 0, f"NRestarts={self._restarts}"
        return (0, self._shown) if self.calls[-1] == "show" else self.answers.get(self.calls[-1], (0, ""))


RUNS = {"Result": "success", "NRestarts": 0, "ExecMainStatus": 0, "ActiveState": "active"}


async def replace(path, systemd, one, *, changed=True, foreign=()):
    (path / UNIT).write_text("the one before, which is longer " * 40)
    units = AgentUnits(str(path), SPEC, systemd, foreign)
    await units.replace(one, source="/c.toml", text_changed=changed, settled_s=0)
    return (path / UNIT).read_text()


@in_loop
async def test_a_changed_unit_is_written_in_place_and_loaded_before_it_is_started(tmp_path):
    systemd = Systemd(**RUNS)
    text = await replace(tmp_path, systemd, selected(command=("/new",)))
    assert '\nExecStart="/new"\n' in text
    assert text.endswith("IgnoreSIGPIPE=no\n")
    assert systemd.calls == ["daemon-reload", "restart", "show", "show"]


@in_loop
async def test_a_changed_unit_does_not_get_what_systemd_gives_to_every_unit_either(tmp_path):
    text = await replace(tmp_path, Systemd(**RUNS), selected(), foreign=("OF_THE_POD",))
    assert "\nUnsetEnvironment=OF_THE_POD\n" in text


@in_loop
async def test_a_restart_leaves_the_unit_as_it_is(tmp_path):
    systemd = Systemd(**RUNS)
    assert "the one before" in await replace(tmp_path, systemd, selected(), changed=False)
    assert systemd.calls == ["restart", "show", "show"]


@pytest.mark.parametrize(
    ("shown", "restart", "runs"),
    [
        ({}, "always", True),
        ({"NRestarts": 1}, "always", False),
        ({"ActiveState": "activating", "ExecMainStatus": 203}, "always", False),
        ({"ActiveState": "inactive"}, "always", False),
        ({"ActiveState": "inactive"}, "on-failure", True),
        ({"ActiveState": "failed", "Result": "exit-code"}, "no", False),
        ({"ActiveState": "inactive", "Result": "exit-code"}, "no", False),
    ],
    ids=str,
)
def test_systemd_is_asked_whether_it_runs(tmp_path, shown, restart, runs):
    @in_loop
    async def ask():
        await replace(tmp_path, Systemd(**{**RUNS, **shown}), selected(restart=restart))

    if runs:
        ask()
    else:
        with pytest.raises(RuntimeFailed, match=r"^agent probe: systemd says .*, its last exit status is \d"):
            ask()


@in_loop
async def test_what_an_agent_did_before_it_was_replaced_is_not_the_new_ones_fault(tmp_path):
    await replace(tmp_path, Systemd(restarts=3, **{**RUNS, "NRestarts": 3}), selected())
    with pytest.raises(RuntimeFailed):
        await replace(tmp_path, Systemd(restarts=3, **{**RUNS, "NRestarts": 4}), selected())


@in_loop
async def test_what_systemctl_does_not_do_is_told_with_its_words(tmp_path):
    systemd = Systemd(**RUNS)
    systemd.answers["restart"] = (1, "Unit is masked.")
    with pytest.raises(RuntimeFailed, match=r"^systemctl restart: exit status 1: Unit is masked\.$"):
        await replace(tmp_path, systemd, selected())
    with pytest.raises(RuntimeFailed, match="systemd says nothing"):
        await replace(tmp_path, Systemd(), selected())


@in_loop
async def test_a_lease_on_the_unit_is_told_and_not_waited_for(tmp_path, monkeypatch):
    def held(*_):
        raise BlockingIOError

    monkeypatch.setattr("shim.task.rich.agent_units.rundir.rewrite", held)
    with pytest.raises(FailedPrecondition, match="holds a lease"):
        await replace(tmp_path, Systemd(**RUNS), selected())

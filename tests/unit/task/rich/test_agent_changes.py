import asyncio

import pytest

from runtime.config.document import parse
from runtime.errors import FailedPrecondition, InvalidArgument, NotFound, RuntimeFailed
from runtime.rich.extras import Extras
from shim.task.rich.agent_changes import AgentChanges
from shim.task.rich.container_agents import ContainerAgents
from shim.task.rich.subject import ContainerInfo
from tests.fakes.loop import in_loop, until
from tests.unit.agents.making import selected

SPEC = {"process": {"capabilities": {"bounding": []}}}
TEXT = 'version = 1\n[[agents]]\nname = "probe"\ncommand = ["{command}"]\n{more}'


class Supervisor:
    """Writes down what it is to start; what is in `broken` does not run."""

    def __init__(self):
        self.started, self.broken, self.gate = [], set(), asyncio.Event()
        self.gate.set()

    async def replace(self, agent, *, settled_s):
        await self.gate.wait()
        (program,) = agent.process["args"]
        self.started.append((program, settled_s))
        if program in self.broken:
            raise RuntimeFailed(f"agent {agent.name} ended with status 1")


class Exec:
    """Notes cgroups."""

    def __init__(self):
        self.noted = []

    def note_cgroups(self, agents):
        self.noted.append([one.memory_bytes for one in agents])


class Fixed:
    """One container with the agent `probe`, whose configuration `text` is what the file has by now."""

    def __init__(self, *, source="/c.toml", started=True):
        self.text = TEXT.format(command="/old", more="")
        self.supervisor, self.exec = Supervisor(), Exec()
        self.changes = AgentChanges(
            ContainerInfo("c", "ns", "/bundle", "/nowhere", SPEC),
            (selected(command=("/old",)),),
            (),
            selects=lambda when: when.namespace != ("other",),
            source=source,
            supervisor=self.supervisor,
            units=None,
            run=self.exec,
            files=Files(),
            load=lambda path: parse(self.text, source=path),
        )
        if started:
            self.changes.started()

    def configure(self, command="/new", more=""):
        self.text = TEXT.format(command=command, more=more)

    async def __call__(self, verb, name="probe", settled_s=2.0):
        return await self.changes.change(name, verb, settled_s=settled_s)


class Files:
    """Stands for AgentFiles: the container has what the node has."""

    async def require_nodes(self, agent):
        pass


@in_loop
async def test_an_upgrade_is_what_the_file_has_by_now_and_a_back_out_what_ran_before():
    one = Fixed()
    assert (await one("look")).outcome == "current"
    assert (await one("upgrade")).outcome == "current"
    assert one.supervisor.started == []
    one.configure("/new")
    seen = await one("look")
    assert (seen.outcome, seen.differs, seen.can_back_out) == ("differs", ("command",), False)
    done = await one("upgrade")
    assert (done.outcome, done.differs, done.can_back_out) == ("upgraded", (), True)
    assert (await one("upgrade")).outcome == "current"
    done = await one("back-out")
    assert (done.outcome, done.differs, done.can_back_out) == ("backed-out", ("command",), False)
    assert one.supervisor.started == [("/new", 2.0), ("/old", 2.0)]
    with pytest.raises(FailedPrecondition, match="found no upgrade to back out in this container"):
        await one("back-out")


@in_loop
async def test_one_that_does_not_run_is_taken_back_and_may_be_tried_again():
    one = Fixed()
    one.configure("/broken")
    one.supervisor.broken = {"/broken"}
    with pytest.raises(RuntimeFailed, match=r"^agent probe ended with status 1; the one before runs again$"):
        await one("upgrade")
    assert one.supervisor.started == [("/broken", 2.0), ("/old", 0.0)]
    assert (await one("look")).differs == ("command",)
    one.supervisor.broken = {"/broken", "/old"}
    with pytest.raises(
        RuntimeFailed, match=r"the one before could not be started again: agent probe ended with status 1$"
    ):
        await one("upgrade")
    with pytest.raises(FailedPrecondition, match="found no upgrade"):
        await one("back-out")


@in_loop
async def test_a_restart_starts_what_runs_and_not_what_the_file_has():
    one = Fixed()
    one.configure("/new")
    done = await one("restart")
    assert (done.outcome, done.differs) == ("restarted", ("command",))
    assert one.supervisor.started == [("/old", 2.0)]


@in_loop
async def test_a_limit_that_is_new_is_noted_for_a_delete_before_it_is_set(monkeypatch):
    monkeypatch.setattr("shim.task.rich.agent_changes.has_v2_memory", lambda: True)
    one = Fixed()
    one.configure("/old", 'memory = "1Mi"\n')
    assert (await one("upgrade")).outcome == "upgraded"
    assert one.exec.noted == [[1 << 20, None]]


@pytest.mark.parametrize(
    ("text", "error", "why"),
    [
        (TEXT.format(command="/new", more="mandatory = true\n"), FailedPrecondition, r"agents\[0\]\.mandatory"),
        (TEXT.format(command="/new", more='when = { namespace = ["other"] }'), NotFound, "not there any more"),
        ("version = 1\n", NotFound, "agents: probe is not there any more for this container, where it still runs"),
        ("version = = 1\n", InvalidArgument, "/c.toml"),
        (TEXT.format(command="new", more=""), InvalidArgument, r"agents\[0\]\.command\[0\]"),
    ],
)
def test_what_cannot_be_had_is_refused_and_nothing_is_started(text, error, why):
    @in_loop
    async def run():
        one = Fixed()
        one.text = text
        with pytest.raises(error, match=why):
            await one("upgrade")
        assert (await one("look")).outcome == "differs"
        assert one.supervisor.started == []

    run()


@in_loop
async def test_a_configuration_that_came_with_create_cannot_be_read_again():
    one = Fixed(source="handler options")
    with pytest.raises(
        FailedPrecondition, match=r"containerd passes only at Create; put it into a file \(ConfigPath\)"
    ):
        await one("upgrade")
    assert (await one("restart")).outcome == "restarted"


@in_loop
async def test_who_is_unknown_is_refused_and_so_is_what_is_not_a_verb():
    one = Fixed()
    with pytest.raises(NotFound, match="agent other: the container was made without it"):
        await one("restart", "other")
    for verb, settled_s in (("destroy", 0.0), ("restart", 601.0), ("restart", -1.0)):
        with pytest.raises(InvalidArgument, match="allowed look, restart, upgrade, back-out and 0s to 600s"):
            await one(verb, settled_s=settled_s)
    plain = ContainerAgents(None, Extras(), None, selects=None, source="", root=(0, 0))
    with pytest.raises(NotFound, match="the container was made without it"):
        await plain.change("probe", "look", settled_s=0)
    with pytest.raises(FailedPrecondition, match="has not started"):
        await Fixed(started=False)("restart")


@in_loop
async def test_one_change_at_a_time_and_none_once_the_container_ends():
    one = Fixed()
    one.supervisor.gate.clear()
    first = asyncio.ensure_future(one("restart"))
    await until(lambda: one.changes._task is not None)
    with pytest.raises(FailedPrecondition, match="another change is under way"):
        await one("restart")
    await one.changes.stop()
    with pytest.raises(FailedPrecondition, match="the container is ending"):
        await first
    with pytest.raises(FailedPrecondition, match="the container is ending"):
        await one("restart")
    assert one.supervisor.started == []


@in_loop
async def test_a_user_that_stays_is_not_looked_up_again_in_what_the_container_has_made_of_its_files():
    one = Fixed()
    one.changes._running = {"probe": selected(command=("/old",), user="app")._replace()}
    one.configure("/new", 'user = "app"\n')
    assert (await one("upgrade")).outcome == "upgraded"
    one.configure("/new", 'user = "other"\n')
    with pytest.raises(FileNotFoundError):  # the container's files, which are not there
        await one("upgrade")

import asyncio
import json
import socket
from contextlib import contextmanager
from types import SimpleNamespace

import pytest

from pouchrich import agents, filters
from pouchrich.__main__ import main
from pouchrich.commands import agent
from pouchrich.containers import Container
from protos.gen import agents_pb2, task_pb2
from runtime import errors
from shim.pod import status
from shim.ttrpc.server import TtrpcServer
from shim.ttrpc.service import bind

STATE = {"agents": ["probe"], "unit_agents": {"watcher": ""}}


def container(tmp_path, name="c", state=STATE):
    bundle = tmp_path / name
    bundle.mkdir(exist_ok=True)
    return Container("k8s.io", name, str(bundle), {"mode": "systemd", "boot": None}, {}, state=state)


class Asked:
    """A pod server's service: `answers` are by container."""

    def __init__(self, **answers):
        self.answers, self.requests = answers, []

    async def change(self, request):
        self.requests.append((request.id, request.agent, request.verb, request.settled_ms))
        answer = self.answers.get(request.id, "upgraded")
        if isinstance(answer, BaseException):
            raise answer
        return agents_pb2.ChangeResponse(outcome=answer, differs=["command"], can_back_out=True)


class Older:
    """The service that a pod server of before had."""

    def __getattr__(self, name):
        async def method(request):
            raise AssertionError(name)

        return method


@contextmanager
def served(tmp_path, *names, service=None):
    """Pod servers of these containers for as long as the `with`, in the loop of what is run by it."""
    path = f"{tmp_path}/socket"
    descriptor = agents_pb2.DESCRIPTOR.services_by_name["Agents"]
    if isinstance(service, Older):
        descriptor = task_pb2.DESCRIPTOR.services_by_name["Task"]

    def run(work):
        async def act():
            server = TtrpcServer([bind(descriptor, service)], status_of=status.status_of)
            listener = socket.socket(socket.AF_UNIX)
            listener.bind(path)
            listener.listen()
            listener.setblocking(False)
            await server.start(listener)
            try:
                return await work
            finally:
                server.close()

        return asyncio.run(act())

    for name in names:
        (tmp_path / name).mkdir(exist_ok=True)
        (tmp_path / name / "address").write_text(f"unix://{path}")
    yield run


def ask(tmp_path, service, verb="upgrade"):
    one = container(tmp_path)
    with served(tmp_path, "c", service=service) as run:
        return run(agents.ask(one, "probe", verb, settle_s=0.25))


def test_the_pod_server_is_told_which_agent_and_what_to_do(tmp_path):
    service = Asked()
    assert ask(tmp_path, service) == agents.Answer("upgraded", ("command",), "", True)
    assert service.requests == [("c", "probe", "upgrade", 250)]


@pytest.mark.parametrize(
    ("error", "outcome", "reason"),
    [
        (errors.FailedPrecondition("it is paused"), "refused", "it is paused"),
        (errors.InvalidArgument("/c.toml: found x"), "refused", "/c.toml: found x"),
        (errors.NotFound("agent probe: the container was made without it"), "refused", "was made without it"),
        (errors.RuntimeFailed("ended with status 1; the one before runs again"), "failed", "ended with status 1"),
    ],
)
def test_what_changed_nothing_is_told_from_what_failed(tmp_path, error, outcome, reason):
    answer = ask(tmp_path, Asked(c=error))
    assert (answer.outcome, reason in answer.reason) == (outcome, True)
    assert not answer.reason.endswith(("failed precondition", "invalid argument", "not found"))


def test_a_pod_server_of_before_is_left_and_said_to_be_that(tmp_path):
    answer = ask(tmp_path, Older())
    assert answer.outcome == "refused"
    assert "runs a version that cannot change agents" in answer.reason


def test_a_container_that_has_ended_is_gone(tmp_path):
    one = container(tmp_path)
    assert asyncio.run(agents.ask(one, "probe", "look")).outcome == "gone"
    (tmp_path / "c/address").write_text(f"unix://{tmp_path}/nobody")
    assert asyncio.run(agents.ask(one, "probe", "look")).outcome == "gone"


@pytest.mark.parametrize("state", [{}, {"agents": "probe", "unit_agents": ["x"]}])
def test_what_has_not_started_has_none_yet(tmp_path, state):
    assert agents.of(container(tmp_path, state=state)) == {}


# The roll-out


def arguments_of(**others):
    defaults = {"name": "probe", "verb": "upgrade", "settle": 0.0, "canary": None, "max_failed": 0, "json": True}
    return SimpleNamespace(**{**defaults, "filter": [], **others})


def rows(tmp_path, count=3):
    return [agent.Row(container(tmp_path, f"c{number}"), "probe") for number in range(count)]


def rolled(tmp_path, service, **how):
    found = rows(tmp_path)
    with served(tmp_path, *(row.container.id for row in found), service=service) as run:
        run(agent._roll_out(found, "upgrade", 0.0, how.get("canary"), max_failed=how.get("max_failed", 0)))
    return [row.answer.outcome for row in found]


def test_a_rollout_ends_with_the_first_that_fails_and_passes_over_what_is_refused(tmp_path):
    service = Asked(c0=errors.FailedPrecondition("paused"), c1=errors.RuntimeFailed("ended"))
    assert rolled(tmp_path, service) == ["refused", "failed", "left"]


def test_a_canary_counts_what_was_changed(tmp_path):
    assert rolled(tmp_path, Asked(c0="current"), canary=1) == ["current", "upgraded", "left"]


@pytest.mark.parametrize(
    ("max_failed", "outcomes"), [(1, ["failed", "failed", "left"]), (2, ["failed"] * 2 + ["upgraded"])]
)
def test_a_rollout_continues_past_as_many_failures_as_are_allowed(tmp_path, max_failed, outcomes):
    service = Asked(c0=errors.RuntimeFailed("ended"), c1=errors.RuntimeFailed("ended"))
    assert rolled(tmp_path, service, max_failed=max_failed) == outcomes


@pytest.mark.parametrize("text", ["-1", "x", "٣", "100001"])
def test_a_number_of_failures_that_is_none_is_refused(text, capsys):
    with pytest.raises(SystemExit):
        main(["agent", "upgrade", "probe", f"--max-failed={text}"])
    assert "allowed a number from 0 to 100000" in capsys.readouterr().err


def test_a_container_in_another_state_than_asked_for_is_not_changed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(agent.containers, "every", lambda root: [container(tmp_path)])
    monkeypatch.setattr(agent, "ask", None)
    with pytest.raises(errors.NotFound, match="NAME: found 'probe'"):
        agent.run(arguments_of(filter=[filters.parse("state=running")]))


def test_the_answer_is_json_and_the_status_tells_whether_all_is_as_was_wished(tmp_path, monkeypatch, capsys):
    found = [container(tmp_path, f"c{number}") for number in range(2)]
    monkeypatch.setattr(agent.containers, "every", lambda root: found)
    monkeypatch.setattr(agent, "ask", lambda one, name, verb, settle_s=0.0: answered(one, verb))

    async def answered(one, verb):
        return agents.Answer("refused", reason="it is paused") if one.id == "c1" else agents.Answer("upgraded")

    arguments = arguments_of()
    assert agent.run(arguments) == 1
    said = json.loads(capsys.readouterr().out)
    assert [(one["id"], one["agent"], one["unit"], one["outcome"], one["reason"]) for one in said["agents"]] == [
        ("c0", "probe", False, "upgraded", ""),
        ("c1", "probe", False, "refused", "it is paused"),
    ]
    arguments.json, arguments.name = False, "watcher"
    assert agent.run(arguments) == 1
    answer = capsys.readouterr()
    assert "systemd" in answer.out
    assert answer.err == "agent watcher: 1 upgraded, 1 refused\n"
    arguments.name = "nobody"
    with pytest.raises(errors.NotFound, match="NAME: found 'nobody', allowed an agent of a running container"):
        agent.run(arguments)

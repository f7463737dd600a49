"""Asks the pod servers of running containers about their agents, through the shim's own ttrpc service.

A pod server decides and acts by itself: a request names the agent and the verb, never what to run.
"""

import os
from typing import NamedTuple

from pouchrich.containers import Container
from protos.gen import agents_pb2
from runtime.errors import PouchrichError
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.errors import Code, ConnectionClosed, RemoteError, TtrpcError

SERVICE = agents_pb2.DESCRIPTOR.services_by_name["Agents"].full_name
_REFUSED = (Code.NOT_FOUND, Code.INVALID_ARGUMENT, Code.FAILED_PRECONDITION)
"""The codes that `shim.pod.status` gives to refused requests, which have changed nothing."""
LOOK_TIMEOUT_S = 30.0
CHANGE_TIMEOUT_S = 240.0
"""Longer than a change takes that fails and is undone, by the timeouts of its parts; the settle time is added."""


class Answer(NamedTuple):
    """The result of one request about one container.

    `outcome` is the pod server's (`shim.task.rich.agent_changes.Changed`), or `refused` if nothing was changed, `gone`
    if the container has ended, or `failed`. `reason` is in words.
    """

    outcome: str
    differs: tuple[str, ...] = ()
    reason: str = ""
    can_back_out: bool = False


def of(container: Container) -> dict[str, bool]:
    """The agents of a started container: name -> whether it is a unit of the container's systemd."""
    state = container.state
    supervised, units = state.get("agents"), state.get("unit_agents")
    found = {str(one): False for one in supervised} if isinstance(supervised, list) else {}
    return found | ({str(one): True for one in units} if isinstance(units, dict) else {})


async def ask(container: Container, agent: str, verb: str, *, settle_s: float = 0.0) -> Answer:
    """Have the container's pod server do `verb` (of `shim.task.rich.agent_changes.VERBS`). Raises nothing but bugs."""
    timeout_s = LOOK_TIMEOUT_S if verb == "look" else CHANGE_TIMEOUT_S + settle_s
    request = agents_pb2.ChangeRequest(id=container.id, agent=agent, verb=verb, settled_ms=int(settle_s * 1000))
    try:
        client = await TtrpcClient.connect(_address(container))
    except OSError:
        return Answer("gone", reason="no pod server answers for it")
    try:
        found = await client.call(SERVICE, "Change", request, agents_pb2.ChangeResponse, timeout_s)
    except RemoteError as err:
        return _of_error(container, err)
    except ConnectionClosed:
        return Answer("failed" if _is_there(container) else "gone", reason="its pod server ended meanwhile")
    except (TtrpcError, PouchrichError) as err:
        return Answer("failed", reason=str(err))
    except TimeoutError:
        return Answer(
            "failed", reason=f"its pod server has not answered for {timeout_s:g}s; it may still make the change"
        )
    finally:
        client.close()
    return Answer(found.outcome, tuple(found.differs), found.reason, found.can_back_out)


def _address(container: Container) -> str:
    with open(f"{container.bundle}/address", encoding="utf-8") as file:
        return file.read()


def _is_there(container: Container) -> bool:
    return os.path.exists(f"{container.bundle}/address")


def _of_error(container: Container, err: RemoteError) -> Answer:
    if err.code == Code.UNIMPLEMENTED:
        return Answer("refused", reason="its pod server runs a version that cannot change agents; a new pod's can")
    if err.code == Code.NOT_FOUND and not _is_there(container):
        return Answer("gone", reason="the container ended meanwhile")
    message = err.message
    for tail in (": not found", ": invalid argument", ": failed precondition"):
        message = message.removesuffix(tail)
    return Answer("refused" if err.code in _REFUSED else "failed", reason=message)

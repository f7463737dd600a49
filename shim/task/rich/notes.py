"""Files in the bundle with what `pouchrich ps` and `inspect` cannot see from outside the pod server."""

import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from runtime import bundle as bundles
from shim.task.rich.agents import AgentState

STATE = "state.json"
AGENTS = "agents.json"

_log = logging.getLogger(__name__)


def write_state(container_id: str, bundle: str, state: Mapping[str, Any]) -> None:
    """Write `state` of a running container. An error is not raised: a full disk must not fail the container."""
    path = f"{bundle}/{STATE}"
    try:
        bundles.write_json(path, {"version": 1, **state})
    except OSError as err:
        _log.warning("container %s: %s not written: %s", container_id, path, err)


def write_agents(bundle: str, states: list[AgentState]) -> None:
    """Write the agents' states. Does nothing if the bundle is gone, as it may be when the last agent ends."""
    with suppress(OSError):
        bundles.write_json(f"{bundle}/{AGENTS}", {"version": 1, "agents": [asdict(one) for one in states]})

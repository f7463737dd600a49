"""What a pod server leaves in the bundle for `pouchrich ps` and `inspect`, which cannot see it from outside."""

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
    """Write `state`: the container runs. A full disk is no reason to call it a failed one."""
    path = f"{bundle}/{STATE}"
    try:
        bundles.write_json(path, {"version": 1, **state})
    except OSError as err:
        _log.warning("container %s: %s not written: %s", container_id, path, err)


def write_agents(bundle: str, states: list[AgentState]) -> None:
    """Write the agents' states; the bundle may be gone when the last one ends."""
    with suppress(OSError):
        bundles.write_json(f"{bundle}/{AGENTS}", {"version": 1, "agents": [asdict(one) for one in states]})

"""Agents that are units of the container's systemd, which alone knows how they ended and has their output."""

import os
from typing import TYPE_CHECKING

from pouchrich.containers import SHORT, Container

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_RESTART = "Restart="
_MOST = 1 << 20
"""The most characters of a unit that are read."""


def restart_of(container: Container, name: str) -> str:
    """The agent's `restart` by its unit, which `pouchrich agent upgrade` may have changed; `always` without one."""
    text = _unit_now(container, name) or _unit_at_create(container, name)
    return next((one.removeprefix(_RESTART) for one in text.splitlines() if one.startswith(_RESTART)), "always")


def _unit_now(container: Container, name: str) -> str:
    from runtime import rundir
    from runtime.agents.unit import unit_name

    path = f"{rundir.path_of(container.namespace, container.id)}/{unit_name(name)}"
    try:
        # O_NONBLOCK: it is the container's root's, who may have a lease on it (fcntl(2), F_SETLEASE).
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
        with open(fd, encoding="utf-8") as file:
            return file.read(_MOST)
    except (OSError, ValueError):
        return ""


def _unit_at_create(container: Container, name: str) -> str:
    from runtime.agents.unit import unit_name

    boot: Mapping[str, Any] = container.made.get("boot") or {}
    found = (one for one in boot.get("files") or () if isinstance(one, dict) and one.get("name") == unit_name(name))
    return next((str(one.get("text")) for one in found), "")


def output_of(container: Container, name: str) -> str:
    """How to read what the agent printed: a command, and where to run it if not on this node."""
    from runtime.agents.unit import unit_name

    command = f"journalctl -u {unit_name(name)}"
    if container.pod is None:
        return f"{command} in the container"
    namespace, pod = container.pod
    return f"kubectl exec -n {namespace} {pod} -c {container.name} -- {command}"


def advice(container: Container, problem: str) -> str:
    """What shows more of `problem`, one of `Seen.problems`."""
    for name in container.state.get("unit_agents") or ():
        if problem.startswith(f"agent {name} does not run"):
            return f"{output_of(container, name)} shows its output"
    return f"pouchrich logs {container.id[:SHORT]} shows its output"

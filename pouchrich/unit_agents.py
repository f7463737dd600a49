"""Agents that are units of the container's systemd, which alone knows how they ended and has their output."""

from typing import TYPE_CHECKING

from pouchrich.containers import SHORT, Container

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

_RESTART = "Restart="


def restart_of(container: Container, name: str) -> str:
    """The agent's `restart` by its unit in the container's plan, made at Create; `always` where the plan has none."""
    from runtime.agents.unit import unit_name

    boot: Mapping[str, Any] = container.made.get("boot") or {}
    for file in boot.get("files") or ():
        if isinstance(file, dict) and file.get("name") == unit_name(name):
            lines = str(file.get("text")).splitlines()
            return next((one.removeprefix(_RESTART) for one in lines if one.startswith(_RESTART)), "always")
    return "always"


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

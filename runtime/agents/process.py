"""Agents as processes that the shim starts in the running container and supervises."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from runtime.agents.select import Selected
from runtime.default_path import DEFAULT_PATH
from runtime.spec import edit
from runtime.spec.edit import Spec

_INHERITED = ("rlimits", "noNewPrivileges", "apparmorProfile", "selinuxLabel", "oomScoreAdj")


@dataclass(frozen=True, slots=True)
class Supervised:
    """An agent that is ready to be started. `process` is the OCI process object.

    `mandatory`: the application does not run without it.
    """

    name: str
    process: Mapping[str, Any]
    restart: str
    memory_bytes: int | None = None
    mandatory: bool = False


def _capabilities(spec: Spec, uid: int) -> dict[str, list[str]]:
    """The sets that exec gives a program without file capabilities: root all of the pod's bounding set, others none."""
    bounding = list(edit.strings(edit.table(edit.table(spec, "process"), "capabilities"), "bounding"))
    own = bounding if uid == 0 else []
    return {"bounding": bounding, "permitted": own, "effective": own, "inheritable": [], "ambient": []}


def _env(one: Selected) -> list[str]:
    entries = [f"{name}={value}" for name, value in one.agent.env]
    names = {name for name, _ in one.agent.env}
    home = [] if "HOME" in names else [f"HOME={one.user.home or '/'}"]
    return [*([] if "PATH" in names else [f"PATH={DEFAULT_PATH}"]), *home, *entries]


def inside(spec: Spec, words: Sequence[str]) -> dict[str, Any]:
    """The OCI process object of a program in the image, run as root of the container with the pod's privileges.

    `spec` is the same as in `supervised`; `words` is the command line, looked up in the usual PATH.
    """
    pod = edit.table(spec, "process")
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": 0, "gid": 0, "additionalGids": []},
        "args": list(words),
        "env": [f"PATH={DEFAULT_PATH}", "LC_ALL=C"],
        "cwd": "/",
        "capabilities": _capabilities(spec, 0),
    }
    process.update({key: pod[key] for key in _INHERITED if key in pod})
    return process


def supervised(one: Selected, spec: Spec) -> Supervised:
    """The agent in the form for the OCI runtime's `exec`.

    `spec` is containerd's, before any step: the agent gets the pod's privileges, and not the larger bounding set that
    the node may give PID 1. The OCI runtime adds the container's seccomp filter.
    """
    pod = edit.table(spec, "process")
    process: dict[str, Any] = {
        "terminal": False,
        "user": {"uid": one.user.uid, "gid": one.user.gid, "additionalGids": list(one.user.groups)},
        "args": list(one.agent.command),
        "env": _env(one),
        "cwd": "/",
        "capabilities": _capabilities(spec, one.user.uid),
    }
    process.update({key: pod[key] for key in _INHERITED if key in pod})
    agent = one.agent
    return Supervised(agent.name, process, agent.restart, agent.memory_bytes, agent.mandatory)

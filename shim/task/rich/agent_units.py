"""Changes agents that are units of the container's systemd: the shim writes the unit, systemctl does the rest.

systemctl is the image's program and runs with the pod's restrictions. An agent that is a unit is inside the pod's trust
from the start (`runtime.rich.unit_claims`), and so are systemctl's answers.
"""

import asyncio
from collections.abc import Mapping, Sequence

from runtime import rundir
from runtime.agents import unit
from runtime.agents.process import inside
from runtime.agents.select import Selected
from runtime.errors import FailedPrecondition, RuntimeFailed
from runtime.hooks.tail import LINE_END
from runtime.spec.edit import Spec
from shim.task.rich.agent_exec import AgentExec

COMMAND_TIMEOUT_S = 30.0
_SHOWN = "--property=ActiveState,Result,NRestarts,ExecMainStatus"


class AgentUnits:
    """The unit agents of one container. `directory` is its run directory, `spec` its spec before the plan's steps.

    `foreign` are the names of variables that its systemd sets in every unit, and that these agents must not have.
    """

    def __init__(self, directory: str, spec: Spec, run: AgentExec, foreign: Sequence[str] = ()) -> None:
        self._directory = directory
        self._spec = spec
        self._run = run
        self._foreign = foreign

    async def replace(self, one: Selected, *, source: str, text_changed: bool, settled_s: float) -> None:
        """Have systemd restart the agent, with a new unit if `text_changed`; return after `settled_s` seconds.

        Raises FailedPrecondition, RuntimeFailed if systemd fails or the agent does not run, OSError.
        """
        name = unit.unit_name(one.agent.name)
        if text_changed:
            try:
                rundir.rewrite(self._directory, name, unit.text(one, source=source, foreign=self._foreign))
            except BlockingIOError:
                raise FailedPrecondition(f"{name}: a process of the container holds a lease on it; try again") from None
            await self._systemctl("daemon-reload")
        await self._systemctl("restart", name)
        begun = _properties(await self._systemctl("show", _SHOWN, name))
        await asyncio.sleep(settled_s)
        _require_running(one, begun, _properties(await self._systemctl("show", _SHOWN, name)))

    async def _systemctl(self, *words: str) -> str:
        argv = ("systemctl", "--no-ask-password", *words)
        status, said = await self._run.program(inside(self._spec, argv), timeout_s=COMMAND_TIMEOUT_S)
        if status:
            raise RuntimeFailed(f"systemctl {words[0]}: exit status {status}{': ' if said else ''}{said}")
        return said


def _require_running(one: Selected, begun: Mapping[str, str], found: Mapping[str, str]) -> None:
    """Raise RuntimeFailed unless the agent runs, or has ended for good as its `restart` allows.

    `begun` are the unit's properties just after the restart, `found` those after `settled_s`. They are compared because
    systemd does not reset NRestarts if it was about to restart the unit itself (systemd.service(5), Restart=).
    """
    if found.get("ActiveState") == "active" and found.get("NRestarts") == begun.get("NRestarts"):
        return
    if found.get("ActiveState") == "inactive" and found.get("Result") == "success" and one.agent.restart != "always":
        return
    raise RuntimeFailed(
        f"agent {one.agent.name}: systemd says {found.get('ActiveState', 'nothing')}, its last exit status is"
        f" {found.get('ExecMainStatus', 'not known')}"
    )


def _properties(said: str) -> Mapping[str, str]:
    return dict(part.split("=", 1) for part in said.split(LINE_END) if "=" in part)

"""Agents that are units of the container's systemd, changed while it runs: their text by us, the rest by systemctl.

What is started by it is the image's program, with what the pod may do: an agent that is a unit is inside the pod's
trust as it was from the start (`runtime.rich.unit_claims`), and so is the answer.
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
    """Those of one container, whose run directory is `directory` and whose spec, before any step, is `spec`.

    `foreign` are names that its systemd gives to every unit, and that these are not to have.
    """

    def __init__(self, directory: str, spec: Spec, run: AgentExec, foreign: Sequence[str] = ()) -> None:
        self._directory = directory
        self._spec = spec
        self._run = run
        self._foreign = foreign

    async def replace(self, one: Selected, *, source: str, text_changed: bool, settled_s: float) -> None:
        """Have systemd start the agent anew, with a new unit where `text_changed`; return after `settled_s`.

        Raises FailedPrecondition, RuntimeFailed where systemd does not do it or the agent does not run, OSError.
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
    """Raise RuntimeFailed unless the agent runs, or is through as its `restart` has it; `begun` is of its beginning.

    systemd's count of its own restarts goes on where it was about to make one (systemd.service(5), Restart=).
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

"""What runs in the rich containers, and what it uses: the difference of two looks at /proc and the cgroups.

No program is run: states come from the kernel's files and the shim's notes. So a look at a hundred containers costs no
more than reading some files of each.
"""

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from pouchrich.containers import Container
from pouchrich.processes import PROC, TICKS_PER_S, Process, command_of, first_child, listed, roots, unit_of, uptime_s
from pouchrich.seen import MAY_HAVE_ENDED, ROLES, Part, Seen
from pouchrich.unit_agents import restart_of
from runtime import cgroup, paths
from runtime.cgroup import Cgroup, usage
from runtime.cgroup.locate import of_memberships
from runtime.errors import NotFound
from runtime.linux import mountinfo
from runtime.linux.mountinfo import MountEntry

APPLICATION_UNIT = "pouchrich-app.service"

_Group = tuple[str, str, str, str, int]
"""A container's namespace and id; role and name of a part; and a number that distinguishes parts of one name."""


class Survey:
    """Looks at containers; CPU use is known from the second look on. `command` is for `processes.look`."""

    def __init__(
        self,
        *,
        proc: str = PROC,
        clock: Callable[[], float] = time.monotonic,
        tickets: str = paths.BOOTS,
        command: Callable[[int, str], str] = command_of,
    ) -> None:
        self._proc = proc
        self._command = command
        self._clock = clock
        self._tickets = tickets
        self._at: float | None = None
        self._ticks: dict[_Group, int] = {}
        self._cpu_s: dict[tuple[str, str], float] = {}

    def look(self, containers: Iterable[Container], *, whole: bool = True) -> list[Seen]:
        """Look at each of them now. Raises OSError where /proc cannot be read.

        Unless `whole`, it does not look at every process: the parts are then init and the application, with only PIDs
        and commands, and the agents.
        """
        now, before = self._clock(), self._at
        self._at = now
        spent, ticks, cpu_s = (None if before is None else now - before), dict(self._ticks), dict(self._cpu_s)
        self._ticks, self._cpu_s = {}, {}
        self._mounts = mountinfo.read(f"{self._proc}/self/mountinfo", fstypes=mountinfo.CGROUPS)
        self._queue: dict[tuple[str, str], str] | None = None
        booted = uptime_s(self._proc)
        return [_Look(self, spent, ticks, cpu_s, booted).at(one, whole=whole) for one in containers]

    # Called by _Look: queries, and values to keep for the next look.

    @property
    def mounts(self) -> tuple[MountEntry, ...]:
        """The cgroup file systems."""
        return self._mounts

    def processes(self, pids: Iterable[int]) -> dict[int, Process]:
        """Look at processes."""
        return listed(pids, self._proc, self._command)

    def command(self, pid: int) -> str:
        """What to show of a process, "" if it is gone."""
        return self._command(pid, self._proc)

    def first_child(self, pid: int) -> int:
        """The oldest child of a process, 0 where none is known."""
        return first_child(pid, self._proc)

    def keep_ticks(self, group: "_Group", ticks: int) -> None:
        """Keep a part's CPU ticks for the next look."""
        self._ticks[group] = ticks

    def keep(self, key: tuple[str, str], cpu_s: float) -> None:
        """Keep a container's CPU seconds for the next look."""
        self._cpu_s[key] = cpu_s

    def boot_state(self, container: Container) -> str:
        """The container's state in the queue for boots, "" if it is not there."""
        if self._queue is None:
            from runtime.init import boot_tickets

            self._queue = boot_tickets.states(root=self._tickets)
        return self._queue.get((container.namespace, container.id), "")


def _place(memberships: Mapping[str, str], mounts: Iterable[MountEntry]) -> Cgroup | None:
    """The cgroup of a process in `memberships`, None where no mounted cgroup file system shows it."""
    try:
        return of_memberships(memberships, mounts)
    except NotFound:
        return None


def _own(path: str, name: str) -> str:
    """The path of the container's own cgroup: at or above `path`, that of its PID 1. `name` is its `cgroup_name`."""
    # The levels, of which all but the first are missing in most containers:
    #   .../ID, .../PREFIX-ID.scope or .../SLICE:PREFIX:ID   what the kubelet and containerd count
    #     pouchrich    the shim's, where the host lacks nsdelegate; then `name` has it too
    #     container    crun's, with the systemd cgroup driver on v2
    #       app        the shim's, for PID 1 if rich.cgroup = "delegate"
    #       init.scope, or any other name: where PID 1 has moved itself
    # So the first match counts: the container can give the same name to a cgroup below its own.
    first, *below = name.split("/")
    parts = path.split("/")
    for at, part in enumerate(parts):
        if first and (part in (first, f"{first}.scope") or part.endswith((f"-{first}.scope", f":{first}"))):
            return "/".join(parts[: at + 1 + len(below)])
    return path.removesuffix("/init.scope")


def _is_init_of(process: Process, container: Container) -> bool:
    """Whether it is the container's init: after the pod server was killed, a later process may have init's PID."""
    return not container.cgroup_name or any(container.cgroup_name in path for path in process.cgroups.values())


@dataclass(slots=True)
class _Look:
    survey: Survey
    spent_s: float | None
    ticks: dict[_Group, int]
    cpu_s: dict[tuple[str, str], float]
    booted_s: float

    def at(self, container: Container, *, whole: bool) -> Seen:
        init = self.survey.processes([container.init_pid]).get(container.init_pid) if container.init_pid else None
        if init is None or not _is_init_of(init, container):
            return Seen(container, "stopped")
        own = {key: _own(path, container.cgroup_name) for key, path in init.cgroups.items()}
        place = _place(own, self.survey.mounts)
        if not whole and not container.state.get("unit_agents"):
            return self._briefly(container, init, place)
        pids = cgroup.procs(place) if place is not None else []
        # An agent with its own memory limit is in a cgroup beside the container's.
        agents = (int(one["pid"]) for one in container.agents if one.get("pid"))
        processes = {**self.survey.processes({*pids, *agents} - {init.pid}), init.pid: init}
        cpu_s = None if place is None else usage.cpu_s(place)
        key = (container.namespace, container.id)
        if cpu_s is not None:
            self.survey.keep(key, cpu_s)
        return Seen(
            container,
            self._state(container, init),
            place,
            self._share(None if cpu_s is None or key not in self.cpu_s else cpu_s - self.cpu_s[key]),
            None if place is None else usage.working_set_bytes(place),
            self._age(init),
            tuple(self._parts(container, processes)),
        )

    def _briefly(self, container: Container, init: Process, place: Cgroup | None) -> Seen:
        application = int(container.state.get("application") or 0)
        if not application and not container.has_own_init:
            application = self.survey.first_child(init.pid)
        parts = [Part("init", container.init, init.pid, 1, command=init.command)]
        if application and (command := self.survey.command(application)):
            parts.append(Part("application", "", application, 1, command=command))
        parts += map(_agent, container.agents)
        memory = None if place is None else usage.working_set_bytes(place)
        state = self._state(container, init)
        return Seen(container, state, place, None, memory, self._age(init), tuple(parts))

    def _state(self, container: Container, init: Process) -> str:
        # Not the container's own cgroup: crun freezes the level below it. Every level below is then frozen too.
        place = _place(init.cgroups, self.survey.mounts)
        if place is not None and usage.is_frozen(place):
            return "paused"
        return "running" if container.state else self.survey.boot_state(container) or "created"

    def _share(self, seconds: float | None) -> float | None:
        return None if seconds is None or not self.spent_s else round(max(0.0, 100 * seconds / self.spent_s), 1)

    def _age(self, process: Process) -> float:
        return round(max(0.0, self.booted_s - process.started_ticks / TICKS_PER_S), 1)

    def _part(self, group: _Group, members: list[Process]) -> Part:
        role, name = group[2:4]
        first = min(members, key=lambda one: one.identity[::-1])
        # A process's CPU time goes to the parent that reaps it, so a part's sum only grows. Init also reaps orphans of
        # other parts, so the time of its children is not counted.
        waited = 0 if role == "init" else sum(one.children_ticks for one in members)
        used = waited + sum(one.cpu_ticks for one in members)
        self.survey.keep_ticks(group, used)
        return Part(
            role,
            name,
            first.pid,
            len(members),
            self._share((used - self.ticks[group]) / TICKS_PER_S if group in self.ticks else None),
            sum(one.memory_bytes for one in members),
            self._age(first),
            first.command,
        )

    def _parts(self, container: Container, processes: dict[int, Process]) -> list[Part]:
        init = processes[container.init_pid]
        application = _application(container, processes)
        agents = {int(one["pid"]): str(one["name"]) for one in container.agents if one.get("pid") in processes}
        units = _agent_units(container)
        key = (container.namespace, container.id)
        groups: dict[_Group, list[Process]] = {(*key, "init", container.init, 0): [init]}
        for pid, root in roots(processes, init.pid, {application, *agents}).items():
            group = _group(processes[root], application, agents, units, processes, unit_of(processes[pid], init))
            groups.setdefault((*key, *group), []).append(processes[pid])
        parts = [self._part(group, members) for group, members in groups.items()]
        return sorted(_with_states(parts, container), key=lambda one: (ROLES.index(one.role), one.name, one.pid))


def _group(
    root: Process,
    application: int,
    agents: Mapping[int, str],
    units: Callable[[str], str],
    processes: Mapping[int, Process],
    unit: str,
) -> tuple[str, str, int]:
    """Role and name of the part that a process belongs to, by its root (see `roots`) and its unit.

    The number distinguishes parts of one name.
    """
    if root.pid in agents:
        return "agent", agents[root.pid], 0
    if root.pid == application or unit == APPLICATION_UNIT:
        return "application", "", 0
    if root.parent not in processes:
        return "exec", root.name, root.pid
    if name := units(unit):
        return "agent", name, 0
    return ("service", unit, 0) if unit and unit != "init.scope" else ("service", root.name, root.pid)


def _application(container: Container, processes: Mapping[int, Process]) -> int:
    """The application's PID; 0 if there is none, because the image's own init is the application."""
    if (noted := container.state.get("application")) and noted in processes:
        return int(noted)
    if container.has_own_init:
        return 0
    agents = {one.get("pid") for one in container.agents}
    children = [one for one in processes.values() if one.parent == container.init_pid and one.pid not in agents]
    # dumb-init starts one child; its later children are adopted orphans.
    return min(children, key=lambda one: one.identity[::-1]).pid if children else 0


def _agent_units(container: Container) -> Callable[[str], str]:
    """A function from a unit to the name of its agent, or "": the image's own units may have similar names."""
    from runtime.agents.unit import unit_name

    if "unit_agents" not in container.state:  # written by an older shim
        head, tail = unit_name("*").split("*")
        return lambda unit: (
            unit[len(head) : -len(tail)].replace("\\x40", "@") if unit.startswith(head) and unit.endswith(tail) else ""
        )
    known = {unit_name(name): name for name in container.state["unit_agents"]}
    return lambda unit: known.get(unit, "")


def _with_states(parts: Iterable[Part], container: Container) -> list[Part]:
    """The parts, with the states of the agents, and with the agents that do not run."""
    said = {str(one.get("name")): one for one in container.agents}
    found = []
    for part in parts:
        one = said.pop(part.name, None) if part.role == "agent" else None
        found.append(part if one is None else replace(part, state=_state(one), restarts=one.get("restarts")))
    running = {part.name: at for at, part in enumerate(found) if part.role == "agent"}
    for name, taken_by in (container.state.get("unit_agents") or {}).items():
        stopped = "not running" if restart_of(container, name) == "always" else MAY_HAVE_ENDED
        state = f"its unit is {taken_by}" if taken_by else "running" if name in running else stopped
        if name in running:
            found[running[name]] = replace(found[running[name]], state=state)
        else:
            found.append(Part("agent", name, state=state))
    return [
        *found,
        *(replace(_agent(one), pid=0) for one in said.values()),
    ]


def _agent(one: Mapping[str, Any]) -> Part:
    """An agent from the shim's notes, without a look at its processes."""
    pid = int(one.get("pid") or 0)
    return Part("agent", str(one.get("name")), pid, state=_state(one), restarts=one.get("restarts"))


def _state(agent: Mapping[str, Any]) -> str:
    status = agent.get("status")
    word = str(agent.get("state", ""))
    return word if word == "running" or status is None else f"{word}, exit status {status}"

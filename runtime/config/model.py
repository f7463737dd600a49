"""The node configuration as values. Names follow the keys; durations are seconds (`_s`), sizes bytes (`_bytes`).

Defaults are not here: the one table of them is `runtime.config.schema`, and every value below was read through it.
"""

from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple


@dataclass(frozen=True, slots=True)
class When:
    """Selects containers: every list that is not empty must match. Globs are fnmatch's, case-sensitive."""

    mode: tuple[str, ...] = ()
    namespace: tuple[str, ...] = ()
    image: tuple[str, ...] = ()
    container: tuple[str, ...] = ()

    def selects(self, *, mode: str | None, namespace: str, image: str, container: str) -> bool:
        """Whether a container with these properties is selected; `mode` None: in whatever mode."""
        return (not self.mode or mode is None or mode in self.mode) and all(
            not globs or any(fnmatchcase(value, glob) for glob in globs)
            for globs, value in (
                (self.namespace, namespace),
                (self.image, image),
                (self.container, container),
            )
        )


NODE, POD = "node", "pod"
"""Whose hook it is: that of the node's or handler's configuration, or of the pod's author."""


@dataclass(frozen=True, slots=True)
class Hook:
    """A hook. `where` is `container` or `host`; `on_failure` is `abort` or `continue`; `owner` is NODE or POD."""

    name: str
    where: str
    command: tuple[str, ...]
    timeout_s: float
    on_failure: str
    user: str | None
    env: tuple[tuple[str, str], ...]
    mandatory: bool
    when: When
    owner: str = NODE


def hook_label(name: str, owner: str) -> str:
    """A hook's name for people. That of a pod's hook is marked: it must not look like one of the node's."""
    return f"{name} of the pod" if owner == POD else name


class AgentMount(NamedTuple):
    """A bind of the host's `source` at the container's `target`."""

    source: str
    target: str
    read_only: bool


@dataclass(frozen=True, slots=True)
class Agent:
    """An agent. `restart` is `always`, `on-failure` or `no`; `memory_bytes` None: only the pod's limit applies."""

    name: str
    command: tuple[str, ...]
    mounts: tuple[AgentMount, ...]
    restart: str
    memory_bytes: int | None
    user: str | None
    env: tuple[tuple[str, str], ...]
    mandatory: bool
    when: When


class Route(NamedTuple):
    """A route. `to` is a network in CIDR form or `default`, `via` an address of the same family."""

    to: str
    via: str
    when: When


class Runtime(NamedTuple):
    """`binary` None: crun where it works here, else runc. `systemd_cgroup` None: see `runtime.config.schema`."""

    binary: str | None
    root: str
    systemd_cgroup: bool | None


class Rich(NamedTuple):
    """`init_capabilities` None: the pod's own. `lxcfs` None: where lxcfs is alive.

    `apparmor_profile` None: containerd's. `boot_parallel` None: by the number of CPUs. `env_file` has places
    (`runtime.rich.environment`).
    """

    enabled: bool
    mode: str
    strict: bool
    ephemeral: tuple[str, ...]
    pod_override: tuple[str, ...]
    root_init: str
    init_capabilities: tuple[str, ...] | None
    apparmor_profile: str | None
    runtime_annotations: tuple[str, ...]
    start_timeout_s: float
    start_timeout_max_s: float
    boot_parallel: int | None
    inotify: str
    stop_timeout_s: float
    env_file: tuple[str, ...]
    env_exclude: tuple[str, ...]
    lxcfs: bool | None
    restart: str
    mask: tuple[str, ...]
    cgroup: str
    cgroup_descendants: int
    cgroup_depth: int
    cgroup_v1: str


class Hooks(NamedTuple):
    prestart: tuple[Hook, ...]
    poststop: tuple[Hook, ...]
    poststop_budget_s: float
    pod_timeout_max_s: float


class Services(NamedTuple):
    enable: tuple[str, ...]
    mandatory: tuple[str, ...]


class Spawner(NamedTuple):
    enabled: bool
    idle_timeout_s: float


@dataclass(frozen=True, slots=True)
class Config:
    """`source` is a file name, or words for where the text came from; `explicit` has the dotted keys that it set."""

    version: int
    runtime: Runtime
    rich: Rich
    hooks: Hooks
    agents: tuple[Agent, ...]
    routes: tuple[Route, ...]
    services: Services
    spawner: Spawner
    source: str = field(default="built in", compare=False)
    explicit: frozenset[str] = field(default=frozenset(), compare=False)

    def key_and_source(self, key: str) -> str:
        """`key` and where its value comes from, as errors name both: `FILE: KEY`, or `KEY; built in`."""
        return f"{self.source}: {key}" if key in self.explicit else f"{key}; built in"

    def source_of(self, key: str) -> str:
        """Where the value of `key` (dotted) comes from: `FILE: KEY`, or `built in`."""
        return f"{self.source}: {key}" if key in self.explicit else "built in"

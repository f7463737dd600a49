"""The interface of an init mode: from facts and choices it makes steps and a Boot, and it touches nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

from runtime.host import HostFacts
from runtime.init.boot import Boot
from runtime.init.cgroup import Delegation
from runtime.init.detect import InitFacts
from runtime.spec.edit import Edit, Spec, Step
from runtime.spec.image_volume import is_image_volume

CONTAINER_RUN_DIR = "/run/pouchrich"
"""Our only directory inside a rich container."""


class MountPoint(NamedTuple):
    """A mount of the spec as the OCI runtime will make it.

    `destination` is as written, `resolved` where it leads once the image's symbolic links are followed.
    """

    destination: str
    resolved: str
    mount: Any

    @property
    def is_private(self) -> bool:
        """Whether the OCI runtime can create a mount point in this mount that nobody outside the pod sees."""
        if "ro" in (self.mount.get("options") or ()):
            return False
        source = str(self.mount.get("source", ""))
        return self.mount.get("type") == "tmpfs" or _EMPTY_DIR in source or is_image_volume(self.mount)


_EMPTY_DIR = "/volumes/kubernetes.io~empty-dir/"
"""Part of the host path of every emptyDir, from the kubelet's volume directory layout."""


@dataclass(frozen=True, slots=True)
class ModeInput:
    """What a mode needs to know. `args` is the command as the pod gave it, `resolved` where paths of the image lead.

    `run_dir` is the container's run directory on the host, which has the static binaries in it.
    `is_own_command`: the image's own command is the init, and nothing is started beside it. `services` are names
    in the image, already checked; `needed` are the mandatory ones among them. `capabilities` is PID 1's bounding set
    where the node sets one. `environment`: the init's services get the pod's environment.
    `stop_signal` is the pod's, None where the pod sets none (SIGTERM).
    `uncopied` says, by path, why a tmpfs there cannot start with the image's files.
    `delegates` is the setting that makes PID 1's cgroups writable, as errors name it (rich.cgroup), or "".
    """

    spec: Spec
    args: tuple[str, ...]
    terminal: bool
    mounts: tuple[MountPoint, ...]
    resolved: Mapping[str, str]
    mode: str = "dumb-init"
    run_dir: str = ""
    init: InitFacts = field(default_factory=InitFacts)
    host: HostFacts = field(default_factory=HostFacts)
    is_own_command: bool = False
    services: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    capabilities: tuple[str, ...] | None = None
    restart_on_failure: bool = False
    stop_timeout_s: float = 10.0
    stop_signal: int | None = None
    cgroup_limits: tuple[int, int] = (1024, 8)
    environment: bool = False
    delegates: str = ""
    uncopied: Mapping[str, str] = field(default_factory=dict)


class ModePlan(NamedTuple):
    """The result of a mode's `make`. `helpers` are binaries of `runtime.libexec` that go into the run directory."""

    steps: tuple[Step, ...]
    helpers: tuple[str, ...]
    boot: Boot | None = None
    cgroup: Delegation | None = None
    warnings: tuple[str, ...] = ()


class ModeFacts(NamedTuple):
    """What an image and its host offer to a PID 1.

    `resolved` is where paths of the image lead. `shared` says what the container has instead of a PID namespace of its
    own, "" where it has its own. `cgroup_v1` is the node's rich.cgroup-v1, set in `cgroup_v1_source`.
    """

    init: InitFacts
    resolved: Mapping[str, str]
    host: HostFacts
    shared: str
    cgroup_v1: str
    cgroup_v1_source: str


ObstacleReason = Literal["pid-namespace", "image", "cgroups", "init"]


class Obstacle(NamedTuple):
    """Why a container cannot have a mode: `text` for people, `reason` for the metric of fallbacks."""

    text: str
    reason: ObstacleReason


class InitMode(NamedTuple):
    """What is specific to a mode.

    `make(setting)` raises InvalidArgument where the spec leaves no room for the mode. `obstacle(site)` says why the
    mode cannot be had, None where it can. `kind` is PID 1's kind (`runtime.init.kinds`), "" where the image's
    /sbin/init decides it.

    `is_real`: PID 1 is an init of the image that starts the application. Otherwise PID 1 is a program of ours.
    """

    name: str
    make: Callable[[ModeInput], ModePlan]
    obstacle: Callable[[ModeFacts], Obstacle | None]
    kind: str = ""
    is_real: bool = True


def covers(directory: str, path: str) -> bool:
    """Whether `path` is `directory` or below it; both are absolute and normalised."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def bind_mount(source: str, destination: str) -> dict[str, Any]:
    """A read-only bind mount without noexec."""
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["bind", "ro", "nosuid", "nodev"],
    }


def bind_step(name: str, detail: str, source: str, destination: str) -> Step:
    """The step that binds `source` read-only after every other mount."""
    return Step(name, detail, Edit("with_mount", bind_mount(source, destination)))


def variables(mode: str) -> Mapping[str, str]:
    """PouchContainer's variables, which tell a program that it runs in a rich container."""
    return {"rich_mode": "true", "rich_mode_launch_manner": mode}


def listed(words: Sequence[str]) -> str:
    """`words` as text for a message."""
    return ", ".join(words) or "nothing"

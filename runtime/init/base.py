"""What an init mode is: given facts and choices it answers with steps and a Boot, and touches nothing."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.host import HostFacts
from runtime.init.boot import Boot
from runtime.init.cgroup import Delegation
from runtime.init.detect import InitFacts
from runtime.spec.edit import Edit, Spec, Step
from runtime.spec.image_volume import is_image_volume

HOME = "/run/pouchrich"
"""The one directory inside a rich container that is ours."""


@dataclass(frozen=True, slots=True)
class MountPoint:
    """A mount of the spec as the OCI runtime will make it.

    `destination` is as written, `resolved` where it leads once the image's symbolic links are followed.
    """

    destination: str
    resolved: str
    mount: Any

    @property
    def is_private(self) -> bool:
        """Whether the OCI runtime can create a mount point here that nobody outside the pod will see."""
        if "ro" in (self.mount.get("options") or ()):
            return False
        source = str(self.mount.get("source", ""))
        return self.mount.get("type") == "tmpfs" or _EMPTY_DIR in source or is_image_volume(self.mount)


_EMPTY_DIR = "/volumes/kubernetes.io~empty-dir/"
"""Part of the host path of every emptyDir, from kubelet's volume directory layout."""


@dataclass(frozen=True, slots=True)
class Setting:
    """What a mode needs to know. `args` is the command as the pod gave it, `resolved` where paths of the image lead.

    `run_dir` is the container's run directory on the host, with the static binaries in it.
    `supplied`: the image's own command is the init, and nothing is started beside it. `services` are names that exist
    in the image, already checked; those of them in `needed` are mandatory. `capabilities` is PID 1's bounding set where
    the node names one. `environment`: its services are to have the pod's environment.
    `stop_signal` is the pod's, None where that is TERM.
    `uncopied` has why a tmpfs at a path cannot begin with what the image has there.
    `delegates` is what makes PID 1's cgroups writable, as errors name it (rich.cgroup), or "".
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
    home: str | None = None
    supplied: bool = False
    services: tuple[str, ...] = ()
    needed: tuple[str, ...] = ()
    mask: tuple[str, ...] = ()
    capabilities: tuple[str, ...] | None = None
    restarts: bool = False
    stop_timeout_s: float = 10.0
    stop_signal: int | None = None
    cgroup_limits: tuple[int, int] = (1024, 8)
    environment: bool = False
    delegates: str = ""
    uncopied: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Made:
    """What a mode makes of a setting. `helpers` are binaries of `runtime.libexec` that go into the run directory."""

    steps: tuple[Step, ...]
    helpers: tuple[str, ...]
    boot: Boot | None = None
    cgroup: Delegation | None = None
    warnings: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Site:
    """What an image and its host offer a PID 1.

    `resolved` is where paths of the image lead. `shared` says what the container has in the place of a pid namespace of
    its own, "" where it has one. `cgroup_v1` is the node's rich.cgroup-v1, from `cgroup_v1_source`.
    """

    init: InitFacts
    resolved: Mapping[str, str]
    host: HostFacts
    shared: str
    cgroup_v1: str
    cgroup_v1_source: str


@dataclass(frozen=True, slots=True)
class InitMode:
    """What is particular about a mode.

    `make(setting)` raises InvalidArgument where the spec leaves no room for it. `problem(site)` says why it cannot be
    had, or "". `kind` is PID 1's (`runtime.init.kinds`), "" where that is whatever the image's /sbin/init is.

    `is_real`: PID 1 is an init of the image's that starts the application; else it is a program of ours.
    """

    name: str
    make: Callable[[Setting], Made]
    problem: Callable[[Site], str]
    kind: str = ""
    is_real: bool = True


def covers(directory: str, path: str) -> bool:
    """Whether `path` is `directory` or below it; both absolute and normal."""
    return path == directory or path.startswith(directory.rstrip("/") + "/")


def bind(source: str, destination: str) -> dict[str, Any]:
    """A read-only bind mount that may be executed from."""
    return {
        "destination": destination,
        "type": "bind",
        "source": source,
        "options": ["bind", "ro", "nosuid", "nodev"],
    }


def bound(name: str, detail: str, source: str, destination: str) -> Step:
    """The step that binds `source` read-only after every other mount."""
    return Step(name, detail, Edit("with_mount", bind(source, destination)))


def variables(mode: str) -> Mapping[str, str]:
    """PouchContainer's variables, which tell a program that it runs in a rich container."""
    return {"rich_mode": "true", "rich_mode_launch_manner": mode}


def listed(words: Sequence[str]) -> str:
    """`words` for a message."""
    return ", ".join(words) or "nothing"

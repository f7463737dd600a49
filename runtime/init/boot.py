"""What a plan hands over for a container whose PID 1 is a real init: what init finds, and what the application becomes.

Values only, kept with the plan in the bundle; `runtime.init` makes them and the shim acts on them.
"""

from dataclasses import dataclass, field

from runtime.init.kinds import InitKind, kind_of


@dataclass(frozen=True, slots=True)
class RunFile:
    """A file in the container's run directory; `name` has no slash."""

    name: str
    text: str
    mode: int = 0o444


@dataclass(frozen=True, slots=True)
class Launch:
    """What the launcher turns itself into: the pod's process, to the letter.

    `env` holds `NAME=value` words. The capability sets are bit masks by number. `rlimits` are (resource number, soft,
    hard), with 2**64 - 1 for infinity. `umask` and `oom_score_adj` None: as inherited from PID 1.
    """

    args: tuple[str, ...]
    env: tuple[str, ...] = ()
    cwd: str = "/"
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    bounding: int = 0
    permitted: int = 0
    effective: int = 0
    inheritable: int = 0
    ambient: int = 0
    no_new_privileges: bool = False
    rlimits: tuple[tuple[int, int, int], ...] = ()
    umask: int | None = None
    oom_score_adj: int | None = None
    terminal: bool = False


@dataclass(frozen=True, slots=True)
class Boot:
    """How the shim talks with init.

    `init` is what init was found to be: `systemd`, `sysvinit`, `openrc` or `busybox`. `launch` None: the image's own
    command is that init and there is no application beside it. `poweroff` is the signal number that makes PID 1 shut
    down; where it then cannot end by itself (no CAP_SYS_BOOT), `halts` is true and its last act is `launch halt`.
    `environment` is the file in the run directory that init's lines are started by, for the caller to make, or "".
    `signals` translates what a client sends to an init that has no application: pairs of signal numbers. `streams`: PID
    1 has the container's own streams or terminal, in the place of a console that only the shim reads.
    """

    init: str
    poweroff: int
    files: tuple[RunFile, ...] = ()
    launch: Launch | None = None
    halts: bool = False
    environment: str = ""
    signals: tuple[tuple[int, int], ...] = field(default=())
    streams: bool = False

    @property
    def kind(self) -> InitKind:
        """What is particular about this init."""
        return kind_of(self.init)

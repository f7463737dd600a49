"""What a plan says about a real init as PID 1: the files that init finds, and what the launcher becomes.

Values only, kept with the plan in the bundle. `runtime.init` makes them and the shim acts on them.
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
class AppProcess:
    """The process that the launcher becomes: exactly the pod's process.

    `env` holds `NAME=value` words. The capability sets are bit masks by capability number. `rlimits` are (resource
    number, soft, hard), with 2**64 - 1 for infinity. `umask` and `oom_score_adj` None: inherited from PID 1.
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
    """How the shim communicates with init.

    `init` is the kind of init found: `systemd`, `sysvinit`, `openrc` or `busybox`. `launch` None: the image's own
    command is that init, and there is no application beside it. `poweroff` is the signal number that makes PID 1 shut
    down. `halts`: without CAP_SYS_BOOT PID 1 cannot end by itself; its last act is to run `launch halt`.
    `environment` is the file in the run directory through which the inittab starts its commands, made by the caller, or
    "". `signals` translates a client's signals for an init without an application: pairs of signal numbers. `streams`:
    PID 1 has the container's own streams or terminal instead of a console that only the shim reads.
    """

    init: str
    poweroff: int
    files: tuple[RunFile, ...] = ()
    launch: AppProcess | None = None
    halts: bool = False
    environment: str = ""
    signals: tuple[tuple[int, int], ...] = field(default=())
    streams: bool = False

    @property
    def kind(self) -> InitKind:
        """What is specific to this init."""
        return kind_of(self.init)

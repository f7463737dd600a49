"""The pod's environment for the rest of the container: which files `rich.env-file` asks for, and which are possible.

    place    file                                                            read by
    profile  /etc/profile.d/pouchenv.sh                                      login shells
    pam      /etc/environment, the image's lines kept                        PAM: sshd, su, login, cron
    cron     /etc/security/pouchenv, /etc/pam.d/cron or crond one line more  PAM, for cron alone
    units    see `runtime.rich.env_units`                                    the services of the init

Every file is made in the container's run directory and bound read-only over the image's file, which is not changed. A
file that cannot be bound (a symbolic link of the image leads elsewhere, the pod has mounted something there) is left
out with a warning. The pod's variables only become text in these files; the shim never acts on them.

    seen = environment.inspect(root, places, hiding)                            reads the image
    made = environment.make(env, places=..., exclude=..., seen=seen, boot=..., ...)    pure
    env_file.write(run_directory, one.text, name=one.name, mode=one.mode, ...)  for each of made.files
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import NamedTuple

from runtime.config.kinds import short_json
from runtime.image import beneath
from runtime.image.image import Rootfs
from runtime.init.base import bind_step
from runtime.init.boot import Boot
from runtime.rich import env_file, env_pam, env_units
from runtime.spec.edit import Step

PROFILE, PAM, UNITS, CRON = "profile", "pam", "units", "cron"

_TARGETS: Mapping[str, tuple[str, ...]] = {
    PROFILE: (env_file.TARGET,),
    PAM: (env_pam.ENVIRONMENT,),
    CRON: (env_pam.CRON_ENVIRONMENT, *env_pam.CRONS),
    UNITS: (),
}
_KEPT = frozenset({env_pam.ENVIRONMENT, *env_pam.CRONS})
"""Files of the image whose text is kept, as the first part of our file."""

_SESSION = frozenset(
    {"DBUS_SESSION_BUS_ADDRESS", "INVOCATION_ID", "JOURNAL_STREAM", "MAINPID", "MANAGERPID", "NOTIFY_SOCKET"}
)
_SESSION_PREFIXES = ("XDG_RUNTIME_", "XDG_SESSION_", "XDG_SEAT", "XDG_VTNR", "SSH_", "LISTEN_", "WATCHDOG_", "SYSTEMD_")
"""Variables never given to sessions and units: sshd, logind and systemd set them for each session or unit."""

_NAMED = 5


@dataclass(frozen=True, slots=True)
class EnvFacts:
    """What the image has: `problems` (by target) say why nothing can be bound there; `texts` are those of `_KEPT`."""

    problems: Mapping[str, str] = field(default_factory=dict)
    texts: Mapping[str, str] = field(default_factory=dict)


class EnvFile(NamedTuple):
    """A file in the run directory that belongs to root and the application's group."""

    name: str
    text: str
    mode: int = 0o640


class EnvPlan(NamedTuple):
    """The result of `make`. `to_units`: names that systemd sets for every unit; units of the node must not get them."""

    files: tuple[EnvFile, ...] = ()
    steps: tuple[Step, ...] = ()
    to_units: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()


def inspect(root: Rootfs, places: Sequence[str], hiding: Sequence[str]) -> EnvFacts:
    """What `make` needs to know of the image; `hiding` are the resolved destinations of the spec's mounts.

    Raises InvalidArgument where the look costs too much.
    """
    problems: dict[str, str] = {}
    texts: dict[str, str] = {}
    for target in (one for place in places for one in _TARGETS[place]):
        found = root.walk(target, hiding)
        problem = env_file.reason_to_skip(
            found.path, found.mode, found.error, hidden_by=found.hidden_by, target=target, writable=root.is_writable()
        )
        if problem is None and target in _KEPT and found.mode is not None:
            text, problem = _read(root, target)
            texts[target] = text
        if problem is not None:
            problems[target] = problem
    return EnvFacts(problems, texts)


def _read(root: Rootfs, target: str) -> tuple[str, str | None]:
    try:
        data = beneath.read(root.fd, target, env_pam.MAX_TEXT + 1)
    except OSError as err:
        return "", f"{target}: in the image: {(err.strerror or str(err)).lower()}"
    if len(data) > env_pam.MAX_TEXT or b"\0" in data:
        return "", f"{target}: found more than {env_pam.MAX_TEXT} bytes or no text in the image"
    return data.decode(errors="surrogateescape"), None


def _shared(env: Mapping[str, str], exclude: Sequence[str]) -> dict[str, str]:
    return {name: value for name, value in env.items() if not any(fnmatchcase(name, glob) for glob in exclude)}


def _for_sessions(env: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value
        for name, value in env.items()
        if name == "PATH"
        or (env_file.is_exported(name) and name not in _SESSION and not name.startswith(_SESSION_PREFIXES))
    }


class _Making:
    """Collects what the places add."""

    def __init__(self, seen: EnvFacts, run_dir: str) -> None:
        self._seen = seen
        self._run_dir = run_dir
        self.files: list[EnvFile] = []
        self.steps: list[Step] = []
        self.warnings: list[str] = []

    def skip(self, reason: str) -> None:
        self.warnings.append(f"rich.env-file: {reason}, skipped")

    def unholdable(self, place: str, names: Sequence[str]) -> None:
        if names:
            more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
            named = ", ".join(short_json(name)[1:-1] for name in names[:_NAMED])
            self.skip(f"{place}: {named}{more}: found a value that a line of that file cannot hold")

    def bind(self, target: str, name: str, text: str, step: str, mode: int = 0o640) -> bool:
        """Have `text` bound at `target`; False (and a warning) where the image or a mount prevents it."""
        if problem := self._seen.problems.get(target):
            self.skip(problem)
            return False
        self.files.append(EnvFile(name, text, mode))
        self.steps.append(env_file.step(f"{self._run_dir}/{name}", target, name=step))
        return True


def make(
    env: Mapping[str, str],
    *,
    places: Sequence[str],
    exclude: Sequence[str],
    seen: EnvFacts,
    run_dir: str,
    boot: Boot | None = None,
    systemd_version: int | None = None,
) -> EnvPlan:
    """Decide. `env` is the pod's environment, `exclude` has globs of names that no place gets.

    `boot` is the plan's (None: no real init), `systemd_version` the version of the image's systemd where known.
    """
    shared = _shared(env, exclude)
    session = _for_sessions(shared)
    making = _Making(seen, run_dir)
    to_units: tuple[str, ...] = ()
    if PROFILE in places:
        making.bind(env_file.TARGET, env_file.NAME, env_file.text(shared), "mount-environment-file")
    if PAM in places:
        text, names = env_pam.text(session, seen.texts.get(env_pam.ENVIRONMENT, ""))
        if making.bind(env_pam.ENVIRONMENT, "environment", text, "mount-environment-pam"):
            making.unholdable(PAM, names)
    if CRON in places:
        _cron(making, session, seen)
    if UNITS in places and boot is not None:
        to_units = _units(making, session, boot, systemd_version, run_dir)
    return EnvPlan(tuple(making.files), tuple(making.steps), to_units, tuple(making.warnings))


def _cron(making: _Making, session: Mapping[str, str], seen: EnvFacts) -> None:
    services = [one for one in env_pam.CRONS if one in seen.texts or one in seen.problems]
    if not services:
        return  # the image has no cron that uses PAM
    text, names = env_pam.text(session)
    if not making.bind(env_pam.CRON_ENVIRONMENT, "cron", text, "mount-environment-cron"):
        return
    making.unholdable(CRON, names)
    for one in services:
        name = f"pam-{one.rpartition('/')[2]}"
        making.bind(one, name, env_pam.service(seen.texts.get(one, "")), f"mount-{name}", 0o644)


def _units(
    making: _Making, session: Mapping[str, str], boot: Boot, version: int | None, run_dir: str
) -> tuple[str, ...]:
    if boot.environment:
        making.files.append(EnvFile(boot.environment, env_units.script(session), 0o600))
    elif boot.kind.has_units:
        text, names = env_units.drop_in(session, version)
        name = "units.conf"
        making.files.append(EnvFile(name, text, 0o600))
        making.steps.append(
            bind_step(
                "mount-environment-units", "the pod's environment for units", f"{run_dir}/{name}", env_units.TARGET
            )
        )
        making.unholdable(UNITS, names)
        return tuple(one for one in session if one not in names)
    elif boot.launch is not None:
        making.skip(f"{UNITS}: {boot.init} does not pass an environment on to its services")
    return ()

"""Whether a container is rich and in which mode, from its spec and the configuration alone.

Two questions, answered separately, first match wins: the annotation for this container, the pod-wide one,
PouchContainer's variables, the configuration, the default. Every answer carries where it came from.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase

from runtime.config.annotations import Override, read_overrides
from runtime.config.kinds import shown
from runtime.config.model import Agent, Config, Hook
from runtime.config.values import STEERING_PREFIXES
from runtime.errors import InvalidArgument, Unsupported
from runtime.init import INIT_MODES
from runtime.spec import edit
from runtime.spec.edit import Spec

CONTAINER_TYPE = "io.kubernetes.cri.container-type"
CONTAINER_NAME = "io.kubernetes.cri.container-name"
IMAGE_NAME = "io.kubernetes.cri.image-name"
SANDBOX_NAMESPACE = "io.kubernetes.cri.sandbox-namespace"

_NOT_YET = "is not implemented yet"
_LATER_POD_KEYS = ("init-script", "prestart", "poststop", "services", "stop-signal")
_LATER_CONFIG_KEYS = ("hooks.prestart", "hooks.poststop", "agents", "routes", "services.enable")


@dataclass(frozen=True, slots=True)
class Decision:
    """`source` names the file, annotation, variable or fact the value came from."""

    key: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What policy says before the image is looked at. `mode` is None where not rich."""

    rich: bool
    mode: str | None
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...] = ()


def is_sandbox(spec: Spec) -> bool:
    """Whether this is a pod's sandbox (pause) container."""
    return edit.annotations(spec).get(CONTAINER_TYPE) == "sandbox"


def _words(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _refuse_mandatory(override: Override, spec: Spec, config: Config) -> None:
    about = edit.annotations(spec)
    lists: Mapping[str, Sequence[Hook | Agent]] = {
        "hooks.prestart": config.hooks.prestart,
        "hooks.poststop": config.hooks.poststop,
        "agents": config.agents,
    }
    for key, entries in lists.items():
        for entry in entries:
            if entry.mandatory and entry.when.selects(
                mode=None,
                namespace=about.get(SANDBOX_NAMESPACE, ""),
                image=about.get(IMAGE_NAME, ""),
                container=about.get(CONTAINER_NAME, ""),
            ):
                raise InvalidArgument(
                    f"config.json: {override.source}: found false, allowed true:"
                    f" {config.source}: {key} {entry.name} is mandatory"
                )


def _refuse_steering(spec: Spec, config: Config) -> None:
    allowed = config.rich.runtime_annotations
    listed = ", ".join(allowed) or "nothing"
    for name, value in edit.annotations(spec).items():
        if name.startswith(STEERING_PREFIXES) and not any(fnmatchcase(name, glob) for glob in allowed):
            raise InvalidArgument(
                f"config.json: annotation {name[:256]}: found {shown(value)}, allowed in a rich container"
                f" only what rich.runtime-annotations lists ({listed}; {config.source})"
            )


def _settled(mode: str, source: str) -> tuple[str, tuple[Decision, ...]]:
    """The mode to use for the one asked for; the one place that knows that some are not implemented."""
    asked = Decision("mode", mode, source)
    if mode == "auto":
        return "dumb-init", (asked, Decision("mode", "dumb-init", f"auto: mode systemd {_NOT_YET}"))
    if mode not in INIT_MODES:
        offered = ", ".join((*INIT_MODES, "auto"))
        raise Unsupported(f"{source}: mode {mode} {_NOT_YET}, allowed {offered}")
    return mode, (asked,)


def _refuse_later(overrides: Mapping[str, Override]) -> None:
    for key in _LATER_POD_KEYS:
        if key in overrides:
            raise Unsupported(f"config.json: {overrides[key].source}: {key} {_NOT_YET}")


def _later_warnings(config: Config) -> tuple[str, ...]:
    return tuple(f"{config.source}: {key} {_NOT_YET}" for key in _LATER_CONFIG_KEYS if key in config.explicit)


def choose(spec: Spec, config: Config) -> Choice:
    """Resolve `rich` and `mode`, first match wins: annotations, variables, configuration, built in.

    Raises InvalidArgument where the pod asks for what it may not or what does not exist, Unsupported for a
    mode that is not implemented.
    """
    if is_sandbox(spec):
        return Choice(False, None, (Decision("rich", "false", "a pod's sandbox is never rich"),))
    about = edit.annotations(spec)
    overrides = read_overrides(about, edit.env(spec), container=about.get(CONTAINER_NAME, ""), config=config)
    rich, mode = overrides.get("rich"), overrides.get("mode")
    is_rich = config.rich.enabled if rich is None else rich.value
    decision = Decision("rich", _words(is_rich), config.source_of("rich.enabled") if rich is None else rich.source)
    if is_rich:
        _refuse_steering(spec, config)
        settled, decisions = _settled(
            config.rich.mode if mode is None else mode.value,
            config.source_of("rich.mode") if mode is None else mode.source,
        )
        _refuse_later(overrides)
        return Choice(True, settled, (decision, *decisions), _later_warnings(config))
    if rich is not None:
        if mode is not None:
            raise InvalidArgument(
                f"config.json: {mode.source}: found {shown(mode.value)}, allowed no mode where {rich.source} is false"
            )
        _refuse_mandatory(rich, spec, config)
    ignored = tuple(
        f"{one.source}: ignored, the container is not rich" for one in overrides.values() if one is not rich
    )
    return Choice(False, None, (decision,), ignored)

"""Whether a container is rich and in which mode, from its spec and the configuration alone.

These are two separate questions. For each the first match wins: the annotation for this container, the pod-wide
annotation, PouchContainer's variables, the configuration, the default. Every answer records its source.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase

from runtime.config.annotations import PREFIX, Override, read_overrides
from runtime.config.kinds import short_json, suggestion
from runtime.config.model import Agent, Config, Hook
from runtime.config.values import STEERING_PREFIXES
from runtime.errors import InvalidArgument
from runtime.init import DUMB_INIT, may_be_real
from runtime.spec import edit
from runtime.spec.cri import CONTAINER_NAME, CONTAINER_TYPE, GRACE_PERIOD
from runtime.spec.edit import Spec
from runtime.spec.identity import Identity

_NO_DIGITS = str.maketrans("", "", "0123456789")


@dataclass(frozen=True, slots=True)
class Decision:
    """One decision of a plan. `source` names the file, annotation, variable or fact that the value came from."""

    key: str
    value: str
    source: str


@dataclass(frozen=True, slots=True)
class Choice:
    """What policy says of the container `identity` before its image is examined.

    `mode` is the mode asked for, None where not rich. `mode_by_pod`: a pod's annotation or variable named the mode;
    `mode_is_own`: an annotation for this very container did. `is_spared`: `rich.ephemeral` as set by the node, not its
    default, keeps this container from booting an init. `overrides` are the pod's values by key (`prestart`,
    `init-script`, ...), checked and permitted; empty where the container is not rich. `services` are the node's, then
    the pod's.
    """

    identity: Identity
    rich: bool
    mode: str | None
    decisions: tuple[Decision, ...]
    warnings: tuple[str, ...] = ()
    mode_source: str = ""
    mode_by_pod: bool = False
    mode_is_own: bool = False
    is_spared: bool = False
    overrides: Mapping[str, Override] = field(default_factory=dict)
    services: tuple[str, ...] = ()


def is_sandbox(spec: Spec) -> bool:
    """Whether this is a pod's sandbox (pause) container."""
    return edit.annotations(spec).get(CONTAINER_TYPE) == "sandbox"


def _words(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def refuse_mandatory(source: str, found: str, identity: Identity, config: Config) -> None:
    """Raise InvalidArgument where a mandatory service, hook or agent selects this container, which is not to be rich.

    `source` names what keeps the container from being rich, `found` is what was found there.
    """
    if config.services.mandatory:
        name = config.services.mandatory[0]
        raise InvalidArgument(
            f"config.json: {source}: found {found}: the node's service {name} is mandatory"
            f" ({config.source}: services.mandatory)"
        )
    lists: tuple[tuple[str, str, Sequence[Hook | Agent]], ...] = (
        ("prestart hook", "hooks.prestart", config.hooks.prestart),
        ("poststop hook", "hooks.poststop", config.hooks.poststop),
        ("agent", "agents", config.agents),
    )
    for noun, key, entries in lists:
        for entry in entries:
            if entry.mandatory and identity.selects(entry.when, None):
                raise InvalidArgument(
                    f"config.json: {source}: found {found}: the node's {noun} {entry.name} is mandatory"
                    f" ({config.source}: {key})"
                )


def _refuse_steering(spec: Spec, config: Config) -> None:
    allowed = config.rich.runtime_annotations
    listed = ", ".join(allowed) or "nothing"
    for name, value in edit.annotations(spec).items():
        if name.startswith(STEERING_PREFIXES) and not any(fnmatchcase(name, glob) for glob in allowed):
            raise InvalidArgument(
                f"config.json: annotation {name[:256]}: found {short_json(value)}, allowed in a rich container"
                f" only what rich.runtime-annotations lists ({listed}; {config.source})"
            )


def _services(overrides: Mapping[str, Override], config: Config) -> tuple[str, ...]:
    own = overrides["services"].value if "services" in overrides else ()
    return tuple(dict.fromkeys((*config.services.enable, *config.services.mandatory, *own)))


def _ephemeral(spec: Spec, config: Config) -> str:
    """The glob of `rich.ephemeral` that the container's name matches, or "".

    The CRI does not tell an ephemeral container from others: the name is the only evidence.
    """
    name = edit.annotations(spec).get(CONTAINER_NAME, "")
    return next((glob for glob in config.rich.ephemeral if name and fnmatchcase(name, glob)), "")


def _near_names(spec: Spec) -> tuple[str, ...]:
    """Warnings about annotations for a container whose name is almost this container's, which was probably meant.

    Names that differ only in digits do not count: a pod often has two such containers.
    """
    about = edit.annotations(spec)
    name = about.get(CONTAINER_NAME, "")
    found = []
    for annotation in about:
        whose = annotation.removeprefix(PREFIX).partition(".")[2] if annotation.startswith(PREFIX) else ""
        same = whose.translate(_NO_DIGITS) == name.translate(_NO_DIGITS)
        if name and whose and not same and (hint := suggestion(whose, (name,))):
            found.append(
                f"annotation {annotation[:256]}: is for a container {short_json(whose)}, this one is {name}{hint}"
            )
    return tuple(found)


def _unheard(spec: Spec) -> tuple[str, ...]:
    """A warning where containerd seems to pass on no annotations of the pod and the kubelet.

    The kubelet annotates each container with its grace period. A container without that annotation was made by another
    client, or the handler lists no annotations, and then everything that the pod annotates is lost.
    """
    about = edit.annotations(spec)
    if about.get(CONTAINER_TYPE) != "container" or GRACE_PERIOD in about:
        return ()
    if any(name.startswith(PREFIX) for name in about):
        return ()
    return (
        f"no annotation came: neither {PREFIX}KEY nor {GRACE_PERIOD}; if the pod has any, containerd's handler lists no"
        " pod_annotations and container_annotations (pouchrich doctor)",
    )


def choose(spec: Spec, config: Config, identity: Identity) -> Choice:
    """Resolve `rich` and `mode`. The first match wins: annotations, variables, configuration, default.

    `identity` is the container's (`Identity.from_spec`). Raises InvalidArgument where the pod asks for what is not
    permitted or does not exist.
    """
    if is_sandbox(spec):
        return Choice(identity, False, None, (Decision("rich", "false", "a pod's sandbox is never rich"),))
    about = edit.annotations(spec)
    overrides = read_overrides(about, edit.env(spec), container=about.get(CONTAINER_NAME, ""), config=config)
    rich, mode = overrides.get("rich"), overrides.get("mode")
    is_rich = config.rich.enabled if rich is None else rich.value
    decision = Decision("rich", _words(is_rich), config.source_of("rich.enabled") if rich is None else rich.source)
    if is_rich:
        _refuse_steering(spec, config)
        asked = config.rich.mode if mode is None else mode.value
        source = config.source_of("rich.mode") if mode is None else mode.source
        is_spared = False
        if may_be_real(asked) and not (mode is not None and mode.is_own) and (glob := _ephemeral(spec, config)):
            source = (
                f"{config.source_of('rich.ephemeral')}: {glob} is for ephemeral containers, {source} asks for {asked}"
            )
            asked, mode = DUMB_INIT.name, None
            is_spared = "rich.ephemeral" in config.explicit
        return Choice(
            identity,
            True,
            asked,
            (decision, Decision("mode", asked, source)),
            mode_source=source,
            warnings=(*_near_names(spec), *_unheard(spec)),
            mode_by_pod=mode is not None,
            is_spared=is_spared,
            mode_is_own=mode is not None and mode.is_own,
            overrides=overrides,
            services=_services(overrides, config),
        )
    if rich is not None:
        if mode is not None:
            raise InvalidArgument(
                f"config.json: {mode.source}: found {short_json(mode.value)},"
                f" allowed no mode where {rich.source} is false"
            )
        refuse_mandatory(rich.source, "false, allowed true", identity, config)
    ignored = tuple(
        f"{one.source}: ignored, the container is not rich" for one in overrides.values() if one is not rich
    )
    return Choice(identity, False, None, (decision,), ignored)

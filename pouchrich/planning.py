"""Decides about a container as the shim does at Create, with the same code, and changes nothing."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from pouchrich import engines
from pouchrich.spec_difference import Change, difference
from runtime import rundir
from runtime.config import Config
from runtime.config.model import Agent, Route
from runtime.errors import InvalidArgument, PouchrichError
from runtime.hooks.select import Selection, select
from runtime.init import INIT_MODES
from runtime.rich import policy
from runtime.rich.plan import Plan
from runtime.rich.policy import Choice
from runtime.spec import edit, nesting
from runtime.spec.cri import CONTAINER_NAME, CONTAINER_TYPE, IMAGE_NAME, SANDBOX_NAMESPACE
from runtime.spec.identity import Identity
from shim.task.reaper import Reaper
from shim.task.rich.decide import Decided, decide, inspect_image


class Subject(NamedTuple):
    """A container that might be created. `spec` is as containerd gives it; `root` None: only the policy is applied.

    `namespace` and `id` are containerd's.
    """

    spec: dict[str, Any]
    root: str | None
    namespace: str = "default"
    id: str = "ID"


@dataclass(frozen=True, slots=True)
class Explanation:
    """What Create would decide. `refused` is the error that Create would fail with; then nothing else is known.

    `plan` None: refused. `changes` None: the spec or the image is not known. `mode` is the requested mode if the image
    was not examined (`policy_only`).
    """

    config_source: str
    plan: Plan | None = None
    mode: str | None = None
    policy_only: bool = False
    refused: str | None = None
    hooks: Selection = field(default_factory=Selection)
    agents: tuple[Agent, ...] = ()
    routes: tuple[Route, ...] = ()
    changes: tuple[Change, ...] | None = None
    notes: tuple[str, ...] = ()


def overlaid(
    spec: Mapping[str, Any], *, annotations: Mapping[str, str], env: Mapping[str, str], cri: Mapping[str, str]
) -> dict[str, Any]:
    """`spec` with annotations and variables set. `cri` are the names that containerd's CRI plugin would annotate.

    Raises InvalidArgument for a malformed spec.
    """
    names = {"container": CONTAINER_NAME, "image": IMAGE_NAME, "namespace": SANDBOX_NAMESPACE}
    added = {names[key]: value for key, value in cri.items()}
    if "container" in cri:
        added[CONTAINER_TYPE] = "container"
    about = {**edit.annotations(spec), **added, **annotations}
    return dict(edit.with_env({**spec, "annotations": about}, env) if env else {**spec, "annotations": about})


def explain(subject: Subject, config: Config) -> Explanation:
    """Decide about `subject`. Raises OSError if a necessary file cannot be read."""
    try:
        identity = Identity.from_spec(subject.spec, namespace=subject.namespace, container_id=subject.id)
        choice = policy.choose(subject.spec, config, identity)
        if subject.root is None:
            return _policy(subject, choice, config)
        decided = asyncio.run(_decide(subject, choice, config, subject.root))
        return _whole(subject, choice, config, decided)
    except PouchrichError as err:
        return Explanation(config.source, refused=str(err))


async def _decide(subject: Subject, choice: Choice, config: Config, root: str) -> Decided:
    reaper = Reaper(asyncio.get_running_loop())
    reaper.install()
    process = subject.spec.get("process")
    return await decide(
        subject.spec,
        choice,
        config,
        looked=inspect_image(root, subject.spec, choice, config) if choice.rich else None,
        terminal=bool(isinstance(process, Mapping) and process.get("terminal")),
        run_dir=rundir.path_of(subject.namespace, subject.id),
        reaper=reaper,
    )


def _beside(identity: Identity, config: Config, mode: str) -> tuple[tuple[Agent, ...], tuple[Route, ...]]:
    agents = tuple(one for one in config.agents if identity.selects(one.when, mode))
    return agents, tuple(one for one in config.routes if identity.selects(one.when, mode))


def _policy(subject: Subject, choice: Choice, config: Config) -> Explanation:
    made = Plan(choice.rich, choice.mode, choice.decisions, choice.warnings)
    if not choice.rich or choice.mode is None:
        return Explanation(config.source, made, policy_only=True)
    identity = choice.identity
    agents, routes = _beside(identity, config, choice.mode)
    notes = ["the image was not examined: it may not serve the mode, or need none"]
    if choice.mode not in INIT_MODES:
        notes.append("mode auto: hooks, agents and routes for certain modes are not listed")
    hooks = select(config, choice.overrides, identity, mode=choice.mode)
    return Explanation(config.source, made, choice.mode, True, None, hooks, agents, routes, notes=tuple(notes))


def _whole(subject: Subject, choice: Choice, config: Config, decided: Decided) -> Explanation:
    made, identity = decided.plan, choice.identity
    spec = made.apply(subject.spec)
    notes = () if subject.root is None else engines.notes(spec, subject.root)
    found = Explanation(config.source, made, made.mode, changes=difference(subject.spec, spec), notes=notes)
    if not made.rich or made.mode is None:
        return found
    agents, _ = _beside(identity, config, made.mode)
    hooks = select(config, choice.overrides, identity, mode=made.mode)
    return replace(found, hooks=hooks, agents=agents, routes=decided.extras.routes)


def stored(made: Plan) -> Explanation:
    """The explanation of the stored plan `made`, which a container was made with."""
    note = "the plan that was stored at Create; pouchrich inspect has the hooks and their results"
    return Explanation("kept in the bundle", made, made.mode, notes=(note,))


def spec_of(text: bytes, source: str) -> dict[str, Any]:
    """Parse a spec: an OCI config.json, or the output of `ctr containers info`. Raises InvalidArgument."""
    try:
        found = nesting.loads(text)
    except ValueError as err:
        raise InvalidArgument(f"{source}: found {err}, allowed JSON") from err
    if isinstance(found, dict) and isinstance(found.get("Spec"), dict):
        found = found["Spec"]
    if not isinstance(found, dict):
        raise InvalidArgument(f"{source}: found {type(found).__name__}, allowed an object")
    return found

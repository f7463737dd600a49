"""Which hooks a container has, in which order. Pure.

Prestart: the node's in the order of the configuration, the pod's, the pod's init-script. Poststop: the node's and the
pod's in reverse order, so that what was set up first is taken down last.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from runtime.bundle import fields_of, from_fields
from runtime.config.annotations import Override
from runtime.config.model import POD, Config, Hook, When
from runtime.spec.identity import Identity

INIT_SCRIPT = "init-script"
DEFAULT_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Selection:
    """The hooks of one container in the order they run.

    The node's poststop hooks on the host share `poststop_budget_s` seconds. Its hooks in the container share a second
    budget of the same size, so that an image whose programs hang takes no time from the former. The pod's share
    `pod_poststop_budget_s`.
    """

    prestart: tuple[Hook, ...] = ()
    poststop: tuple[Hook, ...] = ()
    poststop_budget_s: float = 30.0
    pod_poststop_budget_s: float = 30.0


def hook_from_dict(found: Mapping[str, Any]) -> Hook:
    """The hook whose `dataclasses.asdict` is `found`, read from JSON."""
    when = {key: tuple(value) for key, value in fields_of(from_fields(When, found["when"])).items()}
    env = tuple((name, value) for name, value in found["env"])
    # Without an owner a pod's hook would count as the node's.
    given = {"command": tuple(found["command"]), "env": env, "when": When(**when), "owner": found["owner"]}
    return from_fields(Hook, {**found, **given})


def select(config: Config, overrides: Mapping[str, Override], identity: Identity, *, mode: str) -> Selection:
    """The hooks of the rich container `identity` in `mode`.

    `overrides` is the result of `read_overrides`. Whatever a pod's hook says of itself, it runs in the container, as
    the pod's user, for at most `hooks.pod-timeout-max`.
    """
    longest_s = config.hooks.pod_timeout_max_s

    def matching(hooks: Iterable[Hook]) -> tuple[Hook, ...]:
        return tuple(hook for hook in hooks if identity.selects(hook.when, mode))

    def of_pod(stage: str) -> tuple[Hook, ...]:
        given: tuple[Hook, ...] = overrides[stage].value if stage in overrides else ()
        return tuple(
            replace(
                hook,
                where="container",
                user=None,
                mandatory=False,
                timeout_s=min(hook.timeout_s, longest_s),
                owner=POD,
            )
            for hook in given
        )

    script = overrides.get(INIT_SCRIPT)
    scripts = (_init_script(script.value, min(DEFAULT_TIMEOUT_S, longest_s)),) if script is not None else ()
    return Selection(
        prestart=(*matching(config.hooks.prestart), *matching(of_pod("prestart")), *scripts),
        poststop=(*matching(config.hooks.poststop), *matching(of_pod("poststop")))[::-1],
        poststop_budget_s=config.hooks.poststop_budget_s,
        pod_poststop_budget_s=min(config.hooks.poststop_budget_s, longest_s),
    )


def _init_script(command: tuple[str, ...], timeout_s: float) -> Hook:
    return Hook(
        name=INIT_SCRIPT,
        where="container",
        command=tuple(command),
        timeout_s=timeout_s,
        on_failure="abort",
        user=None,
        env=(),
        mandatory=False,
        when=When(),
        owner=POD,
    )

"""The series that pod servers count (`runtime.measured`): their labels, and every combination of words they can have.

A series that has not been counted yet is shown as 0: Prometheus sees no increase in one that begins with 1.
"""

from collections.abc import Iterator, Mapping, Sequence
from itertools import product

from runtime.hooks.environment import NEVER_STARTED, SHIM_KILLED
from runtime.init import INIT_MODES, kinds
from shim.task.report.reasons import FALLBACK_REASONS, REFUSAL_REASONS

LABELS: Mapping[str, tuple[str, ...]] = {
    "start_seconds": ("mode", "outcome"),
    "boot_seconds": ("mode", "outcome"),
    "stop_seconds": ("mode",),
    "hook_seconds": ("outcome", "owner", "stage", "where"),
    "exits": ("mode", "reason"),
    "fallbacks": ("asked", "got", "reason"),
    "refusals": ("reason", "stage"),
    "hooks_skipped": ("owner", "where"),
    "restarts_in_place": (),
    "agent_restarts": (),
    "init_kills": ("init",),
}
"""The names of each series' labels, sorted."""

_MODES = tuple(INIT_MODES)
_REAL = tuple(name for name, mode in INIT_MODES.items() if mode.is_real)
_OTHER = tuple(name for name, mode in INIT_MODES.items() if not mode.is_real)
_OUTCOMES = ("ok", "failed")
_HOOKS = (("node", "container"), ("node", "host"), ("pod", "container"))
"""Owner and place: a pod has no hooks on the host."""
_OF_A_PLAIN_ONE = ("pid-namespace", "image-init")
_OF_ANOTHER_MODE = tuple(reason for reason in FALLBACK_REASONS if reason not in _OF_A_PLAIN_ONE)


def combinations(name: str) -> Iterator[tuple[str, ...]]:
    """The values of the labels of each series called `name`, in the order of LABELS."""
    yield from _WORDS[name]


def _hook_seconds() -> Iterator[tuple[str, ...]]:
    outcomes: Mapping[str, Sequence[str]] = {
        "prestart": (*_OUTCOMES, "timeout"),
        "poststop": (*_OUTCOMES, "timeout", "interrupted"),
    }
    for stage, words in outcomes.items():
        for outcome, (owner, where) in product(words, _HOOKS):
            yield outcome, owner, stage, where


def _fallbacks() -> Iterator[tuple[str, ...]]:
    asked = (*_MODES, "auto")
    yield from product(asked, ("plain",), _OF_A_PLAIN_ONE)
    yield from product((*_REAL, "auto"), _OTHER, _OF_ANOTHER_MODE)
    # "auto" counts as granted with any real init.
    yield from ((one, got, "image-init") for one, got in product(_MODES, _REAL) if one != got)


_WORDS: Mapping[str, Sequence[tuple[str, ...]]] = {
    "start_seconds": tuple(product(_MODES, _OUTCOMES)),
    "boot_seconds": tuple(product(_REAL, _OUTCOMES)),
    "stop_seconds": tuple(product(_MODES)),
    "hook_seconds": tuple(_hook_seconds()),
    "exits": tuple(
        product(_MODES, ("Completed", "Error", "Signal", "OOMKilled", NEVER_STARTED.reason, SHIM_KILLED.reason))
    ),
    "fallbacks": tuple(_fallbacks()),
    "refusals": tuple(product(REFUSAL_REASONS, ("create", "start"))),
    "hooks_skipped": _HOOKS,
    "restarts_in_place": ((),),
    "agent_restarts": ((),),
    "init_kills": tuple((one.name,) for one in (kinds.SYSTEMD, kinds.SYSVINIT, kinds.OPENRC, kinds.BUSYBOX)),
}

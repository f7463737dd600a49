"""`--filter KEY=VALUE`: selects the containers of a command."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase

from pouchrich.containers import Container
from pouchrich.seen import Seen

Filter = tuple[str, str]
"""A key of KEYS or `state`, and a glob."""

KEYS: Mapping[str, Callable[[Container], str]] = {
    "id": lambda one: one.id,
    "namespace": lambda one: one.pod[0] if one.pod is not None else one.namespace,
    "pod": lambda one: one.pod[1] if one.pod is not None else "",
    "container": lambda one: one.name,
    "image": lambda one: one.image,
    "mode": lambda one: one.mode,
    "init": lambda one: one.init,
}
STATE = "state"
HELP = (
    f"only containers whose KEY ({', '.join(KEYS)}, {STATE}) matches the glob VALUE;"
    " may be repeated: for each KEY given, one VALUE must match"
)


def parse(text: str) -> Filter:
    """Parse a filter of the command line. Raises ArgumentTypeError."""
    key, equals, value = text.partition("=")
    if not equals or key not in (*KEYS, STATE):
        from runtime.config.kinds import suggestion

        allowed = ", ".join((*KEYS, STATE))
        raise argparse.ArgumentTypeError(
            f"found {text!r}, allowed KEY=VALUE with KEY one of {allowed}{suggestion(key, (*KEYS, STATE))}"
        )
    return key, value


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the option."""
    parser.add_argument("--filter", "-f", type=parse, action="append", default=[], metavar="KEY=VALUE", help=HELP)


def chosen(filters: Sequence[Filter], containers: Iterable[Container]) -> list[Container]:
    """The containers that pass the filters, whatever their state."""
    return [one for one in containers if _passes(filters, {key: of(one) for key, of in KEYS.items()})]


def in_state(filters: Sequence[Filter], seen: Iterable[Seen]) -> list[Seen]:
    """The containers in one of the wanted states."""
    return [one for one in seen if _passes(filters, {STATE: one.state})]


def _passes(filters: Sequence[Filter], facts: Mapping[str, str]) -> bool:
    asked: dict[str, list[str]] = {}
    for key, glob in filters:
        asked.setdefault(key, []).append(glob)
    return all(any(fnmatchcase(facts[key], glob) for glob in globs) for key, globs in asked.items() if key in facts)

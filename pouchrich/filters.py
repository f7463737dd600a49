"""`--filter KEY=VALUE` and `--filter KEY!=VALUE`: select the containers of a command."""

import argparse
from collections.abc import Callable, Iterable, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from pouchrich.containers import Container
from pouchrich.seen import Seen


class Filter(NamedTuple):
    """`key` is one of KEYS or `state`. A container passes if `glob` matches its value, or with `excludes` if not."""

    key: str
    glob: str
    excludes: bool = False


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
    " may be repeated: for each KEY given, one VALUE must match; KEY!=VALUE excludes what matches"
)


def parse(text: str) -> Filter:
    """Parse a filter of the command line. Raises ArgumentTypeError."""
    name, equals, value = text.partition("=")
    key = name.removesuffix("!")
    if not equals or key not in (*KEYS, STATE):
        from runtime.config.kinds import suggestion

        allowed = ", ".join((*KEYS, STATE))
        raise argparse.ArgumentTypeError(
            f"found {text!r}, allowed KEY=VALUE and KEY!=VALUE with KEY one of"
            f" {allowed}{suggestion(key, (*KEYS, STATE))}"
        )
    return Filter(key, value, excludes=name != key)


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
    wanted: dict[str, list[str]] = {}
    for one in filters:
        if one.key not in facts:
            continue
        if not one.excludes:
            wanted.setdefault(one.key, []).append(one.glob)
        elif fnmatchcase(facts[one.key], one.glob):
            return False
    return all(any(fnmatchcase(facts[key], glob) for glob in globs) for key, globs in wanted.items())

"""Records that are written as JSON: json.dumps makes an object of a dataclass, but an array of a NamedTuple."""

import dataclasses
import typing
from collections.abc import Iterator

import pytest

from pouchrich.checks import Check
from pouchrich.cluster.handling import Changed, Owed
from pouchrich.seen import Part
from runtime.config.model import Hook
from runtime.hooks.environment import HookSubject
from runtime.hooks.select import Selection
from runtime.oci.argv import OCIBinary
from runtime.rich.plan import Plan
from shim.task.hooks.hook_outcome import Result
from shim.task.rich.agents import AgentState

WRITTEN = (AgentState, Changed, Check, Hook, OCIBinary, Owed, Part, Plan, Result, Selection, HookSubject)


def types_in(annotation: object) -> Iterator[object]:
    yield annotation
    for one in typing.get_args(annotation):
        yield from types_in(one)


def below(record: type, seen: set[type]) -> Iterator[type]:
    """`record`, and every class that its fields, and theirs, may hold."""
    if record in seen:
        return
    seen.add(record)
    yield record
    if dataclasses.is_dataclass(record):
        for annotation in typing.get_type_hints(record).values():
            for one in types_in(annotation):
                if isinstance(one, type):
                    yield from below(one, seen)


@pytest.mark.parametrize("record", WRITTEN, ids=lambda record: record.__name__)
def test_a_record_that_is_written_as_json_holds_no_named_tuple(record: type) -> None:
    assert [one for one in below(record, set()) if issubclass(one, tuple) and hasattr(one, "_fields")] == []

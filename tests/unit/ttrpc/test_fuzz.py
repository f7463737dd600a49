"""A bounded run of the fuzz target, so that it cannot rot."""

import pytest

from shim.ttrpc.connection import ServerConnection
from shim.ttrpc.events import RequestReceived, StreamRefused
from tests.fuzz.ttrpc_server import CORPUS, inputs, one_input


def test_a_few_hundred_mutated_frames_break_no_invariant() -> None:
    found = list(inputs(500, seed=1))
    for data in found:
        one_input(data)
    assert len(set(found)) > 450


@pytest.mark.parametrize("data", CORPUS, ids=range(len(CORPUS)))
def test_the_corpus_reaches_past_the_framing(data: bytes) -> None:
    server = ServerConnection()
    events = server.receive_data(data)
    assert all(isinstance(event, RequestReceived | StreamRefused) for event in events)
    assert events or data == CORPUS[-1]

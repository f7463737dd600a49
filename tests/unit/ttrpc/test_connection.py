"""The two ends against hand-made frames, against each other, and against any bytes at all."""

from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.ttrpc import frame
from shim.ttrpc.connection import ClientConnection, ServerConnection
from shim.ttrpc.envelope import encode_error, encode_request, encode_response
from shim.ttrpc.errors import MessageTooLarge, ProtocolError
from shim.ttrpc.events import CallFailed, FrameIgnored, RequestReceived, ResponseReceived, StreamRefused
from shim.ttrpc.frame import DATA, MAX_DATA, REMOTE_CLOSED, REMOTE_OPEN, REQUEST, RESPONSE
from tests.unit.ttrpc.conftest import Feed

STATE = encode_request("containerd.task.v2.Task", "State", b"")


def request(stream_id: int, data: bytes = STATE, flags: int = 0) -> bytes:
    return frame.encode(stream_id, REQUEST, data, flags)


def replies(server: ServerConnection) -> list[tuple[int, int, str]]:
    """What the server wants written, as (stream id, code, message); every frame must be a plain Response."""
    buffer = frame.FrameBuffer()
    buffer.feed(server.data_to_send())
    found = []
    for item in iter(buffer.next_frame, None):
        assert isinstance(item, frame.Frame)
        assert (item.kind, item.flags) == (RESPONSE, 0)
        client = ClientConnection()
        client._pending.add(item.stream_id)
        (event,) = client.receive_data(frame.encode(item.stream_id, RESPONSE, item.data))
        found.append(
            (event.stream_id, event.code, event.message) if isinstance(event, CallFailed) else (item.stream_id, 0, "")
        )
    assert buffer.at_boundary
    return found


@pytest.mark.parametrize(
    ("wire", "method", "payload"),
    [
        (
            b"\x00\x00\x00%\x00\x00\x00\x01\x01\x00\n\x17containerd.task.v2.Task\x12\x05State\x1a\x03\n\x01x",
            "State",
            b"\n\x01x",
        ),
        (
            b"\x00\x00\x00!\x00\x00\x00\x01\x01\x00\n\x17containerd.task.v2.Task\x12\x06Delete",
            "Delete",
            b"",
        ),
    ],
    ids=["ctr shim state", "ctr shim delete"],
)
def test_frames_captured_from_containerd_1_6_20(feed: Feed, wire: bytes, method: str, payload: bytes) -> None:
    expected = RequestReceived(1, "containerd.task.v2.Task", method, payload, None)
    assert feed(ServerConnection(), wire) == [expected]


@pytest.mark.parametrize(
    ("wire", "refused", "message"),
    [
        (request(2), (2, 3), "stream id 2 is not odd"),
        (request(0), (0, 3), "stream id 0 is not odd"),
        (request(1, b"\xff"), (1, 3), "data of 1 bytes is no ttrpc Request"),
        (frame.encode(5, DATA, b"", REMOTE_CLOSED | 0x04), (5, 3), "stream 5 takes no data"),
        (
            request(1, flags=REMOTE_CLOSED),
            (1, 12),
            "streaming call of containerd.task.v2.Task/State",
        ),
        (
            request(1, flags=REMOTE_OPEN),
            (1, 12),
            "streaming call of containerd.task.v2.Task/State",
        ),
    ],
    ids=["even id", "id zero", "no Request", "data", "server streaming", "client streaming"],
)
def test_a_bad_frame_is_answered_on_its_stream_and_the_next_one_is_served(
    feed: Feed, wire: bytes, refused: tuple[int, int], message: str
) -> None:
    server = ServerConnection()
    events = feed(server, wire + request(7))
    assert [type(event) for event in events] == [StreamRefused, RequestReceived]
    assert events[0] == StreamRefused(*refused, message)
    assert replies(server) == [(*refused, message)]


@pytest.mark.parametrize("again", [3, 1], ids=["reused", "decreasing"])
def test_a_request_id_must_be_above_the_last(feed: Feed, again: int) -> None:
    server = ServerConnection()
    events = feed(server, request(3) + request(again) + request(5))
    reason = f"stream id {again} is not above the last, 3"
    assert events[1] == StreamRefused(again, 3, reason)
    assert [event.stream_id for event in events if isinstance(event, RequestReceived)] == [3, 5]
    assert replies(server) == [(again, 3, reason)]


def test_an_undecodable_request_uses_up_its_id() -> None:
    server = ServerConnection()
    _, second = server.receive_data(request(3, b"\xff") + request(3))
    assert second == StreamRefused(3, 3, "stream id 3 is not above the last, 3")


def test_an_oversized_request_is_answered_before_its_body_came() -> None:
    server = ServerConnection()
    (event,) = server.receive_data(frame.HEADER.pack(MAX_DATA + 1, 1, REQUEST, 0))
    assert event == StreamRefused(1, 8, "message of 4194305 bytes is over the limit of 4194304")
    assert replies(server) == [(1, 8, event.reason)]
    assert server.receive_data(bytes(MAX_DATA + 1)) == []
    (event,) = server.receive_data(request(1))
    assert isinstance(event, RequestReceived)


@pytest.mark.parametrize("kind", [RESPONSE, 0, 4, 255])
def test_unknown_kinds_are_ignored_without_a_word(feed: Feed, kind: int) -> None:
    server = ServerConnection()
    assert [type(e) for e in feed(server, frame.encode(1, kind, b"x") + request(1))] == [RequestReceived]
    assert server.data_to_send() == b""


def test_answers_may_come_in_any_order_and_only_once() -> None:
    server = ServerConnection()
    server.receive_data(request(1) + request(3))
    server.send_error(3, 5, "gone")
    server.send_response(1, b"")
    assert replies(server) == [(3, 5, "gone"), (1, 0, "")]
    assert server.data_to_send() == b""
    with pytest.raises(ProtocolError, match="stream 3 awaits no answer"):
        server.send_response(3, b"")
    with pytest.raises(ProtocolError, match="stream 9 awaits no answer"):
        server.send_error(9, 2, "x")


def test_the_largest_response_is_sent_and_a_larger_one_becomes_an_error() -> None:
    server = ServerConnection()
    server.receive_data(request(1) + request(3))
    fits = bytes(MAX_DATA - 5)  # tag, and four bytes of length
    assert server.send_response(1, fits) is None
    assert server.data_to_send() == frame.encode(1, RESPONSE, encode_response(fits))
    refused = server.send_response(3, fits + b"x")
    assert refused == StreamRefused(3, 8, "response of 4194305 bytes is over the limit of 4194304")
    assert replies(server) == [(3, 8, refused.reason)]


@pytest.mark.parametrize("connection", [ServerConnection, ClientConnection])
def test_an_end_inside_a_frame_is_a_protocol_error(
    connection: type[ServerConnection | ClientConnection],
) -> None:
    end = connection()
    end.receive_eof()
    end.receive_data(b"\x00")
    with pytest.raises(ProtocolError, match="in the middle of a frame"):
        end.receive_eof()


def test_client_and_server_understand_each_other(feed: Feed) -> None:
    client, server = ClientConnection(), ServerConnection()
    assert [client.send_request("s", m, m.encode(), 7) for m in ("a", "b", "c")] == [1, 3, 5]
    events = feed(server, client.data_to_send())
    assert events == [RequestReceived(i, "s", m, m.encode(), 7) for i, m in ((1, "a"), (3, "b"), (5, "c"))]
    server.send_response(5, b"C")
    server.send_error(1, 9, "not now")
    server.send_response(3, b"")
    assert feed(client, server.data_to_send()) == [
        ResponseReceived(5, b"C"),
        CallFailed(1, 9, "not now"),
        ResponseReceived(3, b""),
    ]
    assert client.data_to_send() == b""


def test_a_reply_that_nobody_waits_for_is_ignored(feed: Feed) -> None:
    client = ClientConnection()
    client.forget(client.send_request("s", "m", b""))
    kept = client.send_request("s", "m", b"")
    wire = b"".join(frame.encode(stream_id, RESPONSE, b"") for stream_id in (1, kept, kept))
    late, answer, twice = feed(client, wire)
    assert late == FrameIgnored(1, "no call waits on the stream")
    assert answer == ResponseReceived(kept, b"")
    assert twice == FrameIgnored(kept, "no call waits on the stream")


@pytest.mark.parametrize(
    ("wire", "event"),
    [
        (frame.encode(1, RESPONSE, b"\xff"), CallFailed(1, 13, "data of 1 bytes is no ttrpc Response")),
        (frame.encode(1, DATA, b"x"), FrameIgnored(1, "frame of kind 3 for a unary call")),
        (frame.encode(1, RESPONSE, encode_error(5, "gone")), CallFailed(1, 5, "gone")),
    ],
    ids=["no Response", "data", "error"],
)
def test_what_a_client_makes_of_a_frame(feed: Feed, wire: bytes, event: object) -> None:
    client = ClientConnection()
    client.send_request("s", "m", b"")
    assert feed(client, wire) == [event]


def test_an_oversized_response_fails_its_call_only() -> None:
    client = ClientConnection()
    client.send_request("s", "m", b"")
    client.send_request("s", "m", b"")
    wire = frame.encode(1, RESPONSE, bytes(MAX_DATA + 1)) + frame.encode(3, RESPONSE, b"")
    failed, answer = client.receive_data(wire)
    assert failed == CallFailed(1, 8, "response of 4194305 bytes is over the limit of 4194304")
    assert answer == ResponseReceived(3, b"")
    (late,) = client.receive_data(frame.encode(1, RESPONSE, b""))
    assert isinstance(late, FrameIgnored)


def test_a_request_that_does_not_fit_is_not_sent() -> None:
    client = ClientConnection()
    with pytest.raises(MessageTooLarge, match="is over the limit of 4194304"):
        client.send_request("s", "m", bytes(MAX_DATA))
    assert client.data_to_send() == b""
    assert client.send_request("s", "m", b"") == 1


def test_a_client_that_used_up_its_ids_says_so() -> None:
    client = ClientConnection()
    client._next_id = 0xFFFFFFFF
    assert client.send_request("s", "m", b"") == 0xFFFFFFFF
    with pytest.raises(ProtocolError, match="used up"):
        client.send_request("s", "m", b"")


frames = st.builds(
    frame.encode,
    st.integers(0, 9),
    st.sampled_from([REQUEST, REQUEST, RESPONSE, DATA, 9]),
    st.one_of(st.just(STATE), st.just(b""), st.binary(max_size=12)),
    st.integers(0, 7),
)
oversized = st.builds(
    lambda stream_id, more: frame.HEADER.pack(MAX_DATA + 1 + more, stream_id, REQUEST, 0),
    st.integers(0, 9),
    st.integers(0, 40),
)
streams = st.one_of(
    st.binary(max_size=200),
    st.lists(frames, max_size=8).map(b"".join),
    st.tuples(st.lists(frames, max_size=3).map(b"".join), oversized, st.binary(max_size=60)).map(b"".join),
)


def split(data: bytes, cuts: Sequence[int]) -> list[bytes]:
    points = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[a:b] for a, b in pairwise(points)]


@given(streams, st.lists(st.integers(0, 1000), max_size=6))
def test_any_bytes_give_a_server_requests_or_refusals_in_any_split(data: bytes, cuts: list[int]) -> None:
    whole, pieces = ServerConnection(), ServerConnection()
    events = whole.receive_data(data)
    assert all(isinstance(event, RequestReceived | StreamRefused) for event in events)
    assert [event for piece in split(data, cuts) for event in pieces.receive_data(piece)] == events
    sent = whole.data_to_send()
    assert pieces.data_to_send() == sent
    whole._outgoing.append(sent)
    refused = [(e.stream_id, int(e.code), e.reason) for e in events if isinstance(e, StreamRefused)]
    assert replies(whole) == refused


@given(streams, st.lists(st.integers(0, 1000), max_size=6))
def test_any_bytes_give_a_client_at_most_one_end_of_each_call(data: bytes, cuts: list[int]) -> None:
    whole, pieces = ClientConnection(), ClientConnection()
    for client in (whole, pieces):
        assert [client.send_request("s", "m", b"") for _ in range(3)] == [1, 3, 5]
    events = whole.receive_data(data)
    assert [event for piece in split(data, cuts) for event in pieces.receive_data(piece)] == events
    ended = [event.stream_id for event in events if isinstance(event, ResponseReceived | CallFailed)]
    assert len(set(ended)) == len(ended)
    assert set(ended) <= {1, 3, 5}

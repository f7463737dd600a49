"""The envelope against bytes written by hand."""

import pytest

from shim.ttrpc import envelope
from shim.ttrpc.events import CallFailed, RequestReceived, ResponseReceived
from shim.ttrpc.frame import MAX_DATA


@pytest.mark.parametrize(
    ("data", "timeout_ns"),
    [
        (b"\x0a\x01s\x12\x01m\x1a\x01p", None),
        (b"\x0a\x01s\x12\x01m\x1a\x01p\x20\x00", None),
        (b"\x0a\x01s\x12\x01m\x1a\x01p\x20\x05", 5),
        (b"\x0a\x01s\x12\x01m\x1a\x01p\x20\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", -1),
    ],
    ids=["absent", "zero", "five", "too late"],
)
def test_a_request_has_the_timeout_of_the_wire(data: bytes, timeout_ns: int | None) -> None:
    assert envelope.decode_request(1, data) == RequestReceived(1, "s", "m", b"p", timeout_ns)


def test_metadata_is_ignored() -> None:
    data = b"\x0a\x01s\x12\x01m\x2a\x06\x0a\x01k\x12\x01v\x2a\x06\x0a\x01k\x12\x01w"
    assert envelope.decode_request(1, data) == RequestReceived(1, "s", "m", b"", None)


@pytest.mark.parametrize(
    ("timeout_ns", "wire"),
    [(None, b""), (5, b"\x20\x05"), (0, b"\x20" + b"\xff" * 9 + b"\x01")],
    ids=["none", "five", "zero is sent as too late, not as none"],
)
def test_a_request_is_encoded_with_its_timeout(timeout_ns: int | None, wire: bytes) -> None:
    assert envelope.encode_request("s", "m", b"", timeout_ns) == b"\x0a\x01s\x12\x01m" + wire


def test_a_successful_response_has_no_status() -> None:
    assert envelope.encode_response(b"p") == b"\x12\x01p"
    assert envelope.encode_response(b"") == b""


def test_a_failed_response_has_no_payload() -> None:
    assert envelope.encode_error(5, "x") == b"\x0a\x05\x08\x05\x12\x01x"


@pytest.mark.parametrize(
    ("data", "event"),
    [
        (b"", ResponseReceived(1, b"")),
        (b"\x0a\x00\x12\x01p", ResponseReceived(1, b"p")),
        (b"\x0a\x02\x08\x00\x12\x01p", ResponseReceived(1, b"p")),
        (b"\x0a\x05\x08\x05\x12\x01x", CallFailed(1, 5, "x")),
    ],
    ids=["empty", "empty status", "status of code 0", "not found"],
)
def test_a_response_fails_only_by_a_code_that_is_not_zero(data: bytes, event: object) -> None:
    assert envelope.decode_response(1, data) == event


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x01\xff", b"\x0f"], ids=["cut", "not UTF-8", "bad wire type"])
def test_other_bytes_are_malformed(data: bytes) -> None:
    with pytest.raises(envelope.MalformedEnvelope, match="is no ttrpc Request"):
        envelope.decode_request(1, data)


def test_a_response_that_is_none_is_malformed() -> None:
    with pytest.raises(envelope.MalformedEnvelope, match="is no ttrpc Response"):
        envelope.decode_response(1, b"\xff")


def test_an_error_text_of_any_kind_fits_and_encodes() -> None:
    """Texts of the kernel and of programs may hold undecodable file names, and be of any length."""
    failed = envelope.decode_response(1, envelope.encode_error(2, "open /\udcff: " + "x" * MAX_DATA))
    assert isinstance(failed, CallFailed)
    assert failed.message.startswith("open /\\udcff: xxx")
    assert len(failed.message) < 100_000

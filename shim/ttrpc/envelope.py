"""Encodes and decodes ttrpc's messages Request and Response. Pure; the only part of the core that uses protobuf."""

from google.protobuf.message import DecodeError

from protos.gen.status_pb2 import Status
from protos.gen.ttrpc_pb2 import Request, Response
from shim.ttrpc.events import CallFailed, RequestReceived, ResponseReceived

_MAX_MESSAGE = 64 << 10  # characters of an error text; the whole Response must fit in a frame


class MalformedEnvelope(ValueError):
    """The data of a frame is not the message that its kind announces."""


def decode_request(stream_id: int, data: bytes) -> RequestReceived:
    """Read the data of a Request frame. Raises MalformedEnvelope."""
    try:
        request = Request.FromString(data)
    except DecodeError as err:
        raise MalformedEnvelope(f"data of {len(data)} bytes is no ttrpc Request") from err
    return RequestReceived(
        stream_id,
        request.service,
        request.method,
        request.payload,
        request.timeout_nano or None,  # on the wire, 0 is the same as absent
    )


def decode_response(stream_id: int, data: bytes) -> ResponseReceived | CallFailed:
    """Read the data of a Response frame. A status of code 0 counts as none. Raises MalformedEnvelope."""
    try:
        response = Response.FromString(data)
    except DecodeError as err:
        raise MalformedEnvelope(f"data of {len(data)} bytes is no ttrpc Response") from err
    if response.status.code:
        return CallFailed(stream_id, response.status.code, response.status.message)
    return ResponseReceived(stream_id, response.payload)


def encode_request(service: str, method: str, payload: bytes, timeout_ns: int | None = None) -> bytes:
    """The data of a Request frame. `timeout_ns` as in RequestReceived."""
    return Request(
        service=service,
        method=method,
        payload=payload,
        timeout_nano=0 if timeout_ns is None else timeout_ns or -1,  # 0 would say: no deadline
    ).SerializeToString()


def encode_response(payload: bytes) -> bytes:
    """The data of a Response frame for a call that succeeded."""
    return Response(payload=payload).SerializeToString()


def encode_error(code: int, message: str) -> bytes:
    """The data of a Response frame for a call that failed. `code` is not 0.

    The payload stays empty, because clients decode it before they look at the status. `message` may contain a
    file name, so bytes that are not UTF-8 are escaped; a message that is too long is cut.
    """
    text = message[:_MAX_MESSAGE].encode(errors="backslashreplace").decode()
    return Response(status=Status(code=code, message=text)).SerializeToString()

from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable
from typing import ClassVar as _ClassVar, Optional as _Optional

DESCRIPTOR: _descriptor.FileDescriptor

class ChangeRequest(_message.Message):
    __slots__ = ("id", "agent", "verb", "settled_ms")
    ID_FIELD_NUMBER: _ClassVar[int]
    AGENT_FIELD_NUMBER: _ClassVar[int]
    VERB_FIELD_NUMBER: _ClassVar[int]
    SETTLED_MS_FIELD_NUMBER: _ClassVar[int]
    id: str
    agent: str
    verb: str
    settled_ms: int
    def __init__(self, id: _Optional[str] = ..., agent: _Optional[str] = ..., verb: _Optional[str] = ..., settled_ms: _Optional[int] = ...) -> None: ...

class ChangeResponse(_message.Message):
    __slots__ = ("outcome", "differs", "reason", "can_back_out", "is_unit")
    OUTCOME_FIELD_NUMBER: _ClassVar[int]
    DIFFERS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    CAN_BACK_OUT_FIELD_NUMBER: _ClassVar[int]
    IS_UNIT_FIELD_NUMBER: _ClassVar[int]
    outcome: str
    differs: _containers.RepeatedScalarFieldContainer[str]
    reason: str
    can_back_out: bool
    is_unit: bool
    def __init__(self, outcome: _Optional[str] = ..., differs: _Optional[_Iterable[str]] = ..., reason: _Optional[str] = ..., can_back_out: bool = ..., is_unit: bool = ...) -> None: ...

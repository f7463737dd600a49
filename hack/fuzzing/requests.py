"""Requests to a pod server in whole frames, with hostile payloads.

The server has two containers: one that no request names, which keeps the server alive, and the victim. Requests that
would make the server, which is root, write or mount outside the run's own directory are left out: containerd is trusted
that far.
"""

import json
import random
from collections.abc import Callable, Sequence  # noqa: TC003 (as everywhere here)
from dataclasses import dataclass
from typing import Any

from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass

from protos.gen import runc_options_pb2, runtimeoptions_pb2, task_pb2

SERVICES = ("containerd.task.v2.Task", "containerd.task.v3.Task")
METHODS: dict[str, Descriptor] = {
    method.name: method.input_type for method in task_pb2.DESCRIPTOR.services_by_name["Task"].methods
}
EXECS = tuple(f"exec-{number}" for number in range(8))
EDGES = (0, 1, 2, 9, 15, 18, 63, 64, 65, 127, 255, 1 << 15, (1 << 16) - 1, (1 << 31) - 1, (1 << 31), (1 << 32) - 1)
PATHS = ("stdin", "stdout", "stderr", "bundle", "checkpoint", "parent_checkpoint", "path")
COSTLY = ("Create", "Start", "Kill", "Pause", "Resume", "Update", "Checkpoint")
"""The methods that run an OCI runtime when they name an existing container."""

COSTLY_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Sent:
    """One request. `timeout_ns` is 0 for none."""

    service: str
    method: str
    payload: bytes
    timeout_ns: int
    metadata: tuple[tuple[str, str], ...]


def removal(victim: str) -> list[Sent]:
    """Requests that end and delete the victim in any state; the last one asks for its state."""
    sent: list[tuple[str, Message]] = [
        ("Resume", task_pb2.ResumeRequest(id=victim)),
        ("Kill", task_pb2.KillRequest(id=victim, signal=9, all=True)),
        ("Delete", task_pb2.DeleteRequest(id=victim)),
        ("State", task_pb2.StateRequest(id=victim)),
    ]
    return [Sent(SERVICES[0], method, message.SerializeToString(), 0, ()) for method, message in sent]


class Hostile:
    """An endless supply of requests, the same for one `seed`. `directory` is the run's; `victim` the container's id."""

    def __init__(self, seed: int, directory: str, victim: str, valid_create: bytes) -> None:
        self._chance = random.Random(seed)
        self._directory = directory
        self._victim = victim
        self._valid_create = valid_create

    def next(self) -> Sent:
        chance = self._chance
        kind: Callable[[], tuple[str, bytes]] = chance.choices(
            (self._built, self._mutated, self._random, self._unknown, self._large, self._valid),
            (70, 15, 5, 4, 1, 1),
        )[0]
        method, payload = kind()
        timeout = chance.choice((0, 0, 0, 1, 1000, 10**6, 10**9, -1, (1 << 63) - 1))
        if method == "Wait":  # else it waits as long as the victim lives
            timeout = chance.choice((1, 1000, 10**6, -1))
        pairs = tuple((self._text(), self._text()) for _ in range(chance.choice((0, 0, 0, 1, 30))))
        service = chance.choice(SERVICES)
        return Sent(service if chance.random() < 0.98 else self._text(), method, payload, timeout, pairs)

    def _built(self) -> tuple[str, bytes]:
        method = self._chance.choice(list(METHODS))
        return method, self._message(method).SerializeToString()

    def _message(self, method: str) -> Message:
        message = GetMessageClass(METHODS[method])()
        self._fill(message, 0)
        identity: Any = message
        if method in COSTLY and identity.id == self._victim and self._chance.random() > COSTLY_SHARE:
            identity.id = "somebody-else"
        return message

    def _mutated(self) -> tuple[str, bytes]:
        """Valid bytes with some changed; without paths, which could become any path."""
        method = self._chance.choice([name for name in METHODS if name not in COSTLY])
        message: Any = self._message(method)
        for name in PATHS:
            if name in METHODS[method].fields_by_name:
                message.ClearField(name)
        data = bytearray(message.SerializeToString() or b"\n\x01x")
        for _ in range(self._chance.randrange(1, 6)):
            at = self._chance.randrange(len(data))
            data[at] = self._chance.randrange(256)
            if self._chance.random() < 0.3:
                del data[at:]
                data += b"\n"
        return method, bytes(data)

    def _random(self) -> tuple[str, bytes]:
        method = self._chance.choice([name for name in METHODS if name not in COSTLY])
        return method, self._chance.randbytes(self._chance.choice((0, 1, 2, 10, 300)))

    def _unknown(self) -> tuple[str, bytes]:
        return self._chance.choice(("", "Nothing", "state", "State ", "__init__", "create\0", "é" * 50)), b""

    def _large(self) -> tuple[str, bytes]:
        size = self._chance.choice((1 << 16, 1 << 16, 1 << 20, (4 << 20) - 1000))
        message = task_pb2.StateRequest(id="x" * size)
        return "State", message.SerializeToString()

    def _valid(self) -> tuple[str, bytes]:
        """A valid request: some create, start and delete the victim and its execs."""
        chance = self._chance
        exec_id = chance.choice(EXECS)
        process = json.dumps({"args": ["true"], "cwd": "/", "env": [], "user": {"uid": 0, "gid": 0}}).encode()
        add = task_pb2.ExecProcessRequest(id=self._victim, exec_id=exec_id)
        add.spec.value = process
        found: Sequence[tuple[str, bytes]] = (
            ("Create", self._valid_create),
            ("Start", task_pb2.StartRequest(id=self._victim).SerializeToString()),
            ("Delete", task_pb2.DeleteRequest(id=self._victim).SerializeToString()),
            ("Exec", add.SerializeToString()),
            ("Start", task_pb2.StartRequest(id=self._victim, exec_id=exec_id).SerializeToString()),
            ("Delete", task_pb2.DeleteRequest(id=self._victim, exec_id=exec_id).SerializeToString()),
            ("Resume", task_pb2.ResumeRequest(id=self._victim).SerializeToString()),
        )
        return chance.choice(found)

    def _fill(self, message: Message, depth: int) -> None:
        for field in message.DESCRIPTOR.fields:
            if self._chance.random() < 0.25:
                continue
            if field.is_repeated:
                self._fill_repeated(message, field, depth)
            elif field.message_type is not None:
                self._fill_message(getattr(message, field.name), depth)
            else:
                setattr(message, field.name, self._value(field))

    def _fill_repeated(self, message: Message, field: FieldDescriptor, depth: int) -> None:
        if field.message_type is not None and field.message_type.GetOptions().map_entry:
            if field.message_type.fields_by_name["value"].message_type is None:
                for _ in range(self._chance.choice((0, 1, 3))):
                    getattr(message, field.name)[self._text()] = self._text()
            return
        for _ in range(self._chance.choice((0, 1, 3))):
            if field.message_type is None:
                getattr(message, field.name).append(self._value(field))
            elif depth < 2:
                self._fill_message(getattr(message, field.name).add(), depth)

    def _fill_message(self, message: Message, depth: int) -> None:
        if message.DESCRIPTOR.full_name == "google.protobuf.Any":
            packed: Any = message
            packed.type_url = self._chance.choice(
                (
                    "",
                    "containerd.runc.v1.Options",
                    "runtimeoptions.v1.Options",
                    "types.containerd.io/x",
                    "\0",
                    "x" * 999,
                )
            )
            packed.value = self._packed()
        elif message.DESCRIPTOR.full_name.endswith("Mount"):
            mount: Any = message
            mount.type = self._chance.choice(("", "bind", "overlay", "tmpfs", "nothing", "\0"))
            mount.source = self._chance.choice(("", f"{self._directory}/missing", "overlay"))
            mount.options.extend(self._chance.choice(([], ["ro"], ["lowerdir=/missing"], ["x" * 5000], ["\0"])))
        elif depth < 2:
            self._fill(message, depth + 1)

    def _packed(self) -> bytes:
        chance = self._chance
        if chance.random() < 0.5:
            return json.dumps(self._json(0), ensure_ascii=chance.random() < 0.5).encode(errors="surrogatepass")
        if chance.random() < 0.3:
            kind = chance.choice((runc_options_pb2.Options, runtimeoptions_pb2.Options))
            message = kind()
            self._fill(message, 2)
            return message.SerializeToString()
        deep = 100_000 if chance.random() < 0.01 else 3000
        return chance.choice(
            (b"", b"{", b"[" * deep, b'{"a":' * deep, b"nul", b"1e999", b"9" * 5000, b"\xff\xfe", b'"\\ud800"', b"{}")
        )

    def _json(self, depth: int) -> Any:
        chance = self._chance
        keys = (
            "args",
            "env",
            "cwd",
            "user",
            "uid",
            "gid",
            "terminal",
            "capabilities",
            "memory",
            "limit",
            "pids",
            "cpu",
        )
        if depth < 3 and chance.random() < 0.7:
            return {chance.choice(keys): self._json(depth + 1) for _ in range(chance.randrange(6))}
        if depth < 3 and chance.random() < 0.3:
            return [self._json(depth + 1) for _ in range(chance.randrange(4))]
        return chance.choice((None, True, -1, 1 << 70, 1.5, float("nan"), "", "x", "\ud800", "\0", "a" * 1000, {}, []))

    def _value(self, field: FieldDescriptor) -> Any:
        chance = self._chance
        if field.type == FieldDescriptor.TYPE_STRING:
            if field.name == "id":
                return chance.choice((self._victim, self._victim, "somebody-else", self._text()))
            if field.name == "exec_id":
                return chance.choice(("", *EXECS, self._text()))
            return self._path() if field.name in PATHS else self._text()
        if field.type == FieldDescriptor.TYPE_BYTES:
            return chance.randbytes(chance.choice((0, 1, 100)))
        if field.type == FieldDescriptor.TYPE_BOOL:
            return chance.random() < 0.5
        if field.type == FieldDescriptor.TYPE_ENUM:
            return chance.choice((0, 1, 99))
        if field.type in (FieldDescriptor.TYPE_INT32, FieldDescriptor.TYPE_INT64):
            return chance.choice((0, -1, 1, (1 << 31) - 1, -(1 << 31)))
        if field.type in (FieldDescriptor.TYPE_DOUBLE, FieldDescriptor.TYPE_FLOAT):
            return chance.choice((0.0, -1.0, float("nan"), float("inf")))
        return chance.choice(EDGES)

    def _path(self) -> str:
        own = self._directory
        return self._chance.choice(
            (
                "", "", f"{own}/missing", f"{own}/fifo", f"{own}/file", f"{own}/directory", f"{own}/socket", "relative",
                f"file://{own}/log", f"file://{own}/directory", f"binary://{own}/missing?a=b", "bad://x", "binary://",
                "file:", "\0", f"{own}/" + "x" * 300, f"{own}/" + "y/" * 3000,
            )
        )  # fmt: skip

    def _text(self) -> str:
        return self._chance.choice(
            (
                "",
                "x",
                "..",
                "../..",
                "a/b",
                "\0",
                "\n",
                "é",
                "\U0001f600",
                "x" * 77,
                "x" * 3000,
                "-flag",
                " ",
                "%s%n",
                "_",
            )
        )

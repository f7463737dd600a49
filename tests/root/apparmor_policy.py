"""What a compiled AppArmor profile allows, read as the kernel reads it: apparmor_parser's binary form, and no kernel.

security/apparmor/policy_unpack.c has the form, match.c the automaton, mount.c and ipc.c what is put to it and in which
order.
"""

import struct
import subprocess
from collections.abc import Iterator, Sequence

KILL = 9
MOUNT, PTRACE, SIGNAL = 7, 9, 10
"""Classes (security/apparmor/include/apparmor.h)."""

FLAGS = {
    **{"ro": 1, "nosuid": 2, "nodev": 4, "noexec": 8, "remount": 32, "bind": 4096, "move": 8192, "rec": 16384},
    **{
        "silent": 32768,
        "private": 1 << 18,
        "slave": 1 << 19,
        "shared": 1 << 20,
        "relatime": 1 << 21,
        "strictatime": 1 << 24,
    },
}
"""mount(2)'s."""

_ACCEPT, _BASE, _CHECK, _DEFAULT, _CLASSES, _NEXT = 1, 2, 3, 4, 5, 8
_SIZES = {1: "B", 2: "H", 4: "I"}
_MAGIC = b"\x1b\x5e\x78\x3d"


class Automaton:
    """Of a profile: state 1 is its first, 0 the one that nothing leads out of."""

    def __init__(self, blob: bytes) -> None:
        self._tables = dict(self._read(blob[blob.index(_MAGIC) :]))

    def _read(self, blob: bytes) -> Iterator[tuple[int, tuple[int, ...]]]:
        (at,) = struct.unpack(">I", blob[4:8])
        while at < len(blob):
            number, size, rows, columns = struct.unpack(">HHII", blob[at : at + 12])
            if number == 0:
                return
            count = columns * (rows or 1)
            length = 12 + count * size
            yield number, struct.unpack(f">{count}{_SIZES[size]}", blob[at + 12 : at + length])
            at += (length + 7) // 8 * 8

    def next(self, state: int, byte: int) -> int:
        byte = self._tables[_CLASSES][byte] if _CLASSES in self._tables else byte
        while True:
            base = self._tables[_BASE][state]
            at = (base & 0xFFFFFF) + byte
            if at < len(self._tables[_CHECK]) and self._tables[_CHECK][at] == state:
                return self._tables[_NEXT][at]
            state = self._tables[_DEFAULT][state]
            if not base & 1 << 31:
                return state

    def match(self, text: str, state: int = 1) -> int:
        for byte in text.encode():
            state = self.next(state, byte)
        return state

    def accepts(self, state: int) -> int:
        return self._tables[_ACCEPT][state]


class Profile:
    """A file with one profile, compiled by apparmor_parser for a kernel of `features`."""

    def __init__(self, file: str, features: str) -> None:
        options = ("--skip-kernel-load", "--skip-cache", "--stdout", "--kernel-features", features)
        done = subprocess.run(["apparmor_parser", *options, file], capture_output=True, check=True)
        assert b"arning" not in done.stderr, done.stderr
        policy, files = (Automaton(blob) for blob in _automata(done.stdout))
        self._policy, self._files = policy, files

    def mounts(self, target: str, source: str = "", fstype: str = "", flags: Sequence[str] = ()) -> bool:
        """mount(2): directories end with a slash; without `fstype` it is a bind, a move, or a change of a mount."""
        state = self._policy.next(1, MOUNT)
        for text in (target, source, fstype):
            state = self._policy.next(self._policy.match(text, state), 0)
        bits = sum(FLAGS[one] for one in flags)
        for bit in range(32):
            if bits >> bit & 1:
                state = self._policy.next(state, bit + 1)
        return bool(self._policy.accepts(state) & 2)

    def pivots(self, new: str, old: str) -> bool:
        state = self._policy.next(self._policy.match(new, self._policy.next(1, MOUNT)), 0)
        return bool(self._policy.accepts(self._policy.match(old, state)) & 1)

    def writes(self, path: str) -> bool:
        return bool(self._files.accepts(self._files.match(path)) & 2)

    def reads(self, path: str) -> bool:
        return bool(self._files.accepts(self._files.match(path)) & 4)

    def signals(self, label: str) -> tuple[bool, bool]:
        """Whether one of that label may be sent a signal, and may send one."""
        state = self._policy.next(self._policy.next(1, SIGNAL), KILL)
        accepts = self._policy.accepts(self._policy.match(label, state))
        return bool(accepts & 2), bool(accepts & 4)

    def traces(self, label: str) -> bool:
        return bool(self._policy.accepts(self._policy.match(label, self._policy.next(1, PTRACE))) & 2)


def _automata(binary: bytes) -> Iterator[bytes]:
    """The values that are called `aadfa`."""
    name = b"\x04\x06\x00aadfa\x00\x06"
    at = binary.find(name)
    while at >= 0:
        begin = at + len(name) + 4
        (length,) = struct.unpack("<I", binary[begin - 4 : begin])
        yield binary[begin : begin + length]
        at = binary.find(name, begin + length)

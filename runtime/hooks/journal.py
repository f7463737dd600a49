"""The durable record of the poststop hooks that are owed for one container.

One file, `RECORDS/NAMESPACE/ID.jsonl`, of JSON lines that are only ever appended, each fsynced: the head first, then
what happened. A line cut short by a crash has not happened. So whatever point a crash comes at, a hook without
`started` may run, and one with it never again.

    {"head": {...}}                            written before the OCI runtime is asked to create the container
    {"event": "owed"}                          it has created it: from now on the hooks are owed
    {"event": "ended", "exit_code", "reason"}  how the container ended
    {"event": "handed"}                        whoever writes this is a runner without a shim, and may be outlived
    {"event": "started", "hook": n}            before the hook is started
    {"event": "done", "hook": n, "result"}     afterwards
    {"event": "skipped", "hook": n, "result"}  it will not run, and why

Whoever acts on a record holds a lock on the file (flock(2)): the pod server while it lives, then the runner that
`delete` leaves behind, or after a reboot the next `start`'s. The kernel drops it with its holder's last descriptor.
"""

import fcntl
import json
import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

RECORDS = "/var/lib/pouchrich/poststop"
SUFFIX = ".jsonl"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
VERSION = 1

OWED, STARTED, DONE, SKIPPED = "owed", "started", "done", "skipped"


def boot_id(path: str = BOOT_ID) -> str:
    """What tells this boot of the machine from others."""
    with open(path) as file:
        return file.read().strip()


def path_of(records: str, namespace: str, container_id: str) -> str:
    """Where a container's record is."""
    return f"{records}/{namespace}/{container_id}{SUFFIX}"


@dataclass(slots=True)
class Account:
    """What a record's lines amount to. `hooks[n]` is (state, result) of hook n."""

    head: dict[str, Any] = field(default_factory=dict)
    owed: bool = False
    handed: bool = False
    ended: tuple[int, str] | None = None
    hooks: dict[int, tuple[str, str]] = field(default_factory=dict)

    def take(self, line: dict[str, Any]) -> None:
        """Add one line. Raises KeyError, TypeError or ValueError for what is none of ours."""
        event = line.get("event")
        if event is None:
            self.head = dict(line["head"])
            self.hooks = {number: (OWED, "") for number in range(len(self.head["hooks"]))}
        elif event == "owed":
            self.owed = True
        elif event == "handed":
            self.handed = True
        elif event == "ended":
            self.ended = (int(line["exit_code"]), str(line["reason"]))
        elif event in (STARTED, DONE, SKIPPED):
            self.hooks[int(line["hook"])] = (event, str(line.get("result", "")))

    @property
    def open_hooks(self) -> tuple[int, ...]:
        """The hooks that have never been started, in order."""
        return tuple(number for number, (state, _) in self.hooks.items() if state == OWED)

    @property
    def interrupted(self) -> tuple[int, ...]:
        """The hooks that were started and of whose end nothing is known."""
        return tuple(number for number, (state, _) in self.hooks.items() if state == STARTED)


def read_account(data: bytes) -> tuple[Account, int]:
    """The account of a record's bytes, and how many of them are whole lines of ours."""
    account, good = Account(), 0
    for line in data.splitlines(keepends=True):
        if not line.endswith(b"\n"):
            break
        try:
            account.take(json.loads(line))
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            break
        good += len(line)
    return account, good


class Journal:
    """A record that this process has locked. Every call that returns has reached the disk. Raises OSError."""

    def __init__(self, path: str, fd: int, account: Account) -> None:
        self.path = path
        self.fd = fd
        self.account = account

    @classmethod
    def create(cls, path: str, head: dict[str, Any]) -> "Journal":
        """Begin a record. One that is still there for an earlier container of the same name is moved aside, kept."""
        directory = os.path.dirname(path)
        _make_directories(directory)
        with suppress(FileNotFoundError):
            inode = os.stat(path).st_ino
            os.rename(path, f"{path.removesuffix(SUFFIX)}.{inode}{SUFFIX}")
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            journal = cls(path, fd, Account())
            journal._append({"head": {"version": VERSION, **head}})
            _sync_directory(directory)
        except BaseException:
            os.close(fd)
            os.unlink(path)
            raise
        return journal

    @classmethod
    def open(cls, path: str) -> "Journal | None":
        """Take over a record; None where there is none, or where its holder lives."""
        try:
            fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            data = _read_all(fd)
            account, good = read_account(data)
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                if good < len(data):
                    os.ftruncate(fd, good)
                return cls(path, fd, account)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def owe(self) -> None:
        """The container exists: its hooks are owed."""
        self._append({"event": "owed"})

    def hand(self) -> None:
        """A runner without a shim has the record now."""
        self._append({"event": "handed"})

    def end(self, exit_code: int, reason: str) -> None:
        """How the container ended; the first to say so is right."""
        if self.account.ended is None:
            self._append({"event": "ended", "exit_code": exit_code, "reason": reason})

    def start(self, hook: int) -> None:
        """Hook `hook` is about to be started. Raises ValueError where it was before: it must not be started again."""
        if self.account.hooks[hook][0] != OWED:
            raise ValueError(f"poststop hook {hook} is {self.account.hooks[hook][0]}, not owed")
        self._append({"event": STARTED, "hook": hook})

    def done(self, hook: int, result: str) -> None:
        """Hook `hook` has ended."""
        self._append({"event": DONE, "hook": hook, "result": result})

    def skip(self, hook: int, reason: str) -> None:
        """Hook `hook` will not run."""
        self._append({"event": SKIPPED, "hook": hook, "result": reason})

    def finish(self) -> None:
        """Nothing is owed (any more): remove the record and let go of it."""
        directory = os.path.dirname(self.path)
        inode = os.fstat(self.fd).st_ino
        for path in (self.path, *_files(directory)):  # it may have been moved aside
            with suppress(FileNotFoundError):
                if os.stat(path).st_ino == inode:
                    os.unlink(path)
                    _sync_directory(directory)
                    break
        self.close()

    def close(self) -> None:
        """Let go of the record and leave it as it is. May be repeated."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _append(self, line: dict[str, Any]) -> None:
        data = json.dumps(line).encode() + b"\n"
        before = os.fstat(self.fd).st_size
        try:
            while data:
                data = data[os.write(self.fd, data) :]
            os.fsync(self.fd)
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.fd, before)  # a full disk: half a line would hide the next
            raise
        self.account.take(line)


def records(directory: str) -> Iterator[str]:
    """The paths of all records below `directory`; none where it is missing."""
    with suppress(FileNotFoundError):
        for namespace in sorted(os.listdir(directory)):
            yield from _files(f"{directory}/{namespace}")


def _files(directory: str) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [f"{directory}/{name}" for name in names if name.endswith(SUFFIX)]


def _make_directories(directory: str) -> None:
    """Make the directory and those above it, 0700, each one durable in its parent."""
    missing = []
    while not os.path.isdir(directory):
        missing.append(directory)
        directory = os.path.dirname(directory)
    for path in reversed(missing):
        with suppress(FileExistsError):
            os.mkdir(path, 0o700)
        _sync_directory(os.path.dirname(path))


def _sync_directory(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _read_all(fd: int) -> bytes:
    chunks, offset = [], 0
    while chunk := os.pread(fd, 1 << 16, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)

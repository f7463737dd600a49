"""The durable record of the poststop hooks that are owed for one container.

One file, `RECORDS/NAMESPACE/ID.jsonl`, of JSON lines that are only ever appended, each fsynced: the head first, then
the events. A line cut short by a crash does not count. So after a crash at any point, a hook without `started` may be
run, and a hook with it is never run again.

The file has room for all of its lines from the beginning, zeros behind the last one, so that a disk that becomes full
later prevents no hook. The file gets its name once it has its head, so a record that is found is complete.

    {"head": {...}}                            written before the OCI runtime is asked to create the container
    {"event": "owed"}                          the container was created: from now on the hooks are owed
    {"event": "ended", "exit_code", "reason"}  how the container ended
    {"event": "handed"}                        a runner without a shim has the record now, and may die before its end
    {"event": "started", "hook": n}            before the hook is started
    {"event": "unstarted", "hook": n}          the hook was certainly not started after all: it is owed again
    {"event": "done", "hook": n, "result"}     after the hook's end
    {"event": "skipped", "hook": n, "result"}  the hook will not run, and why

Whoever acts on a record holds a lock on the file (flock(2)): the pod server while it lives, then the runner that
`delete` leaves behind, or the sweeper of a later `start`. The kernel releases it with its holder's last descriptor.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from runtime.hooks.journal_state import DONE, SKIPPED, STARTED, UNSTARTED, JournalState, parse_journal
from runtime.linux import process_identity

SUFFIX = ".jsonl"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
VERSION = 1
UNFINISHED = ".new"
UNFINISHED_S = 60.0
RESULT_BYTES = 600
"""The most bytes that a result takes in a line, as JSON."""

_LOCK_PAUSE_S = 0.005
_ROOM_BYTES = 512  # for owed, handed and ended
_ROOM_OF_HOOK_BYTES = 1000 + RESULT_BYTES  # for started (and some unstarted), and for done or skipped
_NOT_OFFERED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def boot_id(path: str = BOOT_ID) -> str:
    """The identity of this boot of the machine."""
    with open(path) as file:
        return file.read().strip()


def node_init() -> str:
    """The identity of the node's PID 1. A node that is a container (kind, LXC) restarts without a boot."""
    return process_identity.identity_of(1)


def mount_namespace() -> str:
    """The identity of this process's mount namespace: a path in a record is valid only in that namespace."""
    return os.readlink("/proc/self/ns/mnt")


def path_of(records: str, namespace: str, container_id: str) -> str:
    """The path of a container's record."""
    return f"{records}/{namespace}/{container_id}{SUFFIX}"


class Journal:
    """A record that this process has locked. Each call's change is on disk when it returns. Raises OSError."""

    def __init__(self, path: str, fd: int, state: JournalState, end: int) -> None:
        self.path = path
        self.fd = fd
        self.state = state
        self._end = end

    @classmethod
    def create(cls, path: str, head: dict[str, Any]) -> "Journal":
        """Create a record, with room for everything that will be written to it.

        An existing record of an earlier container of the same name is renamed and kept.
        """
        directory, new = os.path.dirname(path), path + UNFINISHED
        _make_directories(directory)
        with suppress(FileNotFoundError):  # left by a server that was killed here
            os.unlink(new)
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            journal = cls(path, fd, JournalState(), 0)
            line = {"head": {"version": VERSION, **head}}
            _reserve(fd, len(_line(line)) + _ROOM_BYTES + _ROOM_OF_HOOK_BYTES * len(head["hooks"]))
            journal._append(line)
            with suppress(FileNotFoundError):
                inode = os.stat(path).st_ino
                os.rename(path, f"{path.removesuffix(SUFFIX)}.{inode}{SUFFIX}")
            os.rename(new, path)
            new = path
            _sync_directory(directory)
        except BaseException:
            os.close(fd)
            os.unlink(new)
            raise
        return journal

    @classmethod
    def open(cls, path: str, *, patience_s: float = 0.0) -> "Journal | None":
        """Take over a record; None where there is none, or where its holder lives.

        A holder that is being killed gets `patience_s` seconds: the kernel closes its descriptors one after the other,
        perhaps its connections before its record, and takes milliseconds for some (inotify(7)).
        """
        until = time.monotonic() + patience_s
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            _lock(fd, until)
            data = _read_all(fd)
            state, good = parse_journal(data)
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                if rest := data[good:].rstrip(b"\0"):
                    os.pwrite(fd, bytes(len(rest)), good)
                return cls(path, fd, state, good)
        except (BlockingIOError, FileNotFoundError):
            pass
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None

    def owe(self) -> None:
        """Record that the container exists: its hooks are owed."""
        self._append({"event": "owed"})

    def hand(self) -> None:
        """Record that a runner without a shim has the record now."""
        self._append({"event": "handed"})

    def end(self, exit_code: int, reason: str) -> None:
        """Record how the container ended. Only the first call counts."""
        if self.state.ended is None:
            self._append({"event": "ended", "exit_code": exit_code, "reason": reason})

    def start(self, hook: int) -> None:
        """Record that hook `hook` is about to start. Raises ValueError if it was started before."""
        self._happen(STARTED, hook)

    def unstart(self, hook: int) -> None:
        """Record that hook `hook` was not started after all, and may be. Raises ValueError if no start was recorded."""
        self._happen(UNSTARTED, hook)

    def done(self, hook: int, result: str) -> None:
        """Record that hook `hook` has ended. Raises ValueError if it was not started."""
        self._happen(DONE, hook, result=_brief(result))

    def skip(self, hook: int, reason: str) -> None:
        """Record that hook `hook` will not run. Raises ValueError if it was started."""
        self._happen(SKIPPED, hook, result=_brief(reason))

    def _happen(self, event: str, hook: int, **more: str) -> None:
        self.state.check(event, hook)
        self._append({"event": event, "hook": hook, **more})

    def finish(self) -> None:
        """Remove the record, of which nothing is owed, and close it."""
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
        """Close the record and leave it as it is. May be repeated."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _append(self, line: dict[str, Any]) -> None:
        data = _line(line)
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self.fd, data[written:], self._end + written)
            os.fsync(self.fd)
        except OSError:
            with suppress(OSError):
                os.pwrite(self.fd, bytes(written), self._end)  # else half a line would precede the next
            raise
        self._end += written
        self.state.take(line)


def records(directory: str) -> Iterator[str]:
    """The paths of all records below `directory`; none where it is missing."""
    with suppress(FileNotFoundError):
        for namespace in sorted(os.listdir(directory)):
            yield from _files(f"{directory}/{namespace}")


def remove_unfinished(directory: str) -> None:
    """Remove below `directory` what servers left that were killed before their record got its name. Raises nothing."""
    with suppress(OSError):
        for namespace in os.listdir(directory):
            for path in _files(f"{directory}/{namespace}", SUFFIX + UNFINISHED):
                with suppress(OSError):
                    _remove_unfinished(path)


def _remove_unfinished(path: str) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        found = os.fstat(fd)
        if abs(time.time() - found.st_mtime) > UNFINISHED_S and os.stat(path).st_ino == found.st_ino:
            os.unlink(path)
    finally:
        os.close(fd)


def _files(directory: str, suffix: str = SUFFIX) -> list[str]:
    try:
        names = sorted(os.listdir(directory))
    except (FileNotFoundError, NotADirectoryError):
        return []
    return [f"{directory}/{name}" for name in names if name.endswith(suffix)]


def _line(line: dict[str, Any]) -> bytes:
    return json.dumps(line).encode() + b"\n"


def _brief(result: str) -> str:
    """As much of `result` as there is room for; JSON may need six bytes for a character."""
    while len(json.dumps(result)) > RESULT_BYTES:
        result = result[: len(result) * 3 // 4]
    return result


def _reserve(fd: int, size: int) -> None:
    """Allocate `size` bytes of zeros on disk for a new file. Raises OSError."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as err:
        if err.errno not in _NOT_OFFERED:
            raise
        written = 0
        while written < size:
            written += os.pwrite(fd, bytes(size - written), written)


def _make_directories(directory: str) -> None:
    """Make the directory and its missing parents with mode 0700, and sync each to disk in its parent."""
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


def _lock(fd: int, until: float) -> None:
    """Take a record's lock by `until` (time.monotonic()). Raises BlockingIOError where another process keeps it."""
    while True:
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
        time.sleep(_LOCK_PAUSE_S)


def _read_all(fd: int) -> bytes:
    chunks, offset = [], 0
    while chunk := os.pread(fd, 1 << 16, offset):
        chunks.append(chunk)
        offset += len(chunk)
    return b"".join(chunks)

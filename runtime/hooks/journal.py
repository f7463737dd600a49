"""The durable record of the poststop hooks that are owed for one container.

One file, `RECORDS/NAMESPACE/ID.jsonl`, of JSON lines that are only ever appended, each fsynced: the head first, then
what happened. A line cut short by a crash has not happened. So whatever point a crash comes at, a hook without
`started` may run, and one with it never again.

The file has room for all of its lines from the beginning, zeros behind the last one, so that a disk which is full later
keeps no hook from being run. It has its name once it has its head: who finds a record finds a whole one.

    {"head": {...}}                            written before the OCI runtime is asked to create the container
    {"event": "owed"}                          it has created it: from now on the hooks are owed
    {"event": "ended", "exit_code", "reason"}  how the container ended
    {"event": "handed"}                        whoever writes this is a runner without a shim, and may be outlived
    {"event": "started", "hook": n}            before the hook is started
    {"event": "unstarted", "hook": n}          for certain it was not started after all: it is owed again
    {"event": "done", "hook": n, "result"}     afterwards
    {"event": "skipped", "hook": n, "result"}  it will not run, and why

Whoever acts on a record holds a lock on the file (flock(2)): the pod server while it lives, then the runner that
`delete` leaves behind, or the sweeper of a later `start`. The kernel drops it with its holder's last descriptor.
"""

import errno
import fcntl
import json
import os
import time
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from runtime.hooks.account import DONE, SKIPPED, STARTED, UNSTARTED, Account, read_account

SUFFIX = ".jsonl"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
VERSION = 1
UNFINISHED = ".new"
UNFINISHED_S = 60.0
RESULT_BYTES = 600
"""The most that a result takes of a line, as JSON."""

_LOCK_PAUSE_S = 0.005
_ROOM_BYTES = 512  # for owed, handed and ended
_ROOM_OF_HOOK_BYTES = 1000 + RESULT_BYTES  # for started (and unstarted, some times), and for done or skipped
_NOT_OFFERED = (errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS)


def boot_id(path: str = BOOT_ID) -> str:
    """What tells this boot of the machine from others."""
    with open(path) as file:
        return file.read().strip()


def mount_namespace() -> str:
    """What tells this process's mount namespace from others, and so the one in which a path of the record means it."""
    return os.readlink("/proc/self/ns/mnt")


def path_of(records: str, namespace: str, container_id: str) -> str:
    """Where a container's record is."""
    return f"{records}/{namespace}/{container_id}{SUFFIX}"


class Journal:
    """A record that this process has locked. Every call that returns has reached the disk. Raises OSError."""

    def __init__(self, path: str, fd: int, account: Account, end: int) -> None:
        self.path = path
        self.fd = fd
        self.account = account
        self._end = end

    @classmethod
    def create(cls, path: str, head: dict[str, Any]) -> "Journal":
        """Begin a record, with room for all that will be written to it.

        One that is still there for an earlier container of the same name is moved aside, kept.
        """
        directory, new = os.path.dirname(path), path + UNFINISHED
        _make_directories(directory)
        with suppress(FileNotFoundError):  # of a server that was killed here
            os.unlink(new)
        fd = os.open(new, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            journal = cls(path, fd, Account(), 0)
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

        One that is killed is given `patience_s`: the kernel closes what it had open one after the other, its
        connections perhaps before its record, and takes milliseconds for some (inotify(7)).
        """
        until = time.monotonic() + patience_s
        try:
            fd = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
        except FileNotFoundError:
            return None
        try:
            _lock(fd, until)
            data = _read_all(fd)
            account, good = read_account(data)
            if os.stat(path).st_ino == os.fstat(fd).st_ino:
                if rest := data[good:].rstrip(b"\0"):
                    os.pwrite(fd, bytes(len(rest)), good)
                return cls(path, fd, account, good)
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
        self._happen(STARTED, hook)

    def unstart(self, hook: int) -> None:
        """Hook `hook` was not started after all, and may be again. Raises ValueError where it was not about to be."""
        self._happen(UNSTARTED, hook)

    def done(self, hook: int, result: str) -> None:
        """Hook `hook` has ended. Raises ValueError where it was not started."""
        self._happen(DONE, hook, result=_brief(result))

    def skip(self, hook: int, reason: str) -> None:
        """Hook `hook` will not run. Raises ValueError where it was started."""
        self._happen(SKIPPED, hook, result=_brief(reason))

    def _happen(self, event: str, hook: int, **more: str) -> None:
        self.account.check(event, hook)
        self._append({"event": event, "hook": hook, **more})

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
        data = _line(line)
        written = 0
        try:
            while written < len(data):
                written += os.pwrite(self.fd, data[written:], self._end + written)
            os.fsync(self.fd)
        except OSError:
            with suppress(OSError):
                os.pwrite(self.fd, bytes(written), self._end)  # or half a line would be there beside the next
            raise
        self._end += written
        self.account.take(line)


def records(directory: str) -> Iterator[str]:
    """The paths of all records below `directory`; none where it is missing."""
    with suppress(FileNotFoundError):
        for namespace in sorted(os.listdir(directory)):
            yield from _files(f"{directory}/{namespace}")


def remove_unfinished(directory: str) -> None:
    """Remove below `directory` what servers left that were killed before their record had its name. Raises nothing."""
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
    """Give a new file `size` bytes of the disk, as zeros. Raises OSError."""
    try:
        os.posix_fallocate(fd, 0, size)
    except OSError as err:
        if err.errno not in _NOT_OFFERED:
            raise
        written = 0
        while written < size:
            written += os.pwrite(fd, bytes(size - written), written)


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


def _lock(fd: int, until: float) -> None:
    """Have the lock of a record by `until` (time.monotonic()). Raises BlockingIOError where another has it still."""
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

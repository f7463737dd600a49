"""Reads the node's records of owed poststop hooks without locking them: a lock would keep a runner away."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from runtime import paths
from runtime.config.model import hook_label
from runtime.hooks import journal
from runtime.hooks.journal_state import JournalState, parse_journal
from runtime.linux import mountinfo

LOCKS = "/proc/locks"
MOUNTS = "/proc/self/mountinfo"
_FLOCK = re.compile(r"\d+: FLOCK +\S+ +\S+ (-?\d+) ([0-9a-f]+):([0-9a-f]+):(\d+) ")


class OwedHook(NamedTuple):
    """A poststop hook. `owner` is `node` or `pod`, `result` is "" until `state` is `done` or `skipped`."""

    name: str
    owner: str
    state: str
    result: str

    @property
    def label(self) -> str:
        """The name for people."""
        return hook_label(self.name, self.owner)


class Record(NamedTuple):
    """One container's record. `holder` is the PID of the process that has its lock, -1 unknown, 0 for none.

    `before_boot`: the record is of an earlier boot of the machine.
    """

    path: str
    namespace: str
    id: str
    state: JournalState
    holder: int
    before_boot: bool

    @property
    def hooks(self) -> tuple[OwedHook, ...]:
        """The poststop hooks, in the order in which they run."""
        states = self.state.hooks
        return tuple(
            OwedHook(str(one.get("name", "")), str(one.get("owner", "")), *states.get(number, ("", "")))
            for number, one in enumerate(self.state.head.get("hooks", ()))
        )


def read(
    directory: str = paths.RECORDS, *, locks: str = LOCKS, mounts: str = MOUNTS, boot_id: str = journal.BOOT_ID
) -> Iterator[Record]:
    """All records, sorted by path. Raises OSError.

    A record whose file system is not in `mounts` counts as not held.
    """
    found = list(journal.records(directory))
    # Only if there are any: the kernel takes time quadratic in the number of locks, and a pod may have a million.
    holders = _holders(locks, mountinfo.device_of(directory, mounts)) if found else {}
    now = journal.boot_id(boot_id)
    for path in found:
        try:
            inode = os.stat(path).st_ino
            with open(path, "rb") as file:
                state, _ = parse_journal(file.read())
        except FileNotFoundError:
            continue
        subject = state.head.get("subject") or {}
        yield Record(
            path,
            str(subject.get("containerd_namespace", os.path.basename(os.path.dirname(path)))),
            str(subject.get("id", os.path.basename(path).removesuffix(journal.SUFFIX))),
            state,
            holders.get(inode, 0),
            state.head.get("boot") != now,
        )


def _holders(locks: str, device: tuple[int, int] | None) -> dict[int, int]:
    """Inode -> PID of the holder, for the flock(2) locks on the file system with `device` (proc_locks(5)).

    Only there: a pod can lock a file with any inode number on a file system of its own. The kernel writes the numbers
    of the device in hexadecimal (fs/locks.c).
    """
    try:
        with open(locks) as file:
            found = [one for one in map(_FLOCK.match, file) if one is not None]
    except OSError:
        return {}
    return {int(one[4]): int(one[1]) for one in found if (int(one[2], 16), int(one[3], 16)) == device}

"""Reads the node's records of owed poststop hooks without locking them: a lock would keep a runner away."""

import os
import re
from collections.abc import Iterator
from typing import NamedTuple

from runtime import paths
from runtime.hooks import journal
from runtime.hooks.journal_state import JournalState, parse_journal

LOCKS = "/proc/locks"
_FLOCK = re.compile(r"\d+: FLOCK +\S+ +\S+ (-?\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ")


class Record(NamedTuple):
    """One container's record. `holder` is the PID of the process that has its lock, -1 unknown, 0 for none.

    `before_boot`: the record is of an earlier boot of the machine.
    """

    path: str
    namespace: str
    id: str
    account: JournalState
    holder: int
    before_boot: bool

    @property
    def hooks(self) -> tuple[tuple[str, str, str], ...]:
        """(name, state, result) of each poststop hook, in the order in which they run."""
        names = [str(one.get("name", "")) for one in self.account.head.get("hooks", ())]
        states = self.account.hooks
        return tuple((name, *states.get(number, ("", ""))) for number, name in enumerate(names))


def read(directory: str = paths.RECORDS, *, locks: str = LOCKS, boot_id: str = journal.BOOT_ID) -> Iterator[Record]:
    """All records, sorted by path. Raises OSError."""
    holders = _holders(locks)
    now = journal.boot_id(boot_id)
    for path in journal.records(directory):
        try:
            inode = os.stat(path).st_ino
            with open(path, "rb") as file:
                account, _ = parse_journal(file.read())
        except FileNotFoundError:
            continue
        subject = account.head.get("subject") or {}
        yield Record(
            path,
            str(subject.get("containerd_namespace", os.path.basename(os.path.dirname(path)))),
            str(subject.get("id", os.path.basename(path).removesuffix(journal.SUFFIX))),
            account,
            holders.get(inode, 0),
            account.head.get("boot") != now,
        )


def _holders(locks: str) -> dict[int, int]:
    """Inode -> PID of the holder, for flock(2) locks (proc_locks(5)). Without the device, as stat(2)'s may differ."""
    try:
        with open(locks) as file:
            found = map(_FLOCK.match, file)
            return {int(one[2]): int(one[1]) for one in found if one is not None}
    except OSError:
        return {}

"""The node's records of owed poststop hooks, only looked at: who takes a record's lock keeps a runner from it."""

import os
import re
from collections.abc import Iterator
from dataclasses import dataclass

from runtime import paths
from runtime.hooks import journal
from runtime.hooks.account import Account, read_account

LOCKS = "/proc/locks"
_FLOCK = re.compile(r"\d+: FLOCK +\S+ +\S+ (-?\d+) [0-9a-f]+:[0-9a-f]+:(\d+) ")


@dataclass(frozen=True, slots=True)
class Record:
    """One container's record. `holder` is the pid of who acts on it, -1 unknown, 0 where nobody does.

    `before_boot`: it is of an earlier boot of the machine.
    """

    path: str
    namespace: str
    id: str
    account: Account
    holder: int
    before_boot: bool

    @property
    def hooks(self) -> tuple[tuple[str, str, str], ...]:
        """(name, state, result) of each poststop hook, in the order they run."""
        names = [str(one.get("name", "")) for one in self.account.head.get("hooks", ())]
        states = self.account.hooks
        return tuple((name, *states.get(number, ("", ""))) for number, name in enumerate(names))


def read(directory: str = paths.RECORDS, *, locks: str = LOCKS, boot_id: str = journal.BOOT_ID) -> Iterator[Record]:
    """All records, by their paths. Raises OSError."""
    holders = _holders(locks)
    now = journal.boot_id(boot_id)
    for path in journal.records(directory):
        try:
            inode = os.stat(path).st_ino
            with open(path, "rb") as file:
                account, _ = read_account(file.read())
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
    """Inode to pid of those who hold flock(2) locks (proc_locks(5)); the device is left out, as stat(2) may differ."""
    try:
        with open(locks) as file:
            found = map(_FLOCK.match, file)
            return {int(one[2]): int(one[1]) for one in found if one is not None}
    except OSError:
        return {}

"""The commands of the containers, whose output and exit codes are known beforehand.

Each also writes its end to a file below /shared, independently of any shim.
"""

from dataclasses import dataclass

SHARED = "/shared"


@dataclass(frozen=True, slots=True)
class Work:
    """A shell script, its whole standard output and its exit code.

    A script that `waits` runs until it is stopped: `code` is then that after SIGTERM, unless it `ignores` SIGTERM.
    """

    name: str
    script: str
    output: bytes
    code: int
    waits: bool = False
    ignores: bool = False

    def command(self, name: str) -> tuple[str, ...]:
        """The command of the container `name`."""
        return ("sh", "-c", self.script.replace("NAME", name))

    def codes(self, grace_s: int | None) -> frozenset[int]:
        """The correct exit codes after a stop with `grace_s` seconds; None: no stop."""
        if grace_s is None or not self.waits:
            return frozenset({self.code})
        if self.ignores or grace_s == 0:
            return frozenset({137})
        return frozenset({self.code} if grace_s >= PATIENT_S else {self.code, 137})


PATIENT_S = 30
"""A grace period that is always long enough: with a shorter one, a TERM may become a KILL on a busy machine."""

UP = "echo up; : >/shared/NAME.up; "
LINES = 100
WORKS = {
    work.name: work
    for work in (
        Work("true", "exit 0", b"", 0),
        Work("code", "echo one; sleep 0.2; echo two; exit 7", b"one\ntwo\n", 7),
        Work(
            "lines",
            f"i=0; while [ $i -lt {LINES} ]; do echo line $i; i=$((i+1)); sleep 0.03; done; exit 9",
            b"".join(b"line %d\n" % number for number in range(LINES)),
            9,
        ),
        Work("burst", "seq 1 20000; exit 3", b"".join(b"%d\n" % number for number in range(1, 20001)), 3),
        Work(
            "term",
            f"trap 'exit 42' TERM; {UP}while :; do sleep 1000 & wait $!; done",
            b"up\n",
            42,
            waits=True,
        ),
        Work(
            "deaf",
            f"trap '' TERM; {UP}while :; do sleep 1000 & wait $!; done",
            b"up\n",
            137,
            waits=True,
            ignores=True,
        ),
    )
}

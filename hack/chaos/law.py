"""What a fault may cost. Nothing else is excused, and both shims are judged by this alone.

server          A pod server is killed: its containers end with 137 unless they had ended before, and the end of their
                output may be missing. Counted apart: if containerd asked the dead server first, it reports 255; a
                poststop hook that has begun according to its record does not run again.
runner          The runner of poststop hooks is killed after the pod server: beyond what the dead server costs, hooks
                that have begun according to the record do not run again, and no hooks in the container run, because
                its root file system was mounted only for the runner: counted apart.
init            PID 1 of a container is killed: it ends with 137, and the end of its output may be missing.
oci             An OCI runtime is killed: the call that it worked for fails; if the process has just become the
                container's init, as `init`. If it was running a poststop hook in a container, that hook does not run:
                counted apart.
command         The shim's `start` or `delete` is killed. Of `start`: the pod does not start. Of `delete`: what it had
                not done yet may stay, because containerd does not run it again, and unmounts the root file system that
                a poststop hook in the container would have needed: counted apart. The same if containerd's log says
                that it could not start the command. If containerd itself killed it after five seconds, only the bundle
                may stay.
containerd      containerd is killed and started again: the calls under way fail. At most 64 KiB of a container's output
                are missing, which containerd had read and not written, and the FIFO's content of a container that had
                ended meanwhile, which containerd closes unread (its log says so). An exit that containerd had received
                and not noted is reported as 255. A network namespace, a mount of a sandbox's /dev/shm or a renamed
                bundle may stay. All of that is containerd's doing, and counted apart.
disk            Nothing can be written where containerd and the shim keep their files: calls fail, and any part of the
                output may be missing, because containerd writes it. A pod server that containerd gives up because its
                address cannot be written is never deleted; if it is also killed before it ends by itself, its socket
                stays: counted apart.
spawner, prefork, stop-server, stop-spawner, stop-oci, consumer
                Nothing.

A Start that failed may have happened or not: the container ends as it would have, with 128, 137 or 255, or has not
begun. On a busy machine a stop with less than 30 s may turn an exit code into 137. An exec in a container that ends
meanwhile ends with 137, or with 143 under an init that terminates what is left before it powers off. Every call is
answered within a minute, every exit is reported within a minute of the last fault, and everything is gone within 90 s.
"""

from dataclasses import dataclass, field

from hack.chaos.life import NO, OPEN, YES, Life, Strikes
from hack.chaos.output import Seen, read

KILLED, TERMINATED, UNKNOWN, START_FAILED = 137, 143, 255, 128
UNWRITTEN = 64 << 10
"""Bytes that containerd may have read and not written yet: its copy buffers of 32 KiB, and its line buffer."""

UNREAD = 64 << 10
"""Bytes that a FIFO holds (pipe(7))."""


@dataclass
class Verdict:
    """What is wrong with a container, by kind; `apart` is what this law allows and is counted separately."""

    wrong: dict[str, str] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)


def judge(life: Life, strikes: Strikes, *, told: frozenset[int] = frozenset(), left_unread: bool = False) -> Verdict:
    """Judge the container's exit, output and execs.

    `told` are the exit codes that the shim has reported to containerd. `left_unread`: containerd's log says that it has
    closed the FIFO of a container that had ended, without reading to the end.
    """
    found = Verdict()
    if life.started == NO:
        return found
    _judge_exit(life, strikes, told, found)
    if life.started == YES and not strikes.during(life, "disk"):
        _judge_output(life, strikes, UNREAD if left_unread else 0, found)
    for code, text in life.wrong_execs:
        if code not in _codes_of_execs(life) or not _may_end(life, strikes):
            found.wrong["wrong exec"] = text
    return found


def _codes_of_execs(life: Life) -> frozenset[int]:
    """The exit codes of an exec that ends because the container ends."""
    return frozenset({KILLED, TERMINATED} if life.mode in ("systemd", "sbin-init") else {KILLED})


def _may_end(life: Life, strikes: Strikes) -> bool:
    """Whether the container may end while an exec runs in it, which then ends too."""
    return not life.work.waits or bool(strikes.on_pod(life, "server") or _init_was_killed(life, strikes))


def own_codes(life: Life) -> frozenset[int]:
    """The correct exit codes if no fault hit the container."""
    return life.work.codes(life.grace_s)


def codes(life: Life, strikes: Strikes) -> frozenset[int]:
    """All correct exit codes."""
    allowed = own_codes(life)
    if strikes.on_pod(life, "server"):
        allowed |= {KILLED, UNKNOWN}
    if _init_was_killed(life, strikes):
        allowed |= {KILLED}
    if life.started == OPEN:
        allowed |= {START_FAILED, KILLED, UNKNOWN}
    return allowed


def _init_was_killed(life: Life, strikes: Strikes) -> bool:
    """Whether a fault killed the init. It may have aimed at an OCI runtime, whose command line an init has until
    Start."""
    created = [one for one in strikes.on_container(life, "oci") if " create " in one.words]
    return bool(strikes.on_container(life, "init") or created)


def _judge_exit(life: Life, strikes: Strikes, told: frozenset[int], found: Verdict) -> None:
    if life.code is None:
        if life.started == YES or life.state == "CONTAINER_RUNNING":
            found.wrong["lost exit"] = f"{life.state}, Start: {life.started}"
    elif life.code == UNKNOWN and strikes.during(life, "containerd") and told & codes(life, strikes):
        found.apart["exit that a killed containerd had been told"] = ""
    elif life.code not in codes(life, strikes):
        found.wrong["wrong exit"] = f"{life.code}, right: {sorted(codes(life, strikes))}"
    elif life.code == UNKNOWN and life.started == YES:
        found.apart["exit told as 255 after the death of a server"] = ""


def _judge_output(life: Life, strikes: Strikes, unread: int, found: Verdict) -> None:
    seen = read(life.container.log, life.work.output)
    cut = bool(strikes.on_pod(life, "server") or _init_was_killed(life, strikes)) or life.code not in own_codes(life)
    cut = cut or (life.work.waits and life.grace_s == 0)
    kills = len(strikes.during(life, "containerd"))
    if problem := _problem(seen, cut=cut, kills=kills, unread=unread):
        found.wrong["lost output"] = problem
    elif seen.lost and not cut:
        found.apart["output lost in a killed containerd"] = str(seen.lost)


def complete(life: Life) -> bool:
    """Whether the log has all of the container's output."""
    return not read(life.container.log, life.work.output).lost


def _problem(seen: Seen, *, cut: bool, kills: int, unread: int) -> str:
    """What is wrong, or "".

    `cut`: the end may be missing; `kills`: how often containerd was killed; `unread`: bytes that it left in the FIFO.
    """
    if seen.alien:
        return f"not of this container, or twice: {seen.alien!r}"
    if sum(seen.gaps) > UNWRITTEN * kills or len(seen.gaps) > kills:
        return f"missing in the middle: {seen.gaps} bytes, containerd killed {kills} times"
    if seen.tail and not cut and (seen.tail > UNWRITTEN * kills + unread or len(seen.gaps) >= kills):
        return f"missing at the end: {seen.tail} bytes"
    return ""


def poststop(life: Life, strikes: Strikes, ran: int, *, where: str) -> tuple[str, str]:
    """What is wrong with how often a poststop hook of the container ran, or ""; and what is noted apart.

    It runs exactly once; not at all only if it is not owed, or if a fault ended it after it had begun.
    """
    if ran > 1:
        return f"{where} poststop hook ran {ran} times", ""
    if ran or life.started != YES or not life.rich:
        return "", ""
    met = [*strikes.on_pod(life, "server"), *strikes.on_container(life, "runner")]
    if any((life.container.id, where) in strike.begun for strike in met):
        return "", "poststop hook that a fault met when it had begun"
    if where == "container" and any(strikes.on_container(life, kind) for kind in ("oci", "runner", "command")):
        return "", "poststop hook in a container, ended by a fault"
    return f"{where} poststop hook did not run", ""

"""What a fault may cost. Nothing else is excused, and both shims are judged by this alone.

server          A pod's server is killed: its containers end with 137 unless they had ended before, and the end of their
                output may be missing. Where containerd asked the dead server first, it tells 255; a poststop hook that
                its record says has begun does not run again: both counted apart.
runner          What runs poststop hooks after a dead server is killed: beside what the dead server costs, a hook of the
                container does not run again that its record says has begun, and none in the container, whose root file
                system was mounted for the runner alone: counted apart.
init            PID 1 of a container is killed: it ends with 137, and the end of its output may be missing.
oci             An OCI runtime is killed: the call that it worked for fails; if it has just become the container's init,
                as `init`. If it ran a poststop hook in a container, that does not run: counted apart.
command         The shim's `start` or `delete` is killed: of `start`, the pod does not start; of `delete`, what it had
                not done yet may stay, as containerd does not call it again, and unmounts the root file system that a
                poststop hook in the container would have had: counted apart. Where its log tells that it could not
                start one, the same; where it has killed one after five seconds itself, only the bundle may stay.
containerd      containerd is killed and started again: the calls under way fail. At most 64 KiB of a container's output
                that it had read and not written are missing, and what was in the FIFO of one that had ended meanwhile,
                which containerd closes unread (its log says so); an exit that it had been told, and not noted, it tells
                as 255; a network namespace, a mount of a sandbox's /dev/shm or a renamed bundle may stay. All of that
                is containerd's own, and counted apart.
disk            Nothing can be written where containerd and the shim keep their files: calls fail, and any part of the
                output may be missing, which is containerd's to write. A pod's server that containerd gives up because
                it cannot write down its address is never deleted; if it is killed, too, before it has gone by itself,
                its socket stays: counted apart.
spawner, prefork, stop-server, stop-spawner, stop-oci, consumer
                Nothing.

A Start that failed may have happened or not: then the container ends as it would have, with 128, 137 or 255, or has
not begun. A stop with less than 30 s makes 137 of an exit code on a busy machine. An exec in a container that ends
meanwhile ends with 137, or with 143 by an init that ends what is left before it powers off. Every call is answered in a
minute, every exit is told within a minute of the last fault, and everything is gone within 90 s.
"""

from dataclasses import dataclass, field

from hack.chaos.life import NO, OPEN, YES, Life, Strikes
from hack.chaos.output import Seen, read

KILLED, TERMINATED, UNKNOWN, START_FAILED = 137, 143, 255, 128
UNWRITTEN = 64 << 10
"""Bytes that containerd may have read and not written yet: its copying buffers of 32 KiB, and its line buffer."""

UNREAD = 64 << 10
"""Bytes that a FIFO holds (pipe(7))."""


@dataclass
class Verdict:
    """What is wrong with a container, by kind; `apart` is what the law allows and is counted all the same."""

    wrong: dict[str, str] = field(default_factory=dict)
    apart: dict[str, str] = field(default_factory=dict)


def judge(life: Life, strikes: Strikes, *, told: frozenset[int] = frozenset(), left_unread: bool = False) -> Verdict:
    """The container's exit, output and execs.

    `told` are the exit codes that containerd has heard from the shim, `left_unread` is whether it says that it has
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
    """How an exec ends that the container's end ends."""
    return frozenset({KILLED, TERMINATED} if life.mode in ("systemd", "sbin-init") else {KILLED})


def _may_end(life: Life, strikes: Strikes) -> bool:
    """Whether the container may end while an exec runs in it, which ends that one too."""
    return not life.work.waits or bool(strikes.on_pod(life, "server") or _init_was_killed(life, strikes))


def own_codes(life: Life) -> frozenset[int]:
    """The exit codes that are right when no fault met the container."""
    return life.work.codes(life.grace_s)


def codes(life: Life, strikes: Strikes) -> frozenset[int]:
    """All exit codes that are right."""
    allowed = own_codes(life)
    if strikes.on_pod(life, "server"):
        allowed |= {KILLED, UNKNOWN}
    if _init_was_killed(life, strikes):
        allowed |= {KILLED}
    if life.started == OPEN:
        allowed |= {START_FAILED, KILLED, UNKNOWN}
    return allowed


def _init_was_killed(life: Life, strikes: Strikes) -> bool:
    """Also by who meant an OCI runtime: a container's init has its command line until it is started."""
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

    `cut` is whether the end may be missing, `kills` how often containerd was killed, `unread` what it left in the FIFO.
    """
    if seen.alien:
        return f"not of this container, or twice: {seen.alien!r}"
    if sum(seen.gaps) > UNWRITTEN * kills or len(seen.gaps) > kills:
        return f"missing in the middle: {seen.gaps} bytes, containerd killed {kills} times"
    if seen.tail and not cut and (seen.tail > UNWRITTEN * kills + unread or len(seen.gaps) >= kills):
        return f"missing at the end: {seen.tail} bytes"
    return ""


def poststop(life: Life, strikes: Strikes, ran: int, *, where: str) -> tuple[str, str]:
    """What is wrong with the number of times that a poststop hook of the container ran, or "", and what is noted apart.

    It runs once; not more, and less only where it is not owed, or was begun and ended by a fault.
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

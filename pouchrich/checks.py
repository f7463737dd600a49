"""The checks of `pouchrich doctor`, except those of containerd's configuration: one function per area."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from pouchrich import owed, unit_agents
from pouchrich.containers import SHORT, Container, annotations, every
from pouchrich.program import failure
from pouchrich.survey import Survey
from runtime import host, inotify, libexec, paths
from runtime.agents.cgroup import has_v2_memory
from runtime.config import Config
from runtime.config.annotations import PREFIX
from runtime.errors import PouchrichError
from runtime.linux import mountinfo, pidfd, syscalls
from runtime.oci.choose import choose
from runtime.rich import lxcfs
from runtime.spec.cri import CONTAINER_NAME, SANDBOX_ID
from shim.spawner import launch
from shim.task.application.app_exit import ExitStatusSource, exit_status_source

OK, WARN, FAIL = "ok", "warn", "fail"
SHIM = "containerd-shim-pouchrich-v2"
_TIMEOUT_S = 5.0
_LONGEST_LEASE_S = 1
_FEW_PODS = 110
"""The kubelet's default limit of pods on a node."""
_MANY_DESCRIPTORS = "find the processes with very many entries in /proc/PID/fd, and end them or limit their descriptors"


@dataclass(frozen=True, slots=True)
class Check:
    """One line: `level`, what was checked and found, and advice if it is not OK."""

    level: str
    what: str
    found: str
    advice: str = ""


def kernel() -> Iterator[Check]:
    """The system calls that the shim needs, and how it will learn an application's exit status."""
    release = os.uname().release
    for name, call, since in (("pidfd_open", _pidfd_open, "5.3"), ("openat2", _openat2, "5.6")):
        try:
            call()
        except OSError as err:
            yield Check(FAIL, name, f"{err.strerror} on {release}", f"boot Linux {since} or later")
        else:
            yield Check(OK, name, f"works on {release}")
    peer = "SO_PEERPIDFD" if _has_peer_pidfd() else "SO_PEERCRED and pidfd_open (SO_PEERPIDFD needs Linux 6.5)"
    yield Check(OK, "launcher's identity", f"by {peer}")
    yield _exit_status()


def _pidfd_open() -> None:
    os.close(os.pidfd_open(os.getpid()))


def _openat2() -> None:
    root = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        os.close(syscalls.openat2(root, "proc", os.O_PATH, 0, syscalls.RESOLVE_IN_ROOT))
    finally:
        os.close(root)


def _has_peer_pidfd() -> bool:
    one, other = socket.socketpair(socket.AF_UNIX)
    with one, other:
        try:
            found = pidfd.peer_pidfd(one)
        except OSError:
            return False
        if found is not None:
            os.close(found)
        return found is not None


def _exit_status() -> Check:
    what = "exit status of applications"
    try:
        source = exit_status_source()
    except OSError as err:
        return Check(FAIL, what, f"{err.strerror}", "the kernel does not let a process be probed")
    if source is ExitStatusSource.LAUNCHER_PARENT:
        advice = "works, with one more process a container; the process connector needs CONFIG_PROC_EVENTS and root"
        return Check(WARN, what, f"{source.value}: neither pidfd exit information nor the process connector", advice)
    return Check(OK, what, f"by {source.value}")


def cgroups() -> Iterator[Check]:
    """Whether the host's cgroup layout suits modes systemd and sbin-init."""
    try:
        found = host.read()
    except OSError as err:
        yield Check(FAIL, "cgroups", f"{err.filename}: {err.strerror}", "mount /proc")
        return
    if found.cgroups == "unified" and found.nsdelegate:
        yield Check(OK, "cgroups", "v2 with nsdelegate")
    elif found.cgroups == "unified":
        advice = "works, with one more cgroup for limits; mount -o remount,nsdelegate /sys/fs/cgroup avoids that"
        yield Check(WARN, "cgroups", "v2 without nsdelegate", advice)
    else:
        at = f", name=systemd at {found.named}" if found.named else ", no name=systemd hierarchy"
        advice = "agents have no memory limit of their own on v1: boot the node with cgroup v2"
        yield Check(OK if found.cgroups == "hybrid" else WARN, "cgroups", f"{found.cgroups}{at}", advice)
    memory = "can have a memory limit of its own" if has_v2_memory() else "shares the pod's memory limit (cgroup v1)"
    yield Check(OK, "agents", f"each {memory}")


def watching(proc: str = "/proc") -> Iterator[Check]:
    """The inotify limits for root, which all systemd pods share."""
    used = inotify.used(proc=proc)
    for name, count in ((inotify.INSTANCES, used.instances), (inotify.WATCHES, used.watches)):
        most = inotify.limit(name, proc=proc)
        if most is None:
            yield Check(WARN, name, "not known", "mount /proc")
            continue
        found = f"{most}, {used.describe(count)}"
        lines = "; ".join(inotify.drop_in().strip().splitlines())
        advice = f"write to {inotify.DROP_IN}: {lines}; then sysctl --system"
        if name == inotify.INSTANCES:
            room = max(0, (most - count - inotify.RESERVE) // inotify.PER_SYSTEMD)
            most_room = room if used.is_whole else f"at most {room}"
            found += f": room for {most_room} more systemd pods, and for the node's daemons to restart"
            few = room < _FEW_PODS
        else:
            few = most - count < most // 10
        advice = advice if few else "" if used.is_whole else _MANY_DESCRIPTORS
        yield Check(WARN if advice else OK, name, found, advice)


def oci(config: Config, *, search: str | None = None) -> Iterator[Check]:
    """Which OCI runtime is used, why, and whether it works. `search` is containerd's PATH, None for this process's."""
    try:
        path, reason = choose(config.runtime.binary or "", source=f"{config.source}: runtime.binary", path=search)
    except PouchrichError as err:
        yield Check(FAIL, "OCI runtime", str(err), "install crun or runc, or set runtime.binary")
        return
    try:
        answer = subprocess.run([path, "--version"], capture_output=True, timeout=_TIMEOUT_S, check=True)
    except (OSError, subprocess.SubprocessError) as err:
        yield Check(FAIL, "OCI runtime", f"{path} --version: {failure(err)}", "reinstall this OCI runtime")
        return
    version = answer.stdout.decode(errors="replace").splitlines()[:1]
    yield Check(OK, "OCI runtime", f"{path} ({''.join(version)}): {reason}")


def helpers(*, search: str | None = None, named: Sequence[str] = ()) -> Iterator[Check]:
    """The static binaries that are bind-mounted into containers, and the shim itself.

    `search` as for `oci`; `named` are the shim's paths in handlers.
    """
    for name in ("dumb-init", "launch"):
        try:
            yield Check(OK, name, libexec.path(name))
        except PouchrichError as err:
            found, _, advice = str(err).partition(": run ")
            yield Check(FAIL, name, found, f"run {advice}")
    executable = (one for one in named if os.access(one, os.X_OK))
    path = shutil.which(SHIM, path=search) or next(executable, None)
    if path is not None:
        yield Check(OK, "shim", path)
    else:
        advice = "put the shim on containerd's PATH, or set runtime_path in the handler"
        yield Check(WARN, "shim", f"{SHIM} is not on PATH", advice)


def leases(config: Config, path: str = "/proc/sys/fs/lease-break-time") -> Iterator[Check]:
    """How long root in a container can block others by a lease on a shared file of the node (fcntl(2))."""
    shared = sorted({mount.source for agent in config.agents for mount in agent.mounts})
    if config.rich.lxcfs is not False and lxcfs.is_mounted(mountinfo.around(lxcfs.MOUNT)):
        shared.append(lxcfs.MOUNT)
    if not shared:
        return
    with open(path) as file:
        seconds = int(file.read(16))
    words = f"who opens a file of {', '.join(shared)} may wait for {seconds} s for a lease of root in a container"
    if seconds <= _LONGEST_LEASE_S:
        yield Check(OK, "leases", words)
    else:
        yield Check(WARN, "leases", words, f"sysctl -w fs.lease-break-time={_LONGEST_LEASE_S}, and in /etc/sysctl.d")


def spawner(config: Config, directory: str = paths.RUN) -> Iterator[Check]:
    """The running spawners, and whether the configuration allows them."""
    if not config.spawner.enabled:
        yield Check(OK, "spawner", f"turned off ({config.source_of('spawner.enabled')})")
        return
    try:
        found = os.stat(directory, follow_symlinks=False)
        names = sorted(name for name in os.listdir(directory) if name.startswith("spawner-"))
    except FileNotFoundError:
        yield Check(OK, "spawner", "none yet; the first container starts one")
        return
    if found.st_uid != 0 or found.st_mode & 0o022:
        owner = f"found uid {found.st_uid} and mode {found.st_mode & 0o7777:04o}, allowed uid 0 and mode 0755 or less"
        yield Check(FAIL, directory, owner, f"chown root {directory} && chmod 0711 {directory}")
        return
    room = os.statvfs(directory)
    if room.f_flag & os.ST_RDONLY or not room.f_bavail:
        why = "it is mounted read-only" if room.f_flag & os.ST_RDONLY else "its filesystem is full"
        yield Check(
            FAIL, directory, f"no spawner can start: {why}", "correct that; until then each pod uses 18 MiB more"
        )
    for name in names:
        if name.endswith(launch.REFUSED_SUFFIX):
            why = launch.read_refusal(f"{directory}/{name.removesuffix(launch.REFUSED_SUFFIX)}")
            yield Check(
                WARN,
                "spawner",
                f"the last one could not start: {why}",
                "correct that; until then each pod uses 18 MiB more",
            )
    pids = [_lock_holder(f"{directory}/{name}") for name in names if name.endswith(".lock")]
    alive = [str(pid) for pid in pids if pid and os.path.exists(f"/proc/{pid}")]
    dead = len(pids) - len(alive)
    if dead:
        yield Check(
            WARN, "spawner", f"{dead} of {len(pids)} were killed", "nothing to do: the next container starts another"
        )
    if alive or not dead:
        words = f"alive, pid {', '.join(alive)}" if alive else "none now; the next container starts one"
        yield Check(OK, "spawner", words)


def containers(root: str) -> Iterator[Check]:
    """The warnings in the plans of existing rich containers, and the containers' problems."""
    left_out: list[str] = []
    found = every(root=root, left_out=left_out.append)
    for text in left_out:
        yield Check(WARN, "rich containers", text, "use the pouchrich of the version that created it")
    yield from _unclaimed(found)
    for one in found:
        try:
            warnings = one.plan.warnings
        except PouchrichError as err:
            yield Check(WARN, one.label, f"its plan was made by another version of the shim: {err}", "")
            continue
        for warning in warnings:
            yield Check(WARN, one.label, warning, f"pouchrich explain {one.id[:SHORT]} shows the whole plan")
    for seen in Survey().look(found):
        for problem in seen.problems:
            yield Check(WARN, seen.container.label, problem, unit_agents.advice(seen.container, problem))
    yield Check(OK, "rich containers", str(len(found)))


def _unclaimed(found: Sequence[Container]) -> Iterator[Check]:
    """Annotations that name a container which their pod does not have."""
    named: dict[str, set[str]] = {}
    for state in {os.path.dirname(one.bundle) for one in found}:
        for container_id in os.listdir(state):
            about = annotations(f"{state}/{container_id}")
            named.setdefault(about.get(SANDBOX_ID, ""), set()).add(about.get(CONTAINER_NAME, ""))
    told = set()
    for one in found:
        about = annotations(one.bundle)
        sandbox = about.get(SANDBOX_ID, "")
        for name in sorted(about):
            whose = name.removeprefix(PREFIX).partition(".")[2] if name.startswith(PREFIX) else ""
            if sandbox and whose and whose not in named[sandbox] and (sandbox, name) not in told:
                told.add((sandbox, name))
                pod = one.label.rpartition("/")[0]
                now = _listed(named[sandbox])
                words = f"annotation {name} is for none of the containers that the pod has now: {now}"
                yield Check(WARN, pod, words, "correct the name; an init container that has ended no longer counts")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(filter(None, names)))


def _lock_holder(path: str) -> int:
    try:
        with open(path) as file:
            return int(file.read(32).partition(" ")[0] or 0)
    except (OSError, ValueError):
        return 0


def hooks(records: str) -> Iterator[Check]:
    """Owed poststop hooks that no process is about to run."""
    found = list(owed.read(records))
    for one in found:
        waiting = [hook.label for hook in one.hooks if hook.state == "owed"]
        cut = [hook.label for hook in one.hooks if hook.state == "started"]
        if one.holder or not (waiting or cut):
            continue
        when = "is of an earlier boot" if one.before_boot else "is there and no process acts on it"
        words = f"{one.namespace}/{one.id}: owed {', '.join(waiting) or 'none'}, interrupted {', '.join(cut) or 'none'}"
        advice = "start any container" if one.before_boot else "containerd's delete or a later pod's start settles them"
        yield Check(WARN, "poststop hooks", f"{words}: {one.path} {when}", advice)
    held = sum(1 for one in found if one.holder)
    yield Check(OK, "poststop hooks", f"{len(found)} records, {held} of them held by a running process")

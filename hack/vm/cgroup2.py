"""Checks of a pure cgroup v2 host: run in the guest by `init`, one line per check (`guest`).

Exit status 1 if a check failed.
"""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from guest import (
    LIMIT,
    LOGS,
    MIB,
    OCIS,
    PREFIX,
    TOP,
    Container,
    check,
    configured,
    equal,
    of,
    run,
    run_checks,
    text,
    until,
)

from runtime.agents import cgroup as agent_cgroup

LESS = 160 * MIB
AGENT_LIMIT = 24 * MIB


def resources_hold(container: Container) -> None:
    """Check metrics, an update, and a pause."""
    own, limits = own_cgroup(container), limits_of(container)
    equal("memory.max", text(limits / "memory.max"), str(LIMIT))
    found = container.metrics()
    equal("memory limit in the metrics", found.get("memory.usage_limit"), text(own / "memory.max"))
    check("processor time in the metrics", int(found.get("cpu.usage_usec", 0)) > 0, found)
    check("processes in the metrics", int(found.get("pids.current", 0)) > 0, found)
    container.update({"memory": {"limit": LESS}, "pids": {"limit": 300}})
    equal("memory.max after an update", text(limits / "memory.max"), str(LESS))
    equal("pids.max after an update", text(limits / "pids.max"), "300")
    container.ctr("tasks", "pause", container.id)
    equal("status once paused", container.status(), "PAUSED")
    check("the kernel has frozen the cgroup", "frozen 1" in text(own / "cgroup.events"), text(own / "cgroup.events"))
    container.ctr("tasks", "resume", container.id)
    equal("status once resumed", container.status(), "RUNNING")
    equal("an exec after that", container.shell("echo $((6 * 7))"), "42")


class Placed(Protocol):
    @property
    def cgroup(self) -> Path: ...


def own_cgroup(container: Placed) -> Path:
    """The container's own cgroup: one level down if our limits are above it, and if crun uses a systemd scope."""
    below = (container.cgroup / name for name in ("pouchrich", "container"))
    return next((path for path in below if path.is_dir()), container.cgroup)


def limits_of(container: Placed) -> Path:
    """The cgroup with the effective limits."""
    own = own_cgroup(container)
    return own.parent if own.name == "pouchrich" else own


def oom(kind: type[Container], oci: str, mode: str, image: str, events: Path) -> None:
    with of(f"{oci} {mode} out of memory"):
        container = kind(f"oom-{mode}-{oci}", image, configured(oci, mode), "tail", "/dev/zero", memory=96 * MIB)
        equal("exit status", container.end(), 137)
        seen = until(lambda: re.search(f'/tasks/oom .*"{container.id}"', events.read_text()), 10)
        told = [line for line in events.read_text().splitlines() if container.id in line]
        check("containerd is told of it", seen, told)
        container.is_gone()


def agent(memory: int) -> str:
    command = json.dumps(["/bin/sh", "-c", "test -e /run/hog && rm /run/hog && exec tail /dev/zero; exec sleep 1000"])
    return f'[[agents]]\nname = "watcher"\ncommand = {command}\nmemory = {memory}\n'


def small(kind: type[Container], oci: str, mode: str) -> None:
    """Check a container without an init, or with one that makes no cgroups."""
    with of(f"{oci} {mode}"):
        short = kind(f"short-{mode}-{oci}", "systemd", configured(oci, mode), "/bin/sh", "-c", "exit 7")
        equal("exit status of a short one", short.end(), 7)
        short.is_gone()
        container = kind(f"{mode}-{oci}", "systemd", configured(oci, mode))
        equal("an exec's exit status", container.exec("/bin/sh", "-c", "exit 5").returncode, 5)
        resources_hold(container)
        tree_is_closed(container)
        equal("exit status after TERM", container.end("TERM"), 42)
        container.is_gone()


def tree_is_closed(container: Container) -> None:
    said = container.shell("echo max >/sys/fs/cgroup/memory.max && echo wrote; mkdir /sys/fs/cgroup/x && echo made")
    check("nothing of the tree can be written inside", "wrote" not in said and "made" not in said, said)


def has_nsdelegate() -> bool:
    line = next(line for line in Path("/proc/mounts").read_text().splitlines() if " /sys/fs/cgroup cgroup2 " in line)
    return "nsdelegate" in line


def systemd(kind: type[Container], oci: str) -> None:
    with of(f"{oci} systemd"):
        services = '[services]\nenable = ["cron", "rsyslog"]\n'
        container = kind(f"systemd-{oci}", "systemd", configured(oci, "systemd", services))
        own, limits = own_cgroup(container), limits_of(container)
        word = "the container's cgroup" if has_nsdelegate() else "one above the container's cgroup"
        check(f"the limits are on {word}", (own == limits) == has_nsdelegate(), str(own))
        until(lambda: "parent" in text(container.log))
        check(
            "the application's parent is PID 1, systemd", "parent systemd" in text(container.log), text(container.log)
        )
        equal("PID 1", container.shell("cat /proc/1/comm"), "systemd")
        equal("parent of the application", container.shell("ps -o ppid= -p $(pgrep -o legacyd)").strip(), "1")
        until(lambda: container.shell("systemctl is-system-running") not in ("starting", "initializing"))
        equal("systemd", container.shell("systemctl is-system-running"), "running")
        equal("services", container.shell("systemctl is-active cron rsyslog"), "active\nactive")
        equal(
            "PID 1's cgroup",
            text(Path(f"/proc/{container.pid()}/cgroup")),
            f"0::{str(own).removeprefix(str(TOP))}/init.scope",
        )
        equal("its cgroup as it sees it", container.shell("cat /proc/1/cgroup"), "0::/init.scope")
        equal("cgroup.max.descendants", text(limits / "cgroup.max.descendants"), "1024")
        equal("cgroup.max.depth", text(limits / "cgroup.max.depth"), "8")
        listed = text(own / "cgroup.controllers").split()
        check("it has the controllers", {"memory", "pids"} <= set(listed), listed)
        resources_hold(container)
        equal("cgroup.max.descendants after an update", text(limits / "cgroup.max.descendants"), "1024")
        said = container.shell("mkdir /sys/fs/cgroup/mine && rmdir /sys/fs/cgroup/mine && echo can")
        equal("root inside makes cgroups", said, "can")
        attack(container)
        equal("exit status after TERM", container.end("TERM"), 42)
        container.is_gone()


def attack(container: Container) -> None:
    """Let root in the container write to all cgroup files that it can; the limits must be out of its reach."""
    files = ("memory.max", "pids.max", "memory.high", "cpu.max", "cgroup.max.descendants", "cgroup.max.depth")
    before = {name: text(limits_of(container) / name) for name in files}
    said = container.shell("; ".join(f"echo max >/sys/fs/cgroup/{name} && echo wrote" for name in files))
    after = {name: text(limits_of(container) / name) for name in files}
    check("no limit changes when root inside writes to it", after == before, (before, after))
    if has_nsdelegate():
        check("each write is refused", "wrote" not in said, said)
    container.update({"memory": {"limit": LESS}})
    after = {name: text(limits_of(container) / name) for name in files}
    check("nor when an update comes after that", after == before, (before, after))
    said = container.shell("mount -t cgroup2 none /mnt && echo mounted")
    check("no other part of the tree can be mounted", "mounted" not in said, said)
    deep = "/".join("abcdefghijkl")
    said = container.shell(
        f"mkdir -p /sys/fs/cgroup/{deep} && echo made; find /sys/fs/cgroup/a -depth -type d -exec rmdir {{}} +"
    )
    check("no tree deeper than allowed", "made" not in said, said)


def agents_cgroup(container: Container) -> Path:
    return Path(agent_cgroup.path_of(str(own_cgroup(container)), "watcher"))


def agents(kind: type[Container], oci: str) -> None:
    for mode in ("systemd", "dumb-init"):
        limited_agent(kind, oci, mode)


def limited_agent(kind: type[Container], oci: str, mode: str) -> None:
    with of(f"{oci} {mode} agent"):
        container = kind(f"agent-{mode}-{oci}", "systemd", configured(oci, mode, agent(AGENT_LIMIT)))
        beside = agents_cgroup(container)
        until(lambda: text(beside / "cgroup.procs"), 60)
        equal("memory.max of the agent", text(beside / "memory.max"), str(AGENT_LIMIT))
        check("it is in its cgroup", text(beside / "cgroup.procs").isdigit(), text(beside / "cgroup.procs"))
        first = text(beside / "cgroup.procs")
        container.shell("touch /run/hog; pkill -f 'sleep 1000'")
        killed = until(lambda: re.search("oom_kill [1-9]", text(beside / "memory.events")), 60)
        check("an agent out of memory is killed", bool(killed), text(beside / "memory.events"))
        again = until(lambda: text(beside / "cgroup.procs") not in (first, ""), 60)
        check("and is started again", again, text(beside / "cgroup.procs"))
        said = text(own_cgroup(container) / "memory.events")
        check("the container counts no process killed for memory", "oom_kill 0" in said, said)
        equal("exit status of the application after that", container.end("TERM"), 42)
        container.is_gone()


def killed_shim(kind: type[Container], oci: str, mode: str) -> None:
    """Check that containerd cleans up with our `delete` command after the shim was killed."""
    with of(f"{oci} {mode} killed shim"):
        container = kind(f"killed-{mode}-{oci}", "systemd", configured(oci, mode, agent(AGENT_LIMIT)))
        if mode == "dumb-init":
            check("the agent has a cgroup", until(agents_cgroup(container).is_dir, 30))
        shim = int(text(Path(f"/proc/{container.pid()}/stat")).rpartition(")")[2].split()[1])
        os.kill(shim, signal.SIGKILL)
        check("containerd sees the end", until(container.has_ended), container.status())
        container.forget()
        container.is_gone(patience_s=10)  # the command may still be running


def sbin_init(kind: type[Container], oci: str) -> None:
    with of(f"{oci} sbin-init"):
        container = kind(f"sbin-init-{oci}", "sbin-init", configured(oci, "sbin-init"))
        until(lambda: "parent" in text(container.log))
        check("the application's parent is PID 1, init", "parent init" in text(container.log), text(container.log))
        equal("memory.max", text(limits_of(container) / "memory.max"), str(LIMIT))
        equal("an exec", container.shell("cat /proc/1/comm"), "init")
        tree_is_closed(container)
        equal("exit status after TERM", container.end("TERM"), 42)
        container.is_gone()


def doctor() -> None:
    with of("doctor"):
        program = str(PREFIX / "bin/pouchrich")
        handlers = Path("/etc/vm/handlers.toml")
        # containerd 1.x has the default handler runc only if its configuration names no other handler.
        runc = (
            '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]\nruntime_type = "io.containerd.runc.v2"\n'
        )
        handlers.write_text(f"version = 2\n{runc}" + run(program, "runtimeclass", "--containerd", "1").stdout)
        done = run(program, "doctor", "--containerd-config", str(handlers))
        print(done.stdout, done.stderr, flush=True)
        equal("its exit status", done.returncode, 0)
        wanted = "v2 with nsdelegate" if has_nsdelegate() else "v2 without nsdelegate"
        check(f"it says {wanted}", wanted in done.stdout, done.stdout)


def host() -> None:
    with of(f"{os.uname().release} {'with' if has_nsdelegate() else 'without'} nsdelegate"):
        controllers = text(TOP / "cgroup.subtree_control")
        check(f"controllers {controllers}", {"memory", "pids"} <= set(controllers.split()), controllers)


def lives(kind: type[Container], *, rest: Sequence[str] = OCIS) -> None:
    """Check all cases with both OCI runtimes; agents and killed shims only with those in `rest`."""
    events = LOGS / "events"
    with events.open("wb") as file:
        watcher = subprocess.Popen(["ctr", "--namespace", kind.NAMESPACE, "events"], stdout=file)
    for oci in OCIS:
        for mode in ("plain", "dumb-init"):
            small(kind, oci, mode)
            oom(kind, oci, mode, "systemd", events)
        systemd(kind, oci)
        oom(kind, oci, "systemd", "systemd", events)
        sbin_init(kind, oci)
        if oci in rest:
            agents(kind, oci)
            for mode in ("dumb-init", "systemd"):
                killed_shim(kind, oci, mode)
    watcher.terminate()
    watcher.wait()


def checks() -> None:
    host()
    lives(Container)
    doctor()


if __name__ == "__main__":
    sys.exit(run_checks(checks))

"""Checks of a current node: pure cgroup v2, containerd 2.1 with its CRI, Debian's newest kernel. Run as `cgroup2`.

The cases are those of `cgroup2`, in pods; and limits changed in place, and user namespaces.
"""

import os
import resource
import sys
from pathlib import Path

import cgroup2
import pods
from cgroup2 import limits_of, own_cgroup
from guest import (
    APPLICATION,
    IMAGES,
    INITS,
    LIMIT,
    LOGS,
    MIB,
    OCIS,
    TOP,
    Container,
    check,
    configured,
    equal,
    of,
    option,
    run,
    run_checks,
    text,
    until,
)
from pods import FIRST_ID, IDS, PodContainer

from tests.cri.gen import runtime_pb2 as pb

PERIOD = 100_000
TOLD = LOGS / "told"


def versions() -> None:
    with of("versions"):
        found = [run(*words).stdout.split() for words in (("containerd", "-v"), ("crun", "-v"), ("runc", "-v"))]
        said = [found[0][2], found[1][2], found[2][2], os.uname().release]
        print("     containerd {}, crun {}, runc {}, Linux {}".format(*said), flush=True)
        check("containerd is 2.1 or later", tuple(map(int, said[0].split("~")[0].split(".")[:2])) >= (2, 1), said[0])


def nested(container: Container, name: str) -> set[str]:
    """The contents of the file `name` in each cgroup that systemd has made inside."""
    return {text(path) for path in own_cgroup(container).rglob(name) if path.parent != own_cgroup(container)}


LOWERED = """
[[hooks.prestart]]
name = "lower"
where = "container"
command = ["/bin/sh", "-c", "prlimit --pid 1 --nofile=1000:1000"]
"""


def limited(kind: type[Container], oci: str, mode: str) -> None:
    """Check that the application has the node's hard limits although PID 1 has lowered its own, as old systemds do."""
    with of(f"{oci} {mode} limits"):
        config = configured(oci, mode, LOWERED)
        container = kind(f"limited-{mode}-{oci}", IMAGES[mode], config, "/bin/sh", "-c", f"ulimit -Hn; {APPLICATION}")
        check("the application runs", until(lambda: "ready" in text(container.log)), text(container.log))
        equal("PID 1's hard limit", resource.prlimit(container.pid(), resource.RLIMIT_NOFILE)[1], 1000)
        ours = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        check("the application's", str(ours) in text(container.log).split(), f"{ours}: {text(container.log)}")
        equal("exit status after TERM", container.end("TERM"), 42)
        container.is_gone()


def resized(kind: type[Container], oci: str, mode: str) -> None:
    """Check repeated resizes to more and to less; then a process in a nested cgroup hits the last limit."""
    with of(f"{oci} {mode} resized in place"):
        container = kind(f"resized-{mode}-{oci}", IMAGES[mode], configured(oci, mode), "/bin/sh", "-c", APPLICATION)
        until(lambda: "ready" in text(container.log))
        pid, limits = container.pid(), limits_of(container)
        equal("memory.max where the application is", shown_to(container, "memory.max"), str(LIMIT))
        found = set()
        for percent, memory in ((150, LIMIT + 64 * MIB), (20, LIMIT), (200, LIMIT + 32 * MIB), (80, 128 * MIB)):
            container.update({"memory": {"limit": memory}, "cpu": {"quota": percent * 1000, "period": PERIOD}})
            said = text(limits / "memory.max"), text(limits / "cpu.max")
            found.add(said == (str(memory), f"{percent * 1000} {PERIOD}") or said)
            shown = shown_to(container, "memory.max"), shown_to(container, "cpu.max")
            found.add(shown == said or ("shown to the application", shown))
        equal("what the kernel has after each of four resizes as asked", found, {True})
        equal("PID 1 is the one of before", container.pid(), pid)
        if mode == "systemd":
            container.shell("systemctl daemon-reload")
            equal("memory.max of the cgroups inside", nested(container, "memory.max"), {"max"})
            values = nested(container, "cpu.max") - {f"max {PERIOD}"}
            equal("cpu.max of the cgroups inside, where it has another than max", values, set())
            equal("cgroup.max.descendants, which the node set", text(limits / "cgroup.max.descendants"), "1024")
            equal("memory.max as seen inside", container.shell("cat /sys/fs/cgroup/memory.max"), own_limit(container))
            hog = "systemd-run --quiet --wait -p MemorySwapMax=0 tail /dev/zero; echo $?"
        else:
            hog = "tail /dev/zero; echo $?"
        before = kills(container)
        said = container.shell(hog).split()[-1:]
        check("a process over the last limit does not live", said not in (["0"], []), said)
        check("by the kernel, for that limit", kills(container) > before, text(limits / "memory.events"))
        check("peak of memory is within it", int(text(limits / "memory.current")) <= 128 * MIB)
        equal("exit status after TERM", container.end("TERM"), 42)
        container.is_gone()


def shown_to(container: Container, name: str) -> str:
    """The content of the file `name` in the cgroup of the application's child, where a language runtime looks."""
    for found in Path("/proc").glob("[0-9]*/cgroup"):
        at = TOP / text(found).removeprefix("0::/")
        if at.is_relative_to(own_cgroup(container)) and text(found.with_name("comm")) == "sleep":
            return text(at / name)
    return "there is no application"


def own_limit(container: Container) -> str:
    return text(own_cgroup(container) / "memory.max")


def kills(container: Container) -> int:
    words = text(limits_of(container) / "memory.events").split()
    return int(words[words.index("oom_kill") + 1])


def teller(stage: str) -> str:
    script = f"cat /proc/self/uid_map | tr -s ' ' >/told/{stage}; stat -c %u /told/{stage} >>/told/{stage}"
    return f'[[hooks.{stage}]]\nname = "teller"\nwhere = "container"\ncommand = ["/bin/sh", "-c", "{script}"]\n'


def mapped(oci: str, mode: str) -> None:
    """Check `hostUsers: false`."""
    with of(f"{oci} {mode} user namespace"):
        TOLD.mkdir(exist_ok=True)
        os.chown(TOLD, FIRST_ID, FIRST_ID)
        more = pb.ContainerConfig(mounts=[pb.Mount(host_path=str(TOLD), container_path="/told")])
        config = configured(oci, mode, "" if mode == "plain" else teller("prestart") + teller("poststop"))
        command = "/bin/sh", "-c", APPLICATION
        container = PodContainer(f"mapped-{mode}-{oci}", IMAGES[mode], config, *command, mapped=True, more=more)
        check("the application runs", until(lambda: "ready" in text(container.log)), text(container.log))
        uids = f"0 {FIRST_ID} {IDS}"
        equal("uid_map", container.shell("cat /proc/self/uid_map").split(), uids.split())
        if mode in INITS:
            equal("PID 1", container.shell("cat /proc/1/comm"), INITS[mode])
        equal("PID 1's user on the host", os.stat(f"/proc/{container.pid()}").st_uid, FIRST_ID)
        if mode == "systemd":
            until(lambda: container.shell("systemctl is-system-running") not in ("starting", "initializing"))
            equal("failed units", container.shell("systemctl list-units --failed --plain --no-legend"), "")
            equal("systemd", container.shell("systemctl is-system-running"), "running")
            said = container.shell("mkdir /sys/fs/cgroup/mine && rmdir /sys/fs/cgroup/mine && echo can")
            equal("root inside makes cgroups", said, "can")
        container.update({"memory": {"limit": LIMIT + MIB}, "cpu": {"quota": 50_000, "period": PERIOD}})
        equal("memory.max after a resize", text(limits_of(container) / "memory.max"), str(LIMIT + MIB))
        said = container.shell("echo max >/sys/fs/cgroup/memory.max; cat /sys/fs/cgroup/memory.max")
        equal("nor does root inside change it", text(limits_of(container) / "memory.max"), str(LIMIT + MIB))
        equal("exit status after TERM", container.end("TERM"), 42)
        for stage in ("prestart", "poststop") if mode in INITS else ():
            told = text(TOLD / stage).split()
            equal(f"uid_map of the {stage} hook, and its file's owner as it sees it", told, [*uids.split(), "0"])
            equal("that owner on the host", (TOLD / stage).stat().st_uid, FIRST_ID)
            (TOLD / stage).unlink()
        container.is_gone()


def checks() -> None:
    versions()
    cgroup2.host()
    cases = option("cases", "lives,resized,limited,mapped")
    if "lives" in cases:
        cgroup2.lives(PodContainer, rest=["crun"])
    for oci in OCIS:
        for mode in INITS if "resized" in cases else ():
            resized(PodContainer, oci, mode)
        for mode in ("systemd", "sbin-init") if "limited" in cases else ():
            limited(PodContainer, oci, mode)
        for mode in ("plain", *INITS) if "mapped" in cases else ():
            mapped(oci, mode)


if __name__ == "__main__":
    sys.exit(run_checks(checks, configuration=pods.both_ways()))

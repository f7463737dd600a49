"""Checks what `rich.cgroup = "delegate"` gives a container on a pure cgroup v2 host, and what not: run as `cgroup2`.

The hierarchy is first mounted with nsdelegate, and then without, because any privileged pod may remount it so.
"""

import subprocess
import sys

from cgroup2 import LESS, attack, has_nsdelegate, limits_of, own_cgroup, resources_hold
from guest import OCIS, PREFIX, TOP, Container, check, configured, equal, of, run, run_checks, text

DELEGATE = 'cgroup = "delegate"\ncgroup-descendants = 20\n'
MINE = "/sys/fs/cgroup/mine"
NEEDED = "cpu", "memory", "pids"


def usable(container: Container) -> None:
    """Check that the container can make a cgroup, limit it, and put processes into it."""
    said = container.shell("cat /sys/fs/cgroup/cgroup.subtree_control").split()
    check("controllers are enabled for what is below", set(NEEDED) <= set(said), said)
    equal(
        "all in a file of its own", container.shell(f"mkdir {MINE} && echo 32M >{MINE}/memory.max && echo can"), "can"
    )
    equal("its limit", container.shell(f"cat {MINE}/memory.max"), str(32 << 20))
    inside = f"echo $$ >{MINE}/cgroup.procs && cat /proc/self/cgroup"
    equal("a process in it", container.shell(inside), "0::/mine")
    killed = container.exec("/bin/sh", "-c", f"echo $$ >{MINE}/cgroup.procs; exec tail /dev/zero").returncode
    equal("exit status of a process above the limit", killed, 137)
    nested = f"echo +memory >{MINE}/cgroup.subtree_control && mkdir {MINE}/below && cat {MINE}/below/memory.max"
    equal("limits one level below", container.shell(nested), "max")
    equal("and away again", container.shell(f"rmdir {MINE}/below {MINE} && echo gone"), "gone")


def counted(container: Container) -> None:
    """Check that the operator's command sees what runs beside PID 1's cgroup."""
    beside = f"sleep 4321 >/dev/null 2>&1 & mkdir {MINE} && echo $! >{MINE}/cgroup.procs && echo $!"
    pid = container.shell(beside)
    done = run(str(PREFIX / "bin/pouchrich"), "inspect", "--json", container.name)
    check("inspect counts a process beside PID 1's cgroup", "sleep 4321" in done.stdout, done.stdout + done.stderr)
    equal(
        "and it is gone", container.shell(f"kill {pid}; until rmdir {MINE}; do :; done 2>/dev/null; echo gone"), "gone"
    )


def bounded(container: Container) -> None:
    limits = limits_of(container)
    equal("cgroup.max.descendants", text(limits / "cgroup.max.descendants"), "20")
    equal("cgroup.max.depth", text(limits / "cgroup.max.depth"), "8")
    many = "n=0; while mkdir /sys/fs/cgroup/m$n 2>/dev/null; do n=$((n+1)); done; rmdir /sys/fs/cgroup/m[0-9]*; echo $n"
    said = container.shell(many)
    check("no more cgroups than allowed", said.isdigit() and 10 < int(said) < 20, said)
    attack(container)
    said = container.shell("ls /sys/fs/cgroup/.. >/dev/null; echo $$ >/sys/fs/cgroup/../cgroup.procs && echo moved")
    cgroup = text(own_cgroup(container) / "cgroup.procs")
    check("nothing leaves for above", cgroup == "", (said, cgroup))


def whole(oci: str, mode: str, image: str) -> None:
    container = Container(f"{mode}-{oci}", image, configured(oci, mode, DELEGATE))
    own, limits = own_cgroup(container), limits_of(container)
    check("the limits are where they belong", (own == limits) == has_nsdelegate(), (str(own), str(limits)))
    equal("PID 1's cgroup as it sees it", container.shell("cat /proc/1/cgroup"), "0::/app")
    equal("an exec's", container.shell("cat /proc/self/cgroup"), "0::/app")
    counted(container)
    usable(container)
    resources_hold(container)
    bounded(container)  # its update sets the same value as the last one above
    equal("memory.max after that", text(limits / "memory.max"), str(LESS))
    usable(container)
    equal("exit status after TERM", container.end("TERM"), 42)
    container.is_gone()


def without_nsdelegate(*, now: bool) -> None:
    options = "memory_recursiveprot" if now else "memory_recursiveprot,nsdelegate"
    subprocess.run(["mount", "-o", f"remount,{options}", "cgroup2", str(TOP)], check=True)  # else these stay
    check(f"nsdelegate is {'gone' if now else 'there'}", has_nsdelegate() != now)


def refused_by_form(oci: str) -> None:
    """Check the refusal with a systemd scope, which cannot have another level above it."""
    config = configured(oci, "dumb-init", DELEGATE).replace("[rich]", "systemd-cgroup = true\n[rich]")
    name = f"scope-{oci}"
    with open(f"/etc/vm/{name}.toml", "w") as file:
        file.write(f"version = 1\n{config}")
    kind = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", f"/etc/vm/{name}.toml")
    done = run("ctr", "run", "--detach", *kind, "--cgroup", f"system.slice:vm:{name}", "systemd", name, "true")
    check("a scope is refused with the reason", "without nsdelegate" in done.stderr, done.stderr)
    run("ctr", "containers", "rm", name)


def checks() -> None:
    for oci in OCIS:
        for mode, image in (("dumb-init", "systemd"), ("sbin-init", "sbin-init")):
            with of(f"{oci} {mode} delegate"):
                whole(oci, mode, image)
    without_nsdelegate(now=True)
    for oci in OCIS:
        with of(f"{oci} dumb-init delegate without nsdelegate"):
            whole(oci, "dumb-init", "systemd")
        with of(f"{oci} delegate without nsdelegate"):
            refused_by_form(oci)
    without_nsdelegate(now=False)


if __name__ == "__main__":
    sys.exit(run_checks(checks))

"""A node made of files: bundles with an index of them, a /proc and a cgroup v2 tree."""

import json
from dataclasses import dataclass, field
from pathlib import Path

from runtime import index
from runtime.init.boot import Boot, RunFile
from runtime.rich.plan import Plan
from runtime.rich.policy import Decision
from runtime.spec.edit import Edit, Step
from tests.plans import recorded

OCI = {"path": "/usr/bin/crun", "root": "/run/pouchrich/runtime/k8s.io", "systemd_cgroup": False}
DUMB = Plan(
    True,
    "dumb-init",
    (Decision("rich", "true", "built in"), Decision("mode", "dumb-init", "annotation pouchrich.io/mode")),
    ("one warning",),
    (Step("process-args", "dumb-init is PID 1", Edit("with_args", ["/run/pouchrich/dumb-init", "--", "app"])),),
)
SYSTEMD = Plan(
    True,
    "systemd",
    (Decision("rich", "true", "built in"), Decision("mode", "systemd", "/etc/c.toml: rich.mode")),
    boot=Boot("systemd", 38, (RunFile("app.service", "[Service]\nExecStart=x\n"),)),
)


@dataclass
class Node:
    """The directories, and how to fill them."""

    top: Path
    pids: dict = field(default_factory=dict)

    @property
    def proc(self):
        return str(self.top / "proc")

    @property
    def index(self):
        return str(self.top / "index")

    def bundle(self, container_id, plan, *, namespace="k8s.io", annotations=(), init=0, **notes):
        """A container's bundle; `notes` are further files of JSON, by name."""
        path = self.top / "state" / namespace / container_id
        path.mkdir(parents=True)
        (path / "config.json").write_text(json.dumps({"annotations": dict(annotations)}))
        (path / "pouchrich.json").write_text(json.dumps({"version": 1, "oci": OCI, "plan": recorded(plan)}))
        if init:
            (path / "init.pid").write_text(str(init))
        for name, value in notes.items():
            (path / f"{name}.json").write_text(json.dumps(value))
        index.register(namespace, container_id, str(path), root=self.index)
        return path

    def process(self, pid, parent, name, *words, cgroup, ticks=0, children=0, started=1000, pages=256):
        """A process; again to change it. The cgroup is a path of the unified hierarchy."""
        directory = self.top / "proc" / str(pid)
        if not directory.exists():
            directory.mkdir()
            (directory / "root").symlink_to("/")
        times = [str(ticks), "0", str(children), "0"]
        fields = ["S", str(parent), *["0"] * 9, *times, *["0"] * 4, str(started), "0", "7", *["0"] * 20]
        (directory / "statm").write_text(f"9999 {pages} 0 0 0 0 0\n")
        (directory / "stat").write_text(f"{pid} ({name}) {' '.join(fields)}\n")
        (self.top / f"proc/{parent}/task/{parent}").mkdir(parents=True, exist_ok=True)
        children = self.top / f"proc/{parent}/task/{parent}/children"
        known = children.read_text().split() if children.exists() else []
        children.write_text(" ".join(dict.fromkeys([*known, str(pid)])) + " ")
        (directory / "cmdline").write_bytes(b"".join(word.encode() + b"\0" for word in words))
        (directory / "cgroup").write_text(f"0::{cgroup}\n")
        group = self.top / "cgroup" / cgroup.lstrip("/")
        group.mkdir(parents=True, exist_ok=True)
        self.pids.setdefault(group, set()).add(pid)
        (group / "cgroup.procs").write_text("".join(f"{one}\n" for one in sorted(self.pids[group])))

    def usage(self, cgroup, *, cpu_usec, memory, inactive=0):
        """What a cgroup has used."""
        group = self.top / "cgroup" / cgroup.lstrip("/")
        (group / "cpu.stat").write_text(f"usage_usec {cpu_usec}\nuser_usec 1\nsystem_usec 1\n")
        (group / "memory.current").write_text(f"{memory}\n")
        (group / "memory.stat").write_text(f"inactive_file {inactive}\n")


def machine(top):
    """A machine up for 100 s, whose only cgroup hierarchy is v2, below an empty directory."""
    (top / "proc/self").mkdir(parents=True)
    (top / "proc/uptime").write_text("100.00 300.00\n")
    mount = f"30 20 0:26 / {top}/cgroup rw - cgroup2 cgroup2 rw,nsdelegate\n"
    (top / "proc/self/mountinfo").write_text(mount)
    return Node(top)

"""AppArmor profiles in the guest: containerd's default, the checks' own ones, and which one a process has."""

import subprocess
from pathlib import Path

from guest import Container, text

DEFAULT = "cri-containerd.apparmor.d"
OWN = "vm-own"
HIDDEN = "/usr/lib/systemd/system/cron.service"
PROFILES = {
    # Everything is allowed except what the checks try. No rule concerns paths outside the container's root.
    OWN: "file, network, capability, signal, deny /{usr/,}lib/systemd/system/cron.service r, deny ptrace,",
    # The example of Kubernetes' documentation.
    "vm-no-write": "file, network, capability, signal, ptrace, deny /** w,",
    "vm-no-launcher": "file, network, capability, signal, ptrace, deny /run/pouchrich/launch x,",
}


def load() -> None:
    """Load the profiles into the kernel."""
    for name, rules in PROFILES.items():
        flags = "mediate_deleted" if name == OWN else "attach_disconnected,mediate_deleted"
        profile = f"profile {name} flags=({flags}) {{\n" + rules.replace(", ", ",\n") + "\n}\n"
        subprocess.run(["apparmor_parser", "--replace"], input=profile, text=True, check=True)


def enforced(profile: str) -> str:
    """The label of a profile in enforce mode, as the kernel shows it."""
    return f"{profile} (enforce)"


def label_of(pid: int) -> str:
    return text(Path(f"/proc/{pid}/attr/current"))


def labels(container: Container) -> set[str]:
    """The labels of all processes in the container's cgroups, including those of its agents."""
    pids = [pid for path in container.left() for file in Path(path).rglob("cgroup.procs") for pid in text(file).split()]
    return {label_of(int(pid)) for pid in pids}

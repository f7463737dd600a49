"""AppArmor's profiles in the guest: containerd's default, those of the checks' own, and which one a process has."""

import subprocess
from pathlib import Path

from guest import Container, text

DEFAULT = "cri-containerd.apparmor.d"
OWN = "vm-own"
HIDDEN = "/usr/lib/systemd/system/cron.service"
PROFILES = {
    # All is allowed but what the checks look for, and nothing is said of paths that lead out of the container's root.
    OWN: "file, network, capability, signal, deny /{usr/,}lib/systemd/system/cron.service r, deny ptrace,",
    # Kubernetes' documentation has such a one.
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
    """A label as the kernel gives it."""
    return f"{profile} (enforce)"


def label_of(pid: int) -> str:
    return text(Path(f"/proc/{pid}/attr/current"))


def labels(container: Container) -> set[str]:
    """Of every process in the container's cgroups, those of its agents included."""
    pids = [pid for path in container.left() for file in Path(path).rglob("cgroup.procs") for pid in text(file).split()]
    return {label_of(int(pid)) for pid in pids}

"""The cgroups of a run: below one parent of its own in every hierarchy (v1, hybrid, v2), so leftovers show."""

import os
from pathlib import Path

from runtime.cgroup import unmounted


def hierarchies() -> list[Path]:
    """The mount points of all cgroup hierarchies of this mount namespace."""
    found = []
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, fstype, *_ = line.split()
        if fstype in ("cgroup", "cgroup2"):
            found.append(Path(target))
    return found


def make(parent: str) -> None:
    """Create `parent` (like "/name") everywhere; a v1 cpuset gets its parent's cpus and memory nodes."""
    for root in hierarchies():
        directory = root / parent.lstrip("/")
        directory.mkdir(exist_ok=True)
        for name in ("cpuset.cpus", "cpuset.mems"):
            if (directory / name).exists() and not (directory / name).read_text().strip():
                (directory / name).write_text((root / name).read_text())


def below(parent: str) -> list[str]:
    """The cgroups below `parent`, deepest first, in all hierarchies. Those that go meanwhile may be missing."""
    found: list[str] = []
    for root in hierarchies():
        for directory, names, _ in os.walk(root / parent.lstrip("/")):
            found += [f"{directory}/{name}" for name in names]
    return sorted(found, key=len, reverse=True)


def unmounted_of(parent: str) -> list[str]:
    """The paths that containers below `parent` have in the v2 tree of a host that mounts none."""
    with unmounted.mounted() as root:
        prefix = f"pouchrich-{parent[1:].replace('/', '!')}!"
        return [f"/{name}" for name in os.listdir(root) if name.startswith(prefix)]


def clear(parent: str) -> None:
    """Remove what is below `parent`, and belongs to it. Raises OSError for one that still has processes."""
    for path in below(parent):
        Path(path).rmdir()
    for path in unmounted_of(parent):
        unmounted.remove(path, patience_s=5)


def remove(parent: str) -> None:
    """Remove `parent` and what is below. Raises OSError for one that still has processes."""
    clear(parent)
    for root in hierarchies():
        directory = root / parent.lstrip("/")
        if directory.exists():
            directory.rmdir()


def of_process(pid: int, controller: str) -> Path:
    """The directory of pid's cgroup for a v1 controller, or its v2 one where the controller is not v1's."""
    unified = None
    for line in Path(f"/proc/{pid}/cgroup").read_text().splitlines():
        _, names, path = line.split(":", 2)
        if controller in names.split(","):
            return mount_of(controller) / path.lstrip("/")
        if names == "":
            unified = path
    if unified is None:
        raise LookupError(f"{controller}: pid {pid} is in no such hierarchy")
    return mount_of("") / unified.lstrip("/")


def mount_of(controller: str) -> Path:
    """Where a v1 controller is mounted, or, for "", the v2 hierarchy."""
    for line in Path("/proc/self/mounts").read_text().splitlines():
        _, target, fstype, options, *_ = line.split()
        if (fstype == "cgroup2" and controller == "") or (fstype == "cgroup" and controller in options.split(",")):
            return Path(target)
    raise LookupError(f"{controller or 'cgroup2'}: not mounted")

"""The host paths that agents get: who may own them, and where in the container they may go."""

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence

from runtime.agents.select import Selected
from runtime.config.file import trusted_path
from runtime.config.model import AgentMount
from runtime.errors import InvalidArgument, NotFound
from runtime.init.base import CONTAINER_RUN_DIR, MountPoint, covers
from runtime.spec import edit
from runtime.spec.edit import Edit, Spec, Step

_KERNELS = ("/proc", "/sys")


def _trusted(source: str, lstat: Callable[[str], os.stat_result]) -> None:
    if not stat.S_ISSOCK(lstat(source).st_mode):
        trusted_path(source, lstat=lstat)
        return
    # A socket's mode says who may connect, and 0666 is usual. Its directory says who may replace it.
    trusted_path(os.path.dirname(source), lstat=lstat)
    if owner := lstat(source).st_uid:
        raise InvalidArgument(f"{source}: owner: found uid {owner}, allowed uid 0 (root)")


def check_sources(
    selected: Iterable[Selected], *, source: str, lstat: Callable[[str], os.stat_result] = os.lstat
) -> None:
    """Raise InvalidArgument unless every host path exists and only root can change what it leads to.

    What is bound runs as root in containers: whoever could write to the path could run programs there. `source` is the
    configuration's name in errors.
    """
    for one in selected:
        for index, mount in enumerate(one.agent.mounts):
            key = f"{source}: {one.key}.mounts[{index}].source"
            try:
                _trusted(mount.source, lstat)
            except FileNotFoundError:
                raise InvalidArgument(f"{key}: found nothing at {mount.source}, allowed a path of this node") from None
            except (InvalidArgument, NotFound, OSError) as err:
                allowed = "a path that root owns and nobody else can write, including the directories above it"
                raise InvalidArgument(f"{key}: found {err}, allowed {allowed}") from err


def _refuse_target(mount: AgentMount, resolved: str, points: Sequence[MountPoint], key: str) -> None:
    """Raise InvalidArgument where the bind would hide a mount of ours or the pod's, or make a path on its volume."""
    found = f"{mount.target} ({resolved} in the image)" if resolved != mount.target else mount.target
    for taken in (*_KERNELS, CONTAINER_RUN_DIR):
        if covers(taken, resolved) or covers(resolved, taken):
            raise InvalidArgument(
                f"{key}: found {found}, allowed a path outside {', '.join((*_KERNELS, CONTAINER_RUN_DIR))}"
            )
    above: MountPoint | None = None
    for point in points:
        if covers(resolved, point.resolved):
            raise InvalidArgument(
                f"{key}: found {found}, allowed a target that does not hide the mount {point.destination}"
            )
        if covers(point.resolved, resolved) and point.resolved != "/":
            above = point  # the last mount made is on top
    if above is not None and not above.is_private:
        raise InvalidArgument(f"{key}: found {found}, allowed a target outside the pod's volume at {above.destination}")


def _step(mount: AgentMount, name: str) -> Step:
    access = "ro" if mount.read_only else "rw"
    bind = {
        "destination": mount.target,
        "type": "bind",
        "source": mount.source,
        # Not rbind: mounts below the source would become writable, as "ro" applies only to the topmost mount.
        "options": ["bind", access, "nosuid", "nodev", "rprivate"],
    }
    detail = f"bind the host's {mount.source} at {mount.target} for agent {name}, {access}"
    return Step(f"mount-agent-{name}", detail, Edit("with_mount", bind))


def warnings(selected: Iterable[Selected], spec: Spec, *, source: str) -> tuple[str, ...]:
    """Warnings about agents' mounts in a container that may open files by handle (open_by_handle_at(2))."""
    sets = edit.table(edit.table(spec, "process"), "capabilities", within="process.")
    if "CAP_DAC_READ_SEARCH" not in edit.strings(sets, "bounding", within="process.capabilities."):
        return ()
    named = {mount.source for one in selected for mount in one.agent.mounts}
    if not named:
        return ()
    return (
        f"{source}: agents: a container with CAP_DAC_READ_SEARCH can read the whole filesystem that contains"
        f" {' or '.join(sorted(named))}; put the agents' files on a filesystem of their own",
    )


def steps(
    selected: Iterable[Selected], points: Sequence[MountPoint], resolved: Mapping[str, str], *, source: str
) -> tuple[Step, ...]:
    """The binds of all agents, to be made after every mount of the pod and of the mode.

    `points` are the mounts of the spec, as in `ModeInput.mounts`, with the mode's own /run; `resolved` says where
    targets lead in the image (`ImageFacts.resolved`). Raises InvalidArgument for a target that is not free. Two agents
    may share a target only for the same source.
    """
    made: dict[str, tuple[AgentMount, Step]] = {}
    for one in selected:
        for index, mount in enumerate(one.agent.mounts):
            key = f"{source}: {one.key}.mounts[{index}].target"
            where = resolved.get(mount.target, mount.target)
            if where in made:
                if made[where][0] != mount:
                    raise InvalidArgument(
                        f"{key}: found {mount.target}, which another mount has, allowed a free target"
                    )
                continue
            _refuse_target(mount, where, points, key)
            made[where] = (mount, _step(mount, one.agent.name))
    return tuple(step for _, step in made.values())

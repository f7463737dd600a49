"""The cgroups of a container whose PID 1 makes cgroups of its own, by the form of the host's.

| host | what PID 1 gets |
|---|---|
| unified | its cgroup namespace, writable |
| hybrid | the v2 tree alone: systemd uses no v1 controller it cannot see, and 258 or later runs; before 232 as v1 |
| v1 | everything read-only but its own directory of the name=systemd hierarchy |

A v1 controller is never writable: root in the container could raise its own limits. On v2 the kernel refuses that
itself where the hierarchy is mounted with nsdelegate. Without it the container gets a cgroup one level below its own,
and the limits stay on the upper one, which its namespace does not show.
"""

import posixpath
from dataclasses import dataclass
from typing import Any

from runtime.config.kinds import shown
from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.spec import edit
from runtime.spec.edit import Edit, Spec, Step

TOP = "/sys/fs/cgroup"

V2_BEGINS = 232
"""The first systemd that runs on cgroup v2 alone, by its release notes; older ones were not measured."""
NESTED = "pouchrich"
"""The name of the lower cgroup where the limits stay above."""


@dataclass(frozen=True, slots=True)
class Delegation:
    """What the caller does to cgroups around the OCI runtime's create.

    `directory` (host path, or empty): made before create, as it is the source of a mount. `parent` (a cgroup path, or
    empty): the cgroup above the container's, to which the caller copies, after create and after each update, every
    v2 limit that the runtime set on the container's own, and which it removes in all hierarchies after delete.
    `descendants` and `depth` go to cgroup.max.descendants and cgroup.max.depth of that parent, else of the container's
    own v2 cgroup; where there is no v2 they do not apply.
    """

    descendants: int
    depth: int
    directory: str = ""
    parent: str = ""


def _refuse_foreign(spec: Spec, resolved: dict[str, str]) -> None:
    for one in edit.mounts(spec):
        destination = resolved.get(one["destination"], one["destination"])
        inside = destination == TOP or destination.startswith(f"{TOP}/")
        if inside and one.get("type") not in ("cgroup", "cgroup2"):
            raise InvalidArgument(
                f"config.json: mounts[{one['destination']}]: found a mount of the pod,"
                f" allowed none at or below {TOP} where PID 1 is a real init"
            )


def path_of(spec: Spec) -> str:
    """`linux.cgroupsPath` as the directory below a v1 hierarchy's mount. Raises InvalidArgument for another form.

    A path that begins with a slash is one already; SLICE:PREFIX:NAME is what systemd makes of it (systemd.slice(5)).
    """
    found = edit.table(spec, "linux").get("cgroupsPath")
    parts = found.split(":") if isinstance(found, str) else []
    if isinstance(found, str) and found.startswith("/") and ".." not in found.split("/"):
        return posixpath.normpath(found)
    if len(parts) == 3 and all(parts) and parts[0].endswith(".slice") and "/" not in str(found):
        words = parts[0].removesuffix(".slice").split("-")
        slices = [f"{'-'.join(words[: count + 1])}.slice" for count in range(len(words))]
        return posixpath.join("/", *slices, f"{parts[1]}-{parts[2]}.scope")
    raise InvalidArgument(
        f"config.json: linux.cgroupsPath: found {shown(found)}, allowed an absolute path or SLICE:PREFIX:NAME"
        f" where PID 1 is systemd"
    )


def _mount(kind: str, *options: str) -> dict[str, Any]:
    return {
        "destination": TOP,
        "type": kind,
        "source": kind,
        "options": ["nosuid", "noexec", "nodev", "relatime", *options],
    }


def _nested(spec: Spec) -> str:
    """The container's cgroupsPath, where a level can be put below it."""
    found = edit.table(spec, "linux").get("cgroupsPath")
    if isinstance(found, str) and found.startswith("/"):
        return found.rstrip("/")
    raise InvalidArgument(
        f"config.json: linux.cgroupsPath: found {shown(found)}, allowed an absolute path: the cgroup2 file system of"
        f" this host is mounted without nsdelegate, so the limits need a cgroup above the container's"
    )


def uses_v1(host: HostFacts, version: int | None) -> bool:
    """Whether systemd of `version` (None: unknown) is to work on the name=systemd hierarchy of this host."""
    is_old = version is not None and version < V2_BEGINS
    return host.cgroups == "v1" or (host.cgroups == "hybrid" and is_old and bool(host.named))


def layout(
    spec: Spec, host: HostFacts, limits: tuple[int, int], resolved: dict[str, str], version: int | None = None
) -> tuple[tuple[Step, ...], Delegation]:
    """The steps that give systemd its cgroups, and what the caller does beside them.

    `limits` are the highest number of descendants and their depth. Raises InvalidArgument where a mount of the pod
    or the form of linux.cgroupsPath leaves no room.
    """
    _refuse_foreign(spec, resolved)
    descendants, depth = limits
    own = Step("cgroup-namespace", "see its own cgroup as the root of the tree", Edit("with_namespace", "cgroup"))
    if uses_v1(host, version):
        directory = f"{host.named}{path_of(spec)}"
        named = {
            "destination": f"{TOP}/systemd",
            "type": "bind",
            "source": directory,
            "options": ["bind", "rw", "nosuid", "noexec", "nodev"],
        }
        return (
            own,
            Step(
                "mount-cgroup",
                "show the v1 controllers, read-only",
                Edit("with_mount_replaced", _mount("cgroup", "ro")),
            ),
            Step("mount-cgroup-named", "its own directory of name=systemd, writable", Edit("with_mount", named)),
        ), Delegation(descendants, depth, directory=directory)
    kind = "cgroup2" if host.cgroups == "hybrid" else "cgroup"
    steps = [
        own,
        Step("mount-cgroup", "its own v2 cgroup, writable", Edit("with_mount_replaced", _mount(kind, "rw"))),
    ]
    if host.nsdelegate:
        return tuple(steps), Delegation(descendants, depth)
    parent = _nested(spec)
    steps.append(
        Step(
            "cgroup-below-limits",
            "a cgroup one level down: without nsdelegate its own limits would be writable",
            Edit("with_cgroups_path", f"{parent}/{NESTED}"),
        )
    )
    return tuple(steps), Delegation(descendants, depth, parent=parent)

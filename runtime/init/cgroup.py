"""The cgroups of a container whose PID 1 makes cgroups of its own, by the host's cgroup layout.

| host | what PID 1 gets |
|---|---|
| unified | its cgroup namespace, writable |
| hybrid | the v1 controllers read-only, with the v2 tree at TOP/systemd; for systemd 258 or later the v2 tree alone |
| v1 | the v1 controllers read-only, and at the place of name=systemd the v2 tree, which the host does not mount |
| v1, systemd 258 or later | the v2 tree alone |
| hybrid or v1, systemd before 232 | all read-only but its own directory of the name=systemd hierarchy, if allowed |

A v1 controller is never writable: root in the container could raise its own limits. On v2 the kernel prevents that if
the hierarchy is mounted with nsdelegate. Without nsdelegate the container gets a cgroup one level below its own, and
the limits stay on the upper one, which is not visible in its cgroup namespace.

Below name=systemd nothing limits the number of directories (on a two-core machine 60,000 in a second at 6 KiB each, of
which the container's memory limit counts a small part), and notify_on_release makes the host run its release agent. So
the node has to allow it.
"""

import posixpath
from dataclasses import dataclass
from typing import Any

from runtime.config.kinds import short_json
from runtime.errors import InvalidArgument
from runtime.host import NESTED, HostFacts
from runtime.spec import edit
from runtime.spec.edit import Edit, Spec, Step
from runtime.spec.image_volume import is_image_volume

try:  # the module from which hashlib takes it, without OpenSSL
    from _sha2 import sha256
except ImportError:  # before Python 3.12
    from _sha256 import sha256  # type: ignore[import-not-found, no-redef, unused-ignore]

TOP = "/sys/fs/cgroup"

V2_BEGINS = 232
"""The first systemd that runs on cgroup v2 alone, by its release notes; older ones were not measured."""
V1_ENDS = 258
"""The first systemd without cgroup v1 (its release notes; measured: it refuses to boot)."""
_READABLE = 200  # of the 255 bytes that a name may have


@dataclass(frozen=True, slots=True)
class Delegation:
    """What the caller does to cgroups around the OCI runtime's create.

    `directory` (host path, or empty): made before create, as it is the source of a mount. `parent` (a cgroup path, or
    empty): the cgroup above the container's. After create and after each update the caller copies to it every v2 limit
    that the OCI runtime set on the container's own cgroup, and after delete it removes it in all hierarchies.
    `unmounted` (a cgroup path, or empty): made before create in the v2 tree of a v1 host; create runs inside it; and
    removed after delete (`runtime.cgroup.unmounted`). `descendants` and `depth` go to cgroup.max.descendants and
    cgroup.max.depth of `parent` or `unmounted`, else of the container's own v2 cgroup; below `directory` the kernel has
    no such limits. `leaf` (a name, or empty): the cgroup below the container's own to which the caller moves PID 1
    after create.
    """

    descendants: int
    depth: int
    directory: str = ""
    parent: str = ""
    unmounted: str = ""
    leaf: str = ""


def _refuse_foreign(spec: Spec, resolved: dict[str, str]) -> None:
    for one in edit.mounts(spec):
        destination = resolved.get(one["destination"], one["destination"])
        inside = destination == TOP or destination.startswith(f"{TOP}/")
        if destination == TOP and is_image_volume(one):
            continue  # many images for systemd have such a VOLUME; our mount replaces it
        if inside and one.get("type") not in ("cgroup", "cgroup2"):
            raise InvalidArgument(
                f"config.json: mounts[{one['destination']}]: found a mount of the pod,"
                f" allowed none at or below {TOP} where the container's own cgroups are writable"
            )


def path_of(spec: Spec, *, systemd: bool = True) -> str:
    """`linux.cgroupsPath` as the directory below a v1 hierarchy's mount. Raises InvalidArgument for another form.

    An absolute path is returned as it is. SLICE:PREFIX:NAME becomes the path that systemd gives it (systemd.slice(5));
    without `systemd` it is an ordinary name (crun and runc with cgroupfs).
    """
    found = edit.table(spec, "linux").get("cgroupsPath")
    parts = found.split(":") if isinstance(found, str) else []
    if isinstance(found, str) and found.startswith("/") and ".." not in found.split("/"):
        return posixpath.normpath(found)
    if len(parts) == 3 and all(parts) and parts[0].endswith(".slice") and "/" not in str(found):
        if not systemd:
            return f"/{found}"
        words = parts[0].removesuffix(".slice").split("-")
        slices = [f"{'-'.join(words[: count + 1])}.slice" for count in range(len(words))]
        return posixpath.join("/", *slices, f"{parts[1]}-{parts[2]}.scope")
    raise InvalidArgument(
        f"config.json: linux.cgroupsPath: found {short_json(found)}, allowed an absolute path or SLICE:PREFIX:NAME"
        f" where PID 1 is systemd"
    )


def _mount(kind: str, *options: str, at: str = TOP) -> dict[str, Any]:
    return {
        "destination": at,
        "type": kind,
        "source": kind,
        "options": ["nosuid", "noexec", "nodev", "relatime", *options],
    }


def _nested(spec: Spec, host: HostFacts) -> str:
    """The container's cgroupsPath, if a level can be added below it. Raises InvalidArgument if not."""
    found = edit.table(spec, "linux").get("cgroupsPath")
    if isinstance(found, str) and found.startswith("/"):
        return found.rstrip("/")
    if not host.systemd:
        return path_of(spec, systemd=False)
    raise InvalidArgument(
        f"config.json: linux.cgroupsPath: found {short_json(found)}, allowed an absolute path:"
        " the cgroup2 file system of"
        f" this host is mounted without nsdelegate, so the limits need a cgroup above the container's; mount it"
        " with nsdelegate"
    )


def uses_v1(host: HostFacts, version: int | None) -> bool:
    """Whether systemd of `version` (None: unknown) can only use the name=systemd hierarchy of this host."""
    is_old = version is not None and version < V2_BEGINS
    return host.cgroups in ("v1", "hybrid") and is_old and bool(host.named)


def _in_one_level(path: str) -> str:
    """A cgroup path of one level, unique to the longer `path` and readable by its end."""
    readable = path[1:].replace("/", "!").encode(errors="replace")[-_READABLE:].decode(errors="ignore")
    return f"/pouchrich-{readable}-{sha256(path.encode(errors='backslashreplace')).hexdigest()[:16]}"


def _beside_v1(host: HostFacts, version: int | None, v2: str) -> tuple[Step, ...]:
    """The mounts that show `v2`, the container's own v2 cgroup, to a systemd of `version` on a host that has v1 too.

    systemd up to 257 takes a v2 tree at TOP/systemd as its own and recognises v1 controllers beside it (the layout of
    its release 232), so programs can still read their limits there.
    """
    if host.named and version is not None and version < V1_ENDS:
        return (
            Step(
                "mount-cgroup",
                "show the v1 controllers, read-only",
                Edit("with_mount_replaced", _mount("cgroup", "ro")),
            ),
            Step(
                "mount-cgroup-own", f"{v2}, writable", Edit("with_mount", _mount("cgroup2", "rw", at=f"{TOP}/systemd"))
            ),
        )
    return (Step("mount-cgroup", f"{v2}, writable", Edit("with_mount_replaced", _mount("cgroup2", "rw"))),)


def layout(
    spec: Spec, host: HostFacts, limits: tuple[int, int], resolved: dict[str, str], version: int | None = None
) -> tuple[tuple[Step, ...], Delegation]:
    """The steps that give systemd its cgroups, and what the caller does besides.

    `limits` are the highest number of descendants and their depth. Raises InvalidArgument where a mount of the pod
    or the form of linux.cgroupsPath leaves no room.
    """
    _refuse_foreign(spec, resolved)
    descendants, depth = limits
    own = Step("cgroup-namespace", "see its own cgroup as the root of the tree", Edit("with_namespace", "cgroup"))
    if uses_v1(host, version):
        directory = f"{host.named}{path_of(spec, systemd=host.systemd)}"
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
    if host.cgroups == "v1":
        unmounted = _in_one_level(path_of(spec, systemd=host.systemd))
        shown_v2 = _beside_v1(host, version, "its own v2 cgroup, which this host shows nowhere")
        return (own, *shown_v2), Delegation(descendants, depth, unmounted=unmounted)
    alone = Step("mount-cgroup", "its own v2 cgroup, writable", Edit("with_mount_replaced", _mount("cgroup", "rw")))
    is_alone = host.cgroups != "hybrid"
    steps = [own, *((alone,) if is_alone else _beside_v1(host, version, "its own v2 cgroup"))]
    if host.nsdelegate:
        return tuple(steps), Delegation(descendants, depth)
    parent = _nested(spec, host)
    steps.append(
        Step(
            "cgroup-below-limits",
            "a cgroup one level down: without nsdelegate its own limits would be writable",
            Edit("with_cgroups_path", f"{parent}/{NESTED}"),
        )
    )
    return tuple(steps), Delegation(descendants, depth, parent=parent)

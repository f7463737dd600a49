"""Container engines inside a container: what podman, dockerd or containerd would lack in it.

An engine that root runs in the container

- makes mounts, namespaces and networks (CAP_SYS_ADMIN, CAP_NET_ADMIN), and sets /proc/sys/net;
- mounts /proc for its own containers; in a user namespace the kernel allows that only if no mount hides parts of the
  container's /proc (mount_too_revealing in the kernel's fs/namespace.c);
- makes cgroups;
- keeps layers on a file system other than overlay, because overlay takes no upper directory on overlay.

In a user namespace all of that affects only the pod itself.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from runtime.errors import InvalidArgument
from runtime.image.image import Rootfs

STORES = {"podman": "/var/lib/containers", "dockerd": "/var/lib/docker", "containerd": "/var/lib/containerd"}
"""Engine -> where it keeps layers and containers."""

_DIRECTORIES = "/usr/bin", "/usr/sbin", "/usr/local/bin", "/usr/local/sbin"
_NEEDED = {"CAP_SYS_ADMIN": "mounts and namespaces", "CAP_NET_ADMIN": "networks"}
_CALLS = "mount", "umount2", "unshare", "setns", "pivot_root", "keyctl"
_ROOTLESS = "/dev/fuse", "/dev/net/tun"


def installed(root: str) -> list[str]:
    """The engines in the image at host path `root`. Raises InvalidArgument where `root` is no directory."""
    with Rootfs.open(root) as found:
        return [name for name in STORES if any(found.has(f"{place}/{name}") for place in _DIRECTORIES)]


def lacks(spec: Mapping[str, Any], engines: Sequence[str]) -> Iterator[str]:
    """What `engines` would lack in a container of this spec (as the OCI runtime gets it), each with the way out.

    Yields nothing without engines, if they lack nothing, and for a malformed spec.
    """
    if not engines:
        return
    yield from _rights(spec)
    yield from _places(spec, engines)


def _rights(spec: Mapping[str, Any]) -> Iterator[str]:
    linux, process = _mapping(spec, "linux"), _mapping(spec, "process")
    if "user" not in {str(one.get("type")) for one in _mappings(linux, "namespaces")}:
        yield "a user namespace, so that CAP_SYS_ADMIN does not extend to the node: hostUsers: false"
    held = _mapping(process, "capabilities").get("bounding")
    for name, of in _NEEDED.items():
        if not isinstance(held, list) or name not in held:
            yield f"{name}, for {of}: securityContext.capabilities.add {name.removeprefix('CAP_')}"
    if linux.get("maskedPaths") or linux.get("readonlyPaths"):
        yield "a /proc without masks, for networks and for its containers' own: securityContext.procMount: Unmasked"
    if denied := list(_denied(_mapping(linux, "seccomp"))):
        yield f"system calls that the seccomp profile denies ({', '.join(denied)}): seccompProfile Unconfined"
    if process.get("apparmorProfile"):
        yield "mount(2) under AppArmor: appArmorProfile Unconfined, or a profile of the node's that allows it"


def _places(spec: Mapping[str, Any], engines: Sequence[str]) -> Iterator[str]:
    mounts = {str(one.get("destination")): one for one in _mappings(spec, "mounts")}
    if not _writable(mounts.get("/sys/fs/cgroup")):
        yield 'cgroups that it can write: mode systemd, or rich.cgroup = "delegate" of the node'
    for engine in engines:
        if STORES[engine] not in mounts:
            yield f"a filesystem other than overlay for {engine}'s layers: an emptyDir at {STORES[engine]}"
    devices = {str(one.get("path")) for one in _mappings(_mapping(spec, "linux"), "devices")} | mounts.keys()
    if missing := [path for path in _ROOTLESS if path not in devices]:
        yield f"{' and '.join(missing)}, for engines of other users than root only: a device plugin of the node"


def _denied(seccomp: Mapping[str, Any]) -> Iterator[str]:
    """The system calls of engines that the profile does not allow, or only with some arguments."""
    if not seccomp or seccomp.get("defaultAction") == "SCMP_ACT_ALLOW":
        return
    allowed = {
        str(name)
        for rule in _mappings(seccomp, "syscalls")
        if rule.get("action") == "SCMP_ACT_ALLOW" and not rule.get("args")
        for name in rule.get("names") or ()
    }
    yield from (name for name in _CALLS if name not in allowed)


def _writable(mount: Mapping[str, Any] | None) -> bool:
    return mount is not None and "ro" not in (mount.get("options") or ())


def _mapping(of: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = of.get(key)
    return found if isinstance(found, Mapping) else {}


def _mappings(of: Mapping[str, Any], key: str) -> list[Mapping[str, Any]]:
    found = of.get(key)
    return [one for one in found if isinstance(one, Mapping)] if isinstance(found, list) else []


def notes(spec: Mapping[str, Any], root: str) -> tuple[str, ...]:
    """The lines of `pouchrich explain` about the engines in an image; none if it has none."""
    try:
        engines = installed(root)
    except InvalidArgument:
        return ()
    missing = tuple(f"{' and '.join(engines)} inside would miss {one}" for one in lacks(spec, engines))
    if engines and not missing:
        return (f"{' and '.join(engines)} inside would have everything that the pod can give",)
    return missing

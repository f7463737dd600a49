"""Whether an image and its host allow a mode: the obstacle to it, or None. Pure."""

from runtime.config.kinds import short_json
from runtime.init import inittab
from runtime.init.base import CONTAINER_RUN_DIR, ModeFacts, Obstacle
from runtime.init.cgroup import V2_BEGINS, uses_v1
from runtime.init.detect import SBIN_INIT, SUPPORTED, SYSTEMD_PATHS


def to_cgroups(site: ModeFacts, kind: str) -> Obstacle | None:
    """Why PID 1 of this kind cannot have cgroups that it can work with."""
    version, host = site.init.version, site.host
    if kind != "systemd" or version is None or version >= V2_BEGINS:
        return None
    if host.cgroups == "unified":
        problem = "needs cgroup v1, and this host has cgroup v2 only"
    elif not uses_v1(host, version):
        problem = "needs the name=systemd hierarchy, and this host has none mounted"
    elif site.cgroup_v1 != "allow":
        problem = (
            "cannot use cgroup v2, only cgroup v1's name=systemd hierarchy, where the"
            " kernel limits neither the number of cgroups nor their memory; to permit that, the node sets"
            f" rich.cgroup-v1 = allow (found {short_json(site.cgroup_v1)}; {site.cgroup_v1_source})"
        )
    else:
        return None
    return Obstacle(f"systemd {version} of the image {problem}", "cgroups")


def to_any_init(site: ModeFacts) -> Obstacle | None:
    """Why no init of the image can be PID 1 at all."""
    if site.shared:
        return Obstacle(f"the container {site.shared}: it cannot have a PID 1 of its own", "pid-namespace")
    for path in ("/run", CONTAINER_RUN_DIR):
        if (leads := site.resolved[path]) != path:
            return Obstacle(f"{path}: the image has a symbolic link to {short_json(leads)} there", "image")
    return None


def to_systemd(site: ModeFacts) -> Obstacle | None:
    """Why mode systemd cannot be had."""
    if found := to_any_init(site):
        return found
    if not site.init.systemd:
        return Obstacle(f"{SYSTEMD_PATHS[0]}: not in the image", "image")
    return to_cgroups(site, "systemd")


def to_sbin_init(site: ModeFacts) -> Obstacle | None:
    """Why mode sbin-init cannot be had."""
    init = site.init
    if found := to_any_init(site):
        return found
    if init.problem:
        return Obstacle(init.problem, "init")
    if init.kind not in SUPPORTED:
        what = (
            f"{init.kind}, under which the command cannot be PID 1's child" if init.kind else "an init of unknown kind"
        )
        return Obstacle(f"{SBIN_INIT}: it is {what}", "init")
    if init.kind in ("sysvinit", "openrc") and inittab.sysvinit(init) is None:
        return Obstacle(f"{SBIN_INIT}: it is {init.kind}, but there are no start scripts of a known kind", "init")
    return to_cgroups(site, init.kind)


def to_dumb_init(_: ModeFacts) -> None:
    """Nothing: dumb-init is the fallback where nothing else is possible."""

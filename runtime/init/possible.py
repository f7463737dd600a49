"""Whether an image and its host allow a mode: the obstacle in words, or "". Pure."""

from runtime.config.kinds import short_json
from runtime.init import inittab
from runtime.init.base import CONTAINER_RUN_DIR, ModeFacts
from runtime.init.cgroup import V2_BEGINS, uses_v1
from runtime.init.detect import SBIN_INIT, SUPPORTED, SYSTEMD_PATHS


def cgroup_problem(site: ModeFacts, kind: str) -> str:
    """Why PID 1 of this kind cannot have cgroups that it can work with."""
    version, host = site.init.version, site.host
    if kind != "systemd" or version is None or version >= V2_BEGINS:
        return ""
    if host.cgroups == "unified":
        return f"systemd {version} of the image needs cgroup v1, and this host has cgroup v2 only"
    if not uses_v1(host, version):
        return f"systemd {version} of the image needs the name=systemd hierarchy, and this host has none mounted"
    if site.cgroup_v1 != "allow":
        return (
            f"systemd {version} of the image cannot use cgroup v2, only cgroup v1's name=systemd hierarchy, where the"
            " kernel limits neither the number of cgroups nor their memory; to permit that, the node sets"
            f" rich.cgroup-v1 = allow (found {short_json(site.cgroup_v1)}; {site.cgroup_v1_source})"
        )
    return ""


def no_room(site: ModeFacts) -> str:
    """Why no init of the image can be PID 1 at all."""
    if site.shared:
        return f"the container {site.shared}: it cannot have a PID 1 of its own"
    for path in ("/run", CONTAINER_RUN_DIR):
        if (leads := site.resolved[path]) != path:
            return f"{path}: the image has a symbolic link to {short_json(leads)} there"
    return ""


def systemd_problem(site: ModeFacts) -> str:
    """Why mode systemd cannot be had."""
    if problem := no_room(site):
        return problem
    if not site.init.systemd:
        return f"{SYSTEMD_PATHS[0]}: not in the image"
    return cgroup_problem(site, "systemd")


def sbin_init_problem(site: ModeFacts) -> str:
    """Why mode sbin-init cannot be had."""
    init = site.init
    if problem := no_room(site) or init.problem:
        return problem
    if init.kind not in SUPPORTED:
        what = (
            f"{init.kind}, under which the command cannot be PID 1's child" if init.kind else "an init of unknown kind"
        )
        return f"{SBIN_INIT}: it is {what}"
    if init.kind in ("sysvinit", "openrc") and inittab.sysvinit(init) is None:
        return f"{SBIN_INIT}: it is {init.kind}, but there are no start scripts of a known kind"
    return cgroup_problem(site, init.kind)


def no_dumb_init(_: ModeFacts) -> str:
    """Always "": dumb-init is the fallback where nothing else is possible."""
    return ""

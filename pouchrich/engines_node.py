"""What a node needs for container engines in pods with a user namespace."""

import os
from collections.abc import Iterator

from pouchrich import kernel
from pouchrich.checks import OK, WARN, Check

_OVERLAY_SINCE, _MAPPED_SINCE = (5, 11), (6, 3)
"""The Linux that mounts overlay in a user namespace; and the one with ID-mapped tmpfs, which the kubelet needs."""
_MODULES = "overlay", "bridge", "veth", "nf_tables"
_WHAT = "engines in pods"


def checks(
    *, proc: str = "/proc", sys: str = "/sys", dev: str = "/dev", modules: str = "/lib/modules"
) -> Iterator[Check]:
    """What the node lacks, or one check that says that nothing is missing."""
    found = list(_lacking(proc, sys, modules))
    yield from found
    if not found:
        yield Check(OK, _WHAT, "this node lets them run in pods that have a user namespace")
    if absent := [f"/dev/{name}" for name in ("fuse", "net/tun") if not os.path.exists(f"{dev}/{name}")]:
        yield Check(OK, _WHAT, f"no {' and no '.join(absent)} for engines of users other than root")


def _lacking(proc: str, sys: str, modules: str) -> Iterator[Check]:
    release = kernel.text(f"{proc}/sys/kernel/osrelease")
    version = kernel.version(release)
    if version < _OVERLAY_SINCE:
        yield Check(WARN, _WHAT, f"Linux {release} mounts no overlay in a user namespace", "Linux 6.3 or later")
    elif version < _MAPPED_SINCE:
        found = f"Linux {release} has no ID-mapped tmpfs, which the kubelet requires for hostUsers: false"
        yield Check(WARN, _WHAT, found, "Linux 6.3 or later")
    if kernel.text(f"{proc}/sys/user/max_user_namespaces") == "0":
        yield Check(WARN, _WHAT, "user.max_user_namespaces is 0", "sysctl -w user.max_user_namespaces=65536")
    if kernel.text(f"{proc}/sys/kernel/apparmor_restrict_unprivileged_userns") == "1":
        found = "kernel.apparmor_restrict_unprivileged_userns is 1: engines of users other than root cannot start"
        yield Check(WARN, _WHAT, found, "load a profile that allows userns, or set it to 0")
    index = kernel.text(f"{modules}/{release}/modules.dep")
    listed = index + kernel.text(f"{modules}/{release}/modules.builtin")
    absent = [name for name in _MODULES if not os.path.isdir(f"{sys}/module/{name}") and f"/{name}.ko" not in listed]
    if index and absent:  # without an index, modules may be built in
        advice = "install the kernel's modules: the kernel loads them where a pod needs them"
        yield Check(WARN, _WHAT, f"neither loaded nor installed: {', '.join(absent)}", advice)

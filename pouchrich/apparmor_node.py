"""What AppArmor does to rich containers on this node: checks for the known problems, by the kernel's own files.

They are below securityfs, which only root can list: `features` has what the kernel mediates, `profiles` what is loaded.
"""

import os
from collections.abc import Iterator

from pouchrich import kernel
from pouchrich.checks import FAIL, OK, WARN, Check
from runtime.config import Config
from runtime.linux import apparmor
from runtime.rich import confinement

FEATURES = "/sys/kernel/security/apparmor/features"
PROFILES = apparmor.PROFILES
ENABLED = apparmor.ENABLED
RESTRICT = "/proc/sys/kernel/apparmor_restrict_unprivileged_userns"

_WHAT = "AppArmor"
_OURS = 'rich.apparmor-profile = "pouchrich", which `pouchrich node install` loads, allows it'
_STACKS_SINCE = (6, 17)
_DAEMONS = (
    *("rsyslogd", "sshd", "chronyd", "dhcpd", "mysqld", "mariadbd", "named", "smbd", "nmbd", "ntpd", "cupsd"),
    *("dnsmasq", "slapd", "dovecot", "squid"),
)
"""Paths of daemons that run in rich containers and for which distributions have profiles."""


def checks(
    *,
    release: str = "",
    features: str = FEATURES,
    profiles: str = PROFILES,
    enabled: str = ENABLED,
    restrict: str = RESTRICT,
) -> Iterator[Check]:
    """Whether AppArmor is in force, and which known problems this node has. `release`: of another kernel than this."""
    if kernel.text(enabled) != "Y":
        yield Check(OK, _WHAT, "not in force")
        return
    found = list(_troubles(release or os.uname().release, features, profiles, restrict))
    yield from found
    if not found:
        yield Check(OK, _WHAT, "in force, no known problem")


def named(config: Config, *, profiles: str = PROFILES, enabled: str = ENABLED) -> Iterator[Check]:
    """Whether the profile that a configuration names is loaded; no check if it names none."""
    name, source = config.rich.apparmor_profile, config.source_of(confinement.KEY)
    if name is None:
        return
    if kernel.text(enabled) != "Y":
        yield Check(OK, _WHAT, f"{source}: profile {name} has no effect, because AppArmor is not in force")
    elif (there := apparmor.loaded(profiles)) is None:
        yield Check(
            WARN, _WHAT, f"{source}: profile {name}: cannot read whether it is loaded", f"run as root, see {profiles}"
        )
    elif name not in there:
        found = f"{source}: profile {name} is not loaded: rich containers whose pods name none are refused"
        yield Check(FAIL, _WHAT, found, apparmor.way_out(name))
    else:
        yield Check(OK, _WHAT, f"{source}: profile {name} is loaded")


def _troubles(release: str, features: str, profiles: str, restrict: str) -> Iterator[Check]:
    if kernel.version(release) >= _STACKS_SINCE and kernel.text(f"{features}/domain/stack") == "yes":
        found = (
            f"on Linux {release} processes of an exec have a stacked label, and containerd's profile denies signals to"
            " them: from hooks and agents that end their children, `timeout`, `kubectl exec -- kill` (containerd#12886)"
        )
        yield Check(WARN, _WHAT, found, _OURS)
    if kernel.text(f"{features}/network/af_unix") == "yes":
        found = (
            "the kernel mediates Unix sockets, which the profile of containerd before 1.7.31, 2.0.9, 2.1.7 and 2.2.2"
            " does not allow: systemd, D-Bus and the journal may fail (containerd#12726)"
        )
        yield Check(WARN, _WHAT, found, f"upgrade containerd, or {_OURS}")
    if kernel.text(restrict) == "1":
        name = "kernel.apparmor_restrict_unprivileged_userns"
        found = f"{name} is 1: services of systemd 259 and later may hang at their start"
        yield Check(WARN, _WHAT, found, f"sysctl -w {name}=0, and in /etc/sysctl.d")
    if caught := sorted(_caught(kernel.text(profiles))):
        found = f"the node's profiles {', '.join(caught)} also confine these programs in unconfined containers"
        yield Check(WARN, _WHAT, found, "let such pods name a profile that allows everything, instead of Unconfined")


def _caught(listed: str) -> Iterator[str]:
    """The enforcing profiles of daemons. Lines are `NAME (MODE)`, where NAME is often the program's path."""
    for line in listed.splitlines():
        name, _, mode = line.rpartition(" ")
        if mode == "(enforce)" and name.rpartition("/")[2] in _DAEMONS:
            yield name

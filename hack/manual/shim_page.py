"""containerd-shim-pouchrich-v2(8): the shim's command line, from its own table of flags."""

from hack.manual import roff
from shim.contract.flags import BOOLEANS, STRINGS

DESCRIPTION = """
containerd runs this program for the containers of a handler whose runtime_type is io.containerd.pouchrich.v2. It turns
ordinary images into rich containers: an init is PID 1, and the image's command runs under it, with services, agents and
hooks. Nobody else needs to run this program.

containerd runs start for each pod. It prints the address of the pod server, a process of the same name that serves one
pod and outlives containerd. Pod servers are forked from a preloaded process of the node, pouchrich-spawner. containerd
runs delete after each task. It cleans up if the pod server has died.

pouchrich runtimeclass --containerd here prints what containerd's configuration needs, and pouchrich doctor checks it.
Pods are configured by annotations (pouchrich.io/mode and others), the node by pouchrich.toml(5).
"""
VARIABLES = {
    "POUCHRICH_SPAWNER": "if off in containerd's environment: each start forks its pod server itself, without a spawner"
}
FILES = {
    "/etc/pouchrich/config.toml": "the node's configuration",
    "/run/pouchrich/": "sockets and state, which do not survive a reboot",
    "/var/lib/pouchrich/poststop/": "records of poststop hooks that are owed",
}


def page() -> str:
    """The page's text."""
    name = "containerd-shim-pouchrich-v2"
    lines = roff.title(name, 8, "containerd shim of rich containers")
    lines += [roff.heading("SYNOPSIS"), f"\\fB{roff.escaped(name)}\\fR [\\fIFLAG\\fR ...] [start|delete]"]
    lines += [roff.heading("DESCRIPTION"), *roff.text_of(DESCRIPTION), roff.heading("FLAGS")]
    for flag, about in (STRINGS | BOOLEANS).items():
        lines += roff.item(f"-{flag} string" if flag in STRINGS else f"-{flag}", about)
    lines += [*roff.section("ENVIRONMENT", VARIABLES), *roff.section("FILES", FILES)]
    lines += [roff.heading("SEE ALSO"), "pouchrich(1), pouchrich.toml(5), containerd(8)"]
    return roff.page(lines)

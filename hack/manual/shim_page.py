"""containerd-shim-pouchrich-v2(8): the shim's command line, from its own table of flags."""

from hack.manual import roff
from shim.contract.flags import BOOLEANS, STRINGS

DESCRIPTION = """
containerd runs this program for the containers of a handler whose runtime_type is io.containerd.pouchrich.v2: once with
start for a pod, and with delete where a pod's server has died. Nobody else needs to. It makes ordinary images rich
containers: an init is PID 1, and the image's command runs under it, with services, agents and hooks.

start answers with the address of the pod's server, a process of the same name that outlives containerd and serves one
pod. Servers are forked from a preloaded process of the node's, pouchrich-spawner.

pouchrich runtimeclass --containerd here prints what containerd's configuration needs, and pouchrich doctor checks it.
Pods choose by annotations (pouchrich.io/mode and others), the node by pouchrich.toml(5).
"""
VARIABLES = {"POUCHRICH_SPAWNER": "off in containerd's environment: no spawner is used, each start forks by itself"}
FILES = {
    "/etc/pouchrich/config.toml": "the node's configuration",
    "/run/pouchrich/": "sockets and state, gone with the next boot",
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

"""Which OCI runtime to use on this host, and why."""

import os
import shutil

from runtime.default_path import DEFAULT_PATH
from runtime.errors import InvalidArgument

# crun up to 1.21 refuses a hybrid host whose v2 tree has controllers of its own ("cgroups in hybrid mode not
# supported, drop all controllers from cgroupv2").
HYBRID_CONTROLLERS = "/sys/fs/cgroup/unified/cgroup.controllers"


def choose(wanted: str, *, source: str, hybrid: str = HYBRID_CONTROLLERS, path: str | None = None) -> tuple[str, str]:
    """Return (absolute path of the OCI runtime, the reason for it).

    `wanted` is a name or path from `source`, or "" for the default: crun where it works, else runc. `hybrid` is the
    file with the controllers of a hybrid host's v2 tree. Raises InvalidArgument naming `source` where the wanted
    program does not exist, or where there is neither crun nor runc.
    """
    search = os.environ.get("PATH", DEFAULT_PATH) if path is None else path
    if wanted:
        found = shutil.which(wanted, path=search)
        if found is None:
            raise InvalidArgument(
                f"{source}: found {wanted!r}, which is no executable file in {search}, allowed an installed OCI runtime"
            )
        return os.path.abspath(found), f"{source} says {wanted}"
    controllers = _read(hybrid).strip()
    crun, runc = shutil.which("crun", path=search), shutil.which("runc", path=search)
    if crun and not controllers:
        return crun, "crun works on this host"
    if runc and crun:
        return runc, f"crun refuses a hybrid host whose cgroup v2 tree has controllers ({controllers})"
    if runc:
        return runc, "crun is not installed"
    if crun:
        return crun, "runc is not installed"
    raise InvalidArgument(
        f"runtime.binary: found neither crun nor runc in {search}, allowed either: install one, or set the key"
    )


def _read(path: str) -> str:
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""

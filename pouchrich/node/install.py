"""Installs an artefact, and the advice printed afterwards."""

import os

from pouchrich.node import InstallError, apparmor, current, place, unpacked
from pouchrich.node.layout import BIN, PROGRAMS, Layout
from pouchrich.node.lock import locked

_INSTANCES = "/proc/sys/fs/inotify/max_user_instances"
_ENOUGH = 8192


def root() -> str:
    """The directory of the unpacked or installed artefact with this code. Raises InstallError if there is none."""
    site = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    found = os.path.dirname(site)
    if os.path.basename(site) != unpacked.SITE or not os.path.exists(f"{found}/{unpacked.SUMS}"):
        raise InstallError(f"{site}: not part of a release; hack/install.sh installs a checkout")
    return found


def install(layout: Layout, directory: str, version: str, *, unattended: bool = False) -> None:
    """Install the artefact in `directory`, and make it the current version.

    Raises InstallError, OSError; then the version before is still current, or none. `unattended` refuses a version that
    a rollback has rejected.
    """
    with locked(layout):
        try:
            _install(layout, directory, version, unattended=unattended)
            apparmor.put(layout)
        finally:
            current.forget_unused(layout)
    print(f"installed pouchrich {version} in {layout.home}; configuration: {layout.config}")


def _install(layout: Layout, directory: str, version: str, *, unattended: bool) -> None:
    current.prepare(layout)
    name, is_there = unpacked.name_for(layout, directory, version)
    if os.path.dirname(directory) == layout.home:  # this artefact is already installed
        name, is_there = os.path.basename(directory), True
    if unattended and is_there and name == layout.rejected():
        raise InstallError(
            f"{name} was rolled back on this node: install it without --unattended, or install another version"
        )
    current.accept(layout, name)
    if is_there:
        current.switch(layout, name, keep_former=True)
    else:
        unpacked.verify(directory)
        with current.making(layout, name) as made:
            unpacked.copy(directory, made, layout.config)
            current.switch(layout, name, keep_former=True)


def advice(layout: Layout) -> str:
    """What containerd, Kubernetes and the kernel should be told, as text. Raises InstallError."""
    here = f"{layout.home}/{layout.current()}"
    # No ConfigPath: each version knows its file, and a handler with options cannot have user namespaces.
    words = ["--runtime-path", f"{layout.bin}/{PROGRAMS[0]}"] if layout.bin != BIN else []
    lines = []
    for version in _containerds():
        lines += ["", place.ask(here, "runtimeclass", "--containerd", version, *words).rstrip("\n")]
    lines += ["", "# Kubernetes: kubectl apply -f -", place.ask(here, "runtimeclass").rstrip("\n")]
    return "\n".join(lines + _inotify(here))


def _containerds() -> list[str]:
    try:
        place.run(["containerd", "--version"])
    except InstallError:
        return ["1", "2"]
    return ["here"]


def _inotify(here: str) -> list[str]:
    try:
        with open(_INSTANCES) as file:
            found = int(file.read())
    except OSError:
        return []
    if found >= _ENOUGH:
        return []
    return [
        "",
        f"# Each systemd pod uses 4 to 7 of root's inotify instances. The node allows {found}: when none is left,",
        "# neither the kubelet nor containerd can start again. As root, put this into /etc/sysctl.d/90-pouchrich.conf,",
        "# then run sysctl --system:",
        place.ask(here, "config", "sysctl").rstrip("\n"),
    ]

"""An image's own init under crun alone, as `podman run --systemd=always` has it: what our figures are compared with.

The bundle is that of a rich container whose command is the init itself, without what needs a pod server.
"""

import contextlib
import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.integration.node import Node
from tests.integration.pods import Container
from tests.integration.waiting import until

CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["nosuid", "nodev", "rw"]}
OURS = ("/run/pouchrich", "/etc/profile.d/pouchenv.sh", "/sys/fs/cgroup")
V1_ALL_THE_SAME = ("SYSTEMD_CGROUP_ENABLE_LEGACY_FORCE=1", "systemd.unified_cgroup_hierarchy=0")
"""From 256 on systemd boots on cgroup v1 only if its command line says so (NEWS); 258 does not at all."""


class BareCrun:
    """The container `identity` of crun's, running; `began` is the time of day at which it was asked for."""

    def __init__(self, node: Node, identity: str) -> None:
        self._node = node
        self.id = identity

    def command(self, *words: str) -> list[str]:
        enter = ["nsenter", f"--mount=/proc/{self._node.pid}/ns/mnt"]
        return [*enter, str(self._node.oci), "--root", str(self._node.base / "bare"), *words]

    def shell(self, script: str, *, timeout_s: float) -> str:
        """What a script in the container prints. Raises CalledProcessError."""
        done = subprocess.run(
            self.command("exec", self.id, "sh", "-c", script), capture_output=True, text=True, timeout=timeout_s
        )
        assert done.returncode == 0, f"{done.returncode}: {done.stdout[-300:]}: {done.stderr[-1000:]}"
        return done.stdout


def bundle_of(container: Container) -> tuple[dict[str, Any], str]:
    """The spec with which the OCI runtime made `container`, and the lower directories of its root file system."""
    node = container.pod.pods.node
    bundle = node.bundle_of(container.id)
    spec = json.loads((bundle / "config.json").read_text())
    for line in Path(f"/proc/{node.pid}/mountinfo").read_text().splitlines():
        before, _, after = line.partition(" - ")
        if before.split()[4] == str(bundle / "rootfs"):
            options = dict(one.partition("=")[::2] for one in after.split()[2].split(","))
            return spec, options["lowerdir"]
    raise LookupError(f"{bundle}/rootfs: not mounted")


def adapted(spec: dict[str, Any], cgroup: str) -> dict[str, Any]:
    """The spec for crun alone: no terminal, nothing of the shim's, cgroups as podman has them."""
    spec["process"]["terminal"] = False
    spec["process"]["args"] = [*spec["process"]["args"], *V1_ALL_THE_SAME]
    spec["mounts"] = [one for one in spec["mounts"] if not one["destination"].startswith(OURS)] + [CGROUP]
    spec["linux"]["cgroupsPath"] = f"{cgroup}/bare"
    spec.pop("hooks", None)
    return spec


@contextlib.contextmanager
def running(node: Node, spec: dict[str, Any], lower: str) -> Iterator[BareCrun]:
    """A container of this spec on a fresh layer above `lower`, for the length of the `with`."""
    bundle = node.base / "bare-bundle"
    for name in ("upper", "work", "rootfs"):
        (bundle / name).mkdir(parents=True)
    (bundle / "config.json").write_text(json.dumps(adapted(spec, node.cgroup)))
    inside = ("nsenter", f"--mount=/proc/{node.pid}/ns/mnt")
    layers = f"lowerdir={lower},upperdir={bundle}/upper,workdir={bundle}/work"
    subprocess.run([*inside, "mount", "-t", "overlay", "-o", layers, "overlay", str(bundle / "rootfs")], check=True)
    bare = BareCrun(node, "bare")
    try:
        node.spawn([str(node.oci), "--root", str(node.base / "bare"), "run", "-b", str(bundle), "bare"], bundle / "log")
        yield bare
    finally:
        subprocess.run(bare.command("kill", "bare", "KILL"), check=False, capture_output=True)
        until(
            lambda: subprocess.run(bare.command("delete", "--force", "bare"), capture_output=True).returncode == 0,
            "crun to delete it",
        )
        subprocess.run([*inside, "umount", "-l", str(bundle / "rootfs")], check=True)
        subprocess.run(["rm", "-rf", str(bundle)], check=True)

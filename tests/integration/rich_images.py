"""Images of whole systems for the rich modes, as OCI layouts: Debian root file systems, and variants of them.

A system's layer is written once and kept beside the root file system it was made of (`tests.root.rootfs_images`). A
variant is a small layer on top; its tar leaves the lower layer out, which containerd has from the system's own image.
"""

import gzip
import hashlib
import json
import os
import platform
import shutil
import subprocess
import tarfile
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.integration.images import ARCHITECTURES, Entry, layer_of
from tests.integration.node import Node
from tests.integration.waiting import until
from tests.root import rootfs_images

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
MEDIA = "application/vnd.oci.image"
SLOWEST_BYTES_PER_S = 4 << 20
"""What a busy disk takes in of an image."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer's blob: its file, or None where the importing containerd has it already."""

    digest: str
    diff_id: str
    size: int
    media: str
    path: Path | None


@dataclass(frozen=True, slots=True)
class System:
    """An image `pouchrich.test/SUITE-KIND:1`; `kind` is a key of rootfs_images.PACKAGES, or "busybox"."""

    kind: str
    suite: str = "bookworm"

    @property
    def reference(self) -> str:
        return f"pouchrich.test/{self}:1"

    def __str__(self) -> str:
        return f"{self.suite}-{self.kind}"


def _busybox() -> Path:
    program = shutil.which("busybox")
    if program is None:
        raise FileNotFoundError("busybox: not installed (busybox-static)")
    return Path(program)


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def system_layer(system: System) -> Layer:
    """The system's only layer, uncompressed; written where it is not there yet."""
    if system.kind == "busybox":
        path = rootfs_images.CACHE / f"busybox-{_digest(_busybox())[:8]}.layer.tar"
        if not path.exists():
            with tempfile.TemporaryDirectory() as scratch:
                _pack(rootfs_images.busybox(Path(scratch, "tree")), path)
    else:
        tree = rootfs_images.debian(system.kind, system.suite)
        path = tree.with_name(f"{tree.name}.layer.tar")
        if not path.exists():
            _pack(tree, path)
    noted = path.with_suffix(".sha256")
    if not noted.exists() or noted.stat().st_mtime < path.stat().st_mtime:
        noted.write_text(_digest(path))
    digest = noted.read_text()
    return Layer(digest, digest, path.stat().st_size, "layer.v1.tar", path)


def _pack(tree: Path, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    making = path.with_suffix(f".{os.getpid()}.new")
    subprocess.run(["tar", "--numeric-owner", "--sort=name", "-C", tree, "-cf", making, "."], check=True)
    making.rename(path)


def import_system(node: Node, system: System, *, namespace: str = "k8s.io") -> str:
    """Have the node's containerd hold the system's image, and return its name."""
    _import(node, system.reference, [system_layer(system)], namespace)
    return system.reference


def import_variant(
    node: Node, base: System, name: str, entries: Sequence[Entry], *, namespace: str = "k8s.io", **config: Any
) -> str:
    """Have the node hold an image of `base` with `entries` on top; `config` is of the image. Returns its name."""
    import_system(node, base, namespace=namespace)
    lower, reference = system_layer(base), f"pouchrich.test/{name}:1"
    with tempfile.TemporaryDirectory() as scratch:
        plain = layer_of(entries)
        packed = Path(scratch, "layer")
        packed.write_bytes(gzip.compress(plain, 1, mtime=0))
        upper = Layer(
            _digest(packed), hashlib.sha256(plain).hexdigest(), packed.stat().st_size, "layer.v1.tar+gzip", packed
        )
        there = Layer(lower.digest, lower.diff_id, lower.size, lower.media, None)
        _import(node, reference, [there, upper], namespace, **config)
    return reference


def _import(node: Node, reference: str, layers: Sequence[Layer], namespace: str, **config: Any) -> None:
    if reference in node.ctr("-n", namespace, "images", "ls", "-q").split():
        return
    with tempfile.NamedTemporaryFile(dir=node.base, suffix=".tar") as file:
        _write(Path(file.name), reference, layers, config)
        snapshotter = ("--snapshotter", node.settings.snapshotter)
        more_s = sum(layer.size for layer in layers) // SLOWEST_BYTES_PER_S
        node.ctr("-n", namespace, "images", "import", *snapshotter, file.name, timeout_s=60.0 + more_s)
    if namespace == "k8s.io":
        until(lambda: _seen(node, reference), f"CRI to see {reference}")


def _seen(node: Node, reference: str) -> bool:
    with node.client() as client:
        return client.has_image(reference)


def _write(path: Path, reference: str, layers: Sequence[Layer], config: dict[str, Any]) -> None:
    image = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": {"Cmd": ["/bin/sh"], "Env": [f"PATH={PATH}"], "WorkingDir": "/", **config},
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{one.diff_id}" for one in layers]},
        "history": [{"created_by": "pouchrich tests"} for _ in layers],
    }
    blobs: dict[str, bytes] = {}

    def add(value: object, media: str) -> dict[str, Any]:
        data = json.dumps(value).encode()
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {"mediaType": f"{MEDIA}.{media}", "digest": f"sha256:{digest}", "size": len(data)}

    manifest = {
        "schemaVersion": 2,
        "mediaType": f"{MEDIA}.manifest.v1+json",
        "config": add(image, "config.v1+json"),
        "layers": [
            {"mediaType": f"{MEDIA}.{one.media}", "digest": f"sha256:{one.digest}", "size": one.size} for one in layers
        ],
    }
    top = add(manifest, "manifest.v1+json")
    top["annotations"] = {"io.containerd.image.name": reference}
    entries = [
        Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        Entry("index.json", json.dumps({"schemaVersion": 2, "manifests": [top]}).encode()),
        *(Entry(f"blobs/sha256/{digest}", data) for digest, data in blobs.items()),
    ]
    path.write_bytes(layer_of(entries))
    with tarfile.open(path, "a") as tar:
        for one in layers:
            if one.path is not None:
                tar.add(one.path, f"blobs/sha256/{one.digest}")

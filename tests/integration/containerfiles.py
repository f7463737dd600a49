"""Images of the documents' Containerfiles, built by buildah as they stand there, and kept as archives for import.

`debian:12` is Debian 12 from the archive of this machine's apt, made like the image of that name: apt's variant of the
base system, which starts no service while packages are installed. buildah's steps run in a chroot, with the network of
before the run's own namespaces.
"""

import fcntl
import hashlib
import os
import subprocess
import tempfile
from pathlib import Path

from tests.integration import isolation
from tests.integration.node import Node
from tests.integration.waiting import until
from tests.root import rootfs_images

BASE = "docker.io/library/debian:12"
STARTS_NOTHING = "usr/sbin/policy-rc.d"
IMPORT_S = 300  # some 500 MB, on a busy machine
STORE = rootfs_images.CACHE / "buildah"


def build(context: Path, reference: str) -> Path:
    """The archive of the image that `context`/Containerfile makes, called `reference`; built where it is not there yet.

    Raises AssertionError with buildah's words.
    """
    path = rootfs_images.CACHE / f"containerfile-{_made_of(context, reference)}.tar"
    rootfs_images.CACHE.mkdir(parents=True, exist_ok=True)
    with open(rootfs_images.CACHE / ".buildah.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            making = path.with_suffix(".new")
            making.unlink(missing_ok=True)
            _base()
            _buildah("build", "--isolation", "chroot", "--pull-never", "--tag", reference, str(context))
            _buildah("push", reference, f"docker-archive:{making}:{reference}")
            _buildah("rmi", reference)
            making.rename(path)
    return path


def _made_of(context: Path, reference: str) -> str:
    """A hash of all that an image depends on, but for what the archive has by then."""
    told = hashlib.sha256(reference.encode())
    for one in sorted(context.rglob("*")):
        if one.is_file():
            told.update(f"{one.relative_to(context)} {one.stat().st_mode & 0o777:o} {one.stat().st_size}\n".encode())
            told.update(one.read_bytes() if one.suffix != ".tar" else b"")
    return told.hexdigest()[:12]


def _base() -> None:
    """Have buildah hold `BASE`."""
    if BASE in _buildah("images", "--format", "{{.Name}}:{{.Tag}}").split():
        return
    tree = rootfs_images.debian("base")
    with tempfile.TemporaryDirectory(dir=rootfs_images.CACHE) as scratch:
        tar, policy = Path(scratch, "tree.tar"), Path(scratch, "policy")
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
        subprocess.run(["tar", "--numeric-owner", "-C", tree, "-cf", tar, "."], check=True)
        container = _buildah("from", "scratch").strip()
        _buildah("add", "--quiet", container, str(tar), "/")
        _buildah("add", "--quiet", container, str(policy), f"/{STARTS_NOTHING}")
        _buildah("config", "--cmd", "bash", container)
        _buildah("commit", "--rm", "--quiet", container, BASE)


def _buildah(*arguments: str) -> str:
    """Run buildah with a store of its own. Its words of an error go to the AssertionError."""
    store = ["--root", str(STORE), "--runroot", str(STORE / "run"), "--storage-driver", "overlay"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(STORE), "LC_ALL": "C.UTF-8"}
    STORE.mkdir(parents=True, exist_ok=True)
    command = [*isolation.outside(), "unshare", "--mount", "buildah", *store, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert done.returncode == 0, (done.stdout + done.stderr)[-4000:]
    return done.stdout


def import_built(node: Node, context: Path, reference: str) -> str:
    """Have the node hold the image that `context`/Containerfile makes: `reference`, as its manifest names it."""
    if reference not in node.ctr("-n", "k8s.io", "images", "ls", "-q").split():
        words = ["--snapshotter", node.settings.snapshotter, str(build(context, reference))]
        command = node.ctr_argv("-n", "k8s.io", "images", "import", *words)
        subprocess.run(command, check=True, capture_output=True, timeout=IMPORT_S)
    with node.client() as client:
        until(lambda: client.has_image(reference), f"CRI to see {reference}")
    return reference

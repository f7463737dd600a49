"""Images made on the spot, as OCI layouts in a tar for `ctr images import`: no registry is asked.

`pouchrich.test/pause:1` is one static program that waits and reaps; `pouchrich.test/busybox:1` has busybox's
applets, users root and app (1000), and the usual empty directories.
"""

import gzip
import hashlib
import io
import json
import platform
import shutil
import subprocess
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

PAUSE = "pouchrich.test/pause:1"
BUSYBOX = "pouchrich.test/busybox:1"

ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}

PAUSE_C = r"""
#include <signal.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

static void on_signal(int signal_number)
{
    if (signal_number != SIGCHLD)
        _exit(0);
    while (waitpid(-1, NULL, WNOHANG) > 0)
        ;
}

int main(void)
{
    signal(SIGCHLD, on_signal);
    signal(SIGTERM, on_signal);
    signal(SIGINT, on_signal);
    for (;;)
        pause();
}
"""


@dataclass(frozen=True, slots=True)
class Entry:
    """One entry of a layer: a file with `data`, a symbolic link to `link`, a FIFO, or else a directory.

    `owner` is both ids.
    """

    name: str
    data: bytes | None = None
    link: str = ""
    mode: int = 0o755
    owner: int = 0
    fifo: bool = False


def write_layout(path: Path, reference: str, entries: Iterable[Entry], config: dict[str, object]) -> None:
    """Write the tar of an OCI image layout with one layer, named `reference` on import."""
    layer = layer_of(entries)
    blobs: dict[str, bytes] = {}

    def add(data: bytes, media: str) -> dict[str, object]:
        digest = hashlib.sha256(data).hexdigest()
        blobs[digest] = data
        return {
            "mediaType": f"application/vnd.oci.image.{media}",
            "digest": f"sha256:{digest}",
            "size": len(data),
        }

    image = {
        "architecture": ARCHITECTURES[platform.machine()],
        "os": "linux",
        "config": config,
        "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        "history": [{"created_by": "pouchrich tests"}],
    }
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": add(json.dumps(image).encode(), "config.v1+json"),
        "layers": [add(gzip.compress(layer, 1, mtime=0), "layer.v1.tar+gzip")],
    }
    top = add(json.dumps(manifest).encode(), "manifest.v1+json")
    top["annotations"] = {"io.containerd.image.name": reference}
    index = {"schemaVersion": 2, "manifests": [top]}
    files = [
        Entry("oci-layout", b'{"imageLayoutVersion":"1.0.0"}'),
        Entry("index.json", json.dumps(index).encode()),
    ]
    files += [Entry(f"blobs/sha256/{digest}", data) for digest, data in blobs.items()]
    path.write_bytes(layer_of(files))


def layer_of(entries: Iterable[Entry]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for entry in entries:
            member = tarfile.TarInfo(entry.name)
            member.mode, member.uid, member.gid = entry.mode, entry.owner, entry.owner
            if entry.data is not None:
                member.size = len(entry.data)
                tar.addfile(member, io.BytesIO(entry.data))
            elif entry.link:
                member.type, member.linkname = tarfile.SYMTYPE, entry.link
                tar.addfile(member)
            else:
                member.type = tarfile.FIFOTYPE if entry.fifo else tarfile.DIRTYPE
                tar.addfile(member)
    return buffer.getvalue()


def pause(path: Path) -> None:
    """Compile the pause program and write its image to path."""
    source, program = path.with_suffix(".c"), path.with_suffix(".bin")
    source.write_text(PAUSE_C)
    subprocess.run(["musl-gcc", "-static", "-Os", "-s", "-o", program, source], check=True)
    write_layout(path, PAUSE, [Entry("pause", program.read_bytes())], {"Entrypoint": ["/pause"]})


def busybox(path: Path) -> None:
    """Write the busybox image to path, from the machine's own static busybox."""
    program = shutil.which("busybox")
    if program is None:
        raise FileNotFoundError("busybox: not installed (busybox-static)")
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    entries = [Entry(name) for name in ("bin", "dev", "etc", "home", "proc", "root", "run", "sys", "var")]
    entries += [Entry("tmp", mode=0o1777), Entry("bin/busybox", Path(program).read_bytes())]
    entries += [Entry(f"bin/{applet}", link="busybox") for applet in applets if applet != "busybox"]
    entries += [
        Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home:/bin/sh\n", mode=0o644),
        Entry("etc/group", b"root:x:0:\napp:x:1000:\n", mode=0o644),
    ]
    write_layout(path, BUSYBOX, entries, {"Cmd": ["/bin/sh"], "Env": ["PATH=/bin"], "WorkingDir": "/"})


def write_all(directory: Path) -> list[Path]:
    """Write every image's tar into directory."""
    directory.mkdir(parents=True, exist_ok=True)
    paths = [directory / "pause.tar", directory / "busybox.tar"]
    pause(paths[0])
    busybox(paths[1])
    return paths

"""The release for arm64 under qemu's user mode: its installer, `start`, a pod server, and `delete`.

The kernel runs its programs by qemu (binfmt_misc), in a user namespace alone (Linux 6.7). There is no containerd and no
OCI runtime of arm64 here, so that no container runs.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.root import bare_root

QEMU = Path(os.environ.get("POUCHRICH_CACHE", Path.home() / ".cache/pouchrich"), "cross-arm64/bin/run")
ROOT = Path(__file__).parents[2]
ELF = r"\x7fELF\x02\x01\x01" + r"\x00" * 9 + r"\x02\x00\xb7\x00"
MASK = r"\xff" * 7 + r"\x00" + r"\xff" * 8 + r"\xfe\xff\xff\xff"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.full,
    pytest.mark.timeout(600),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

LIFE = """
set -eu
mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc
printf '%s' ':arm64:M::{elf}:{mask}:{qemu}:PF' >/proc/sys/fs/binfmt_misc/register
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /var/lib
mkdir -p /run/unpacked /run/containerd /run/bundle
zstd -dc {release} | tar -C /run/unpacked -x
/run/unpacked/*/install --prefix /run/prefix >/dev/null
shim=/run/prefix/bin/containerd-shim-pouchrich-v2
echo "machine $(od -An -tu1 -j18 -N1 "$(readlink -f $shim)")"
/run/prefix/bin/pouchrich version
cd /run/bundle
echo '{{"ociVersion": "1.0.2"}}' >config.json
mkfifo log
cat log >/run/log &
for round in 1 2 3; do
    address=$($shim -namespace n -id c -address /run/c.sock start)
    {python} {client} $address
    $shim -namespace n -id c -address /run/c.sock -bundle /run/bundle delete | wc -c
done
echo "sockets" /run/containerd/s/*
cat /run/log
"""
"""For a shell that is alone in its namespaces of users, mounts and processes."""

CLIENT = """
import asyncio, sys
sys.path.insert(0, {root!r})
from google.protobuf.empty_pb2 import Empty
from protos.gen import task_pb2 as pb
from shim.ttrpc.client import TtrpcClient

async def ask():
    client = await TtrpcClient.connect(sys.argv[1])
    call = lambda word, request, answer: client.call("containerd.task.v2.Task", word, request, answer, timeout_s=60)
    server = (await call("Connect", pb.ConnectRequest(id="c"), pb.ConnectResponse)).shim_pid
    print("title", open(f"/proc/{{server}}/comm").read().strip())
    await call("Shutdown", pb.ShutdownRequest(id="c"), Empty)

asyncio.run(ask())
"""


def test_it_installs_and_a_pod_server_of_it_starts_answers_and_ends(tmp_path):
    release = bare_root.newest_artefact("arm64")
    if release is None or not QEMU.exists():
        pytest.skip("no release for arm64 in dist/: ARCHITECTURE=arm64 hack/release.sh makes one")
    client = tmp_path / "client.py"
    client.write_text(CLIENT.format(root=str(ROOT)))
    life = LIFE.format(elf=ELF, mask=MASK, qemu=QEMU, release=release, python=sys.executable, client=client)
    alone = ["unshare", "--user", "--map-root-user", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc"]
    done = subprocess.run([*alone, "sh", "-c", life], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    said = done.stdout.splitlines()
    assert said[0].split() == ["machine", "183"]  # EM_AARCH64
    rounds = [line for line in said if line.startswith("title ")]
    assert rounds == ["title containerd-shim"] * 3
    assert "sockets /run/containerd/s/*" in said, said
    assert done.stderr == ""

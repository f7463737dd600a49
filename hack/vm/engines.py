"""Checks container engines inside an unprivileged systemd pod with a user namespace, by the preset of docs/engines.md.

Each round is a separate pod: it boots, the engine starts, pulls from the registry on the pod's loopback, builds, runs,
and the pod stops. The kernel's command line says which engines, and how many rounds of each. Run as `cgroup2`.
"""

import re
import sys
import time
from pathlib import Path
from typing import Any

import manifests
import pods
from guest import APPLICATION, MIB, PREFIX, check, configured, equal, of, option, run, run_checks, until
from pods import FIRST_ID, IDS, PodContainer

from tests.cri.gen import runtime_pb2 as pb

MADE, OURS = "localhost:5000/made:latest", "--runtime io.containerd.pouchrich.v2"
PULL = "ctr images pull --plain-http"
SCRIPTS = {
    "podman": {
        "start": "podman info --format {{.Store.GraphDriverName}}",
        "pull": "podman pull -q localhost:5000/base:latest",
        "build": "podman build -q -t made /srv/build",
        "run": "podman run --rm made",
        "limit": "podman run --rm --memory 64m made cat /sys/fs/cgroup/memory.max",
    },
    "containerd": {
        "start": "systemctl start containerd && ctr version >/dev/null && echo up",
        "pull": f"{PULL} localhost:5000/base:latest",
        "build": f"buildah build -q -t {MADE} /srv/build && buildah push -q {MADE} && {PULL} {MADE}",
        "run": f"ctr run --rm {OURS} {MADE} inner",
        # ctr gives its containers no /sys/fs/cgroup.
        "limit": f"ctr run --detach {OURS} --memory-limit 67108864 {MADE} inner sleep 60 >/dev/null"
        " && cat $(find /sys/fs/cgroup -path '*/inner/memory.max')"
        "; ctr tasks rm --force inner >/dev/null 2>&1; ctr containers rm inner",
    },
    "dockerd": {
        # containerd must see the mounts that dockerd makes for its containers: no mount namespace of its own.
        "start": "rm -r /etc/systemd/system/containerd.service.d && systemctl daemon-reload"
        " && systemctl start docker && docker info --format {{.Driver}}",
        "pull": "docker pull -q localhost:5000/base:latest",
        "build": "DOCKER_BUILDKIT=0 docker build -q -t made /srv/build",
        "run": "docker run --rm made",
        "limit": "docker run --rm --memory 64m made cat /sys/fs/cgroup/memory.max",
    },
}
WANTED = {"run": "made", "limit": str(64 * MIB)}


def preset() -> dict[str, Any]:
    """The pod's spec."""
    block = re.search(r"```yaml\n(.*?)```", Path("/vm/engines.md").read_text(), re.DOTALL)
    assert block is not None
    (pod,) = manifests.load(block[1])
    found: dict[str, Any] = pod["spec"]
    return found


def asked(name: str) -> pb.ContainerConfig:
    """The CRI request that the kubelet makes from the preset; an emptyDir is an ID-mapped directory of the node."""
    spec = preset()
    (container,) = spec["containers"]
    context = container["securityContext"]
    assert (spec["hostUsers"], context["procMount"]) == (False, "Unmasked")
    ids = [pb.IDMapping(host_id=FIRST_ID, container_id=0, length=IDS)]
    mounts = []
    for number, one in enumerate(container["volumeMounts"]):
        directory = Path(f"/var/lib/vm/{name}/{number}")
        directory.mkdir(parents=True)
        mounts.append(
            pb.Mount(host_path=str(directory), container_path=one["mountPath"], uidMappings=ids, gidMappings=ids)
        )
    unconfined = pb.SecurityProfile(profile_type=pb.SecurityProfile.Unconfined)
    security = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(add_capabilities=context["capabilities"]["add"]),
        seccomp=unconfined,
        apparmor=unconfined,
    )
    return pb.ContainerConfig(mounts=mounts, linux=pb.LinuxContainerConfig(security_context=security))


def round_of(engine: str, number: int) -> None:
    with of(f"{engine} round {number}"):
        name = f"{engine}-{number}"
        command = "/bin/sh", "-c", APPLICATION
        config = configured("crun", "systemd")
        memory = 1024 * MIB
        pod = PodContainer(name, "engines", config, *command, memory=memory, mapped=True, more=asked(name))
        until(lambda: pod.shell("systemctl is-system-running") not in ("starting", "initializing"))
        failed = pod.shell("systemctl list-units --failed --plain --no-legend")
        equal("failed units", failed, "")
        if number == 1:
            done = run(str(PREFIX / "bin/pouchrich"), "explain", pod.id)
            said = [line for line in (done.stdout + done.stderr).splitlines() if "inside" in line or done.returncode]
            only = "/dev/fuse and /dev/net/tun, for engines of other users than root only"
            check(
                "explain says that devices for other users alone are missing", len(said) == 1 and only in said[0], said
            )
        took = []
        for step, script in SCRIPTS[engine].items():
            began = time.monotonic()
            done = pod.exec("/bin/sh", "-c", script)
            took.append(f"{step} {time.monotonic() - began:.0f} s")
            said = done.stdout.strip().splitlines()[-1:]
            good = done.returncode == 0 and said == [WANTED.get(step, *said)]
            check(step, good, (done.returncode, (done.stdout + done.stderr)[-900:]))
            if not good:
                print(pod.shell("journalctl --no-pager -n 30 -o cat"), flush=True)
                break
        print(f"     {engine} round {number}: {', '.join(took)}", flush=True)
        equal("exit status after TERM", pod.end("TERM"), 42)
        pod.is_gone()


def checks() -> None:
    (rounds,) = option("rounds", "1")
    for engine in option("engines", ",".join(SCRIPTS)):
        for number in range(1, int(rounds) + 1):
            round_of(engine, number)


if __name__ == "__main__":
    sys.exit(run_checks(checks, configuration=pods.both_ways()))

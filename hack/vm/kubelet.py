"""Checks of the kubelet and its containers on pure cgroup v2, which the kubelet requires since 1.35: run like `v2`.

The kubelet runs without an API server, with its defaults for cgroups and the systemd driver. The pods are static and
have no RuntimeClass: our shim is that of containerd's default handler.
"""

import json
import os
import shutil
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pods
from cgroup2 import limits_of
from guest import (
    IMAGES,
    INITS,
    LIMIT,
    LOGS,
    MIB,
    OCIS,
    PATIENCE_S,
    TOP,
    check,
    configured,
    equal,
    of,
    run,
    run_checks,
    text,
    until,
)
from pods import OWN_FILE, SOCKET

from tests.cri.client import Client
from tests.cri.gen import runtime_pb2 as pb

PROGRAM = "/vm/kubelet"
URL = "https://127.0.0.1:10250"
MANIFESTS, SHARED = Path("/etc/vm/pods"), Path("/run/shared")
NAME = "vm"
BURSTABLE = "kubepods.slice/kubepods-burstable.slice"
"""The slice of pods whose requests are below their limits."""

BOOT_S = 300.0
GRACE_S = 60

CONFIGURATION = {
    "apiVersion": "kubelet.config.k8s.io/v1beta1",
    "kind": "KubeletConfiguration",
    "address": "127.0.0.1",
    "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
    "authorization": {"mode": "AlwaysAllow"},
    "cgroupDriver": "systemd",
    "containerRuntimeEndpoint": f"unix://{SOCKET}",
    "crashLoopBackOff": {"maxContainerRestartPeriod": "1s"},
    "evictionHard": {"memory.available": "50Mi"},
    "failSwapOn": False,
    "imageGCHighThresholdPercent": 100,
    "makeIPTablesUtilChains": False,
    "runtimeRequestTimeout": "10m",
    "staticPodPath": str(MANIFESTS),
}

LIVES = """echo "$(cat /proc/1/comm) $PPID" >>/shared/starts
[ "$(wc -l </shared/starts)" -gt 1 ] || exit 7
trap 'echo term >>/shared/order; exit 5' TERM
touch /shared/ready
while :; do sleep 0.2; done
"""
"""Exits with 7 at its first start; from the second start on it runs until TERM."""

AFTER = 'echo "poststop $POUCHRICH_EXIT_CODE" >>/shared/order'
POSTSTOP = f"[[hooks.poststop]]\nname = \"after\"\nwhere = \"container\"\ncommand = ['/bin/sh', '-c', '{AFTER}']\n"

Object = dict[str, Any]


def get(path: str) -> Object:
    """Get a path of the kubelet's own API."""
    trusting = ssl._create_unverified_context()  # its certificate is self-signed
    with urllib.request.urlopen(f"{URL}{path}", context=trusting, timeout=PATIENCE_S) as answer:
        found: Object = json.load(answer)
        return found


def answers() -> bool:
    try:
        return bool(get("/pods"))
    except OSError:
        return False


class StaticPod:
    """A pod with one container, `app`, from a manifest in the kubelet's directory. `more` is added to the container.

    It exists within a `with`. Then a check verifies that its cgroups are gone, which the kubelet removes last.
    """

    def __init__(self, name: str, image: str, script: str, *, policy: str, more: Mapping[str, object]) -> None:
        self.name = f"{name}-{NAME}"  # the kubelet appends the node's name
        self._client = Client(SOCKET)
        shutil.rmtree(SHARED, ignore_errors=True)
        SHARED.mkdir()
        container = {
            "name": "app",
            "image": f"localhost/{image}:latest",
            "imagePullPolicy": "Never",
            "command": ["/bin/sh", "-c", script],
            "resources": {"limits": {"memory": str(LIMIT), "cpu": "1"}, "requests": {"memory": str(64 * MIB)}},
            "volumeMounts": [{"name": "shared", "mountPath": "/shared"}],
            **more,
        }
        spec = {
            "hostNetwork": True,
            "restartPolicy": policy,
            "terminationGracePeriodSeconds": GRACE_S,
            "containers": [container],
            "volumes": [{"name": "shared", "hostPath": {"path": str(SHARED)}}],
        }
        manifest = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}
        self._file = MANIFESTS / f"{name}.json"
        hidden = MANIFESTS / f".{name}"  # the kubelet ignores names that begin with a dot
        hidden.write_text(json.dumps(manifest))
        hidden.rename(self._file)

    def _pod(self) -> Object:
        found = [one for one in get("/pods").get("items") or [] if one["metadata"]["name"] == self.name]
        return found[0] if found else {"metadata": {}, "status": {}}

    def status(self) -> Object:
        """The container's status from the kubelet; empty at first."""
        found: list[Object] = self._pod()["status"].get("containerStatuses", [])
        return found[0] if found else {}

    def end(self, which: str) -> tuple[object, object]:
        """The exit code and reason in `state` or `lastState`."""
        found = self.status().get(which, {}).get("terminated", {})
        return found.get("exitCode"), found.get("reason")

    def info(self) -> Object:
        identity = self.status()["containerID"].removeprefix("containerd://")
        request = pb.ContainerStatusRequest(container_id=identity, verbose=True)
        found: Object = json.loads(self._client.call(request, pb.ContainerStatusResponse).info["info"])
        return found

    @property
    def cgroup(self) -> Path:
        """The container's cgroup, which systemd has made on containerd's request."""
        place, prefix, identity = self.info()["runtimeSpec"]["linux"]["cgroupsPath"].split(":")
        return TOP / BURSTABLE / place / f"{prefix}-{identity}.scope"

    def figures(self) -> Object:
        """The kubelet's stats of the container; empty at first."""
        summaries = {one["podRef"]["name"]: one for one in get("/stats/summary").get("pods", [])}
        found: list[Object] = summaries.get(self.name, {}).get("containers", [])
        return found[0] if found else {}

    def exec(self, *command: str) -> pb.ExecSyncResponse:
        identity = self.status()["containerID"].removeprefix("containerd://")
        request = pb.ExecSyncRequest(container_id=identity, cmd=command, timeout=int(PATIENCE_S))
        return self._client.call(request, pb.ExecSyncResponse, timeout_s=2 * PATIENCE_S)

    def __enter__(self) -> "StaticPod":
        return self

    def __exit__(self, *_: object) -> None:
        uid = self._pod()["metadata"].get("uid", self.name)
        self._file.unlink()
        until(lambda: not self._left(uid), BOOT_S)
        equal("what is left of the pod's cgroups", self._left(uid), [])
        self._client.close()

    @staticmethod
    def _left(uid: str) -> list[str]:
        tops = (path for path, *_ in os.walk(TOP) if f"pod{uid.replace('-', '_')}" in os.path.basename(path))
        return sorted(tops)


def notes(name: str) -> list[str]:
    """The lines of a file that a container has written."""
    path = SHARED / name
    return path.read_text().splitlines() if path.exists() else []


def lives(oci: str, mode: str) -> None:
    OWN_FILE.write_text(f"version = 1\n{configured(oci, mode, POSTSTOP if mode in INITS else '')}")
    probe = {"exec": {"command": ["test", "-e", "/shared/ready"]}, "periodSeconds": 2, "timeoutSeconds": 60}
    before = {"exec": {"command": ["/bin/sh", "-c", "echo prestop >>/shared/order"]}}
    more = {"readinessProbe": probe, "lifecycle": {"preStop": before}}
    with of(f"{oci} {mode} static pod"):
        with StaticPod(f"{mode}-{oci}", IMAGES[mode], LIVES, policy="Always", more=more) as pod:
            check(
                "it is ready, by an exec of the probe", until(lambda: pod.status().get("ready"), BOOT_S), pod.status()
            )
            equal("restartCount", pod.status().get("restartCount"), 1)
            equal("lastState", pod.end("lastState"), (7, "Error"))
            parent = f"{INITS.get(mode, 'sh')} {int(mode in INITS)}"
            equal("PID 1 and the application's parent at each start", notes("starts"), [parent] * 2)
            check("its cgroup is below the pod's, where systemd was asked for it", pod.cgroup.is_dir(), str(pod.cgroup))
            limits = limits_of(pod)
            files = {name: text(limits / name) for name in ("memory.max", "cpu.max", "memory.oom.group")}
            wanted = {"memory.max": str(LIMIT), "cpu.max": "100000 100000", "memory.oom.group": "1"}
            equal("what kubelet asks of its cgroup", files, wanted)
            until(lambda: pod.figures().get("memory", {}).get("workingSetBytes"), BOOT_S)
            found = pod.figures()
            check("kubelet measures its memory", found.get("memory", {}).get("workingSetBytes", 0) > 0, found)
            check("and its processor time", found.get("cpu", {}).get("usageCoreNanoSeconds", 0) > 0, found)
        ended = ["prestop", "term", *(["poststop 5"] if mode in INITS else [])]
        equal("what its end did", notes("order")[-len(ended) :], ended)


def runs_out_of_memory(oci: str, mode: str, who: str) -> None:
    """The kubelet sets memory.oom.group: all processes of the container die, whichever used the memory."""
    OWN_FILE.write_text(f"version = 1\n{configured(oci, mode)}")
    takes = "sleep 1000" if who == "exec" else "tail /dev/zero"
    script = f"touch /shared/ready; exec {takes}"
    name = f"oom-{who}-{mode}-{oci}"
    with (
        of(f"{oci} {mode} static pod out of memory by its {who}"),
        StaticPod(name, IMAGES[mode], script, policy="Never", more={}) as pod,
    ):
        check("it runs", until((SHARED / "ready").exists, BOOT_S), pod.status())
        if who == "exec":
            until(lambda: "running" in pod.status().get("state", {}), BOOT_S)
            check("the exec does not live", pod.exec("tail", "/dev/zero").exit_code != 0)
        until(lambda: pod.end("state") != (None, None), BOOT_S)
        equal("state", pod.end("state"), (137, "OOMKilled"))


def loses_one_process(oci: str, mode: str) -> None:
    """With `singleProcessOOMKill` the kernel kills the process that uses the memory, and the others live on."""
    OWN_FILE.write_text(f"version = 1\n{configured(oci, mode)}")
    script = "tail /dev/zero; echo $? >>/shared/order; touch /shared/ready; exec sleep 1000"
    with (
        of(f"{oci} {mode} static pod of which one process is out of memory"),
        StaticPod(f"one-{mode}-{oci}", IMAGES[mode], script, policy="Always", more={}) as pod,
    ):
        check("the application outlives its child", until((SHARED / "ready").exists, BOOT_S), pod.status())
        equal("the child's exit status", notes("order"), ["137"])
        until(lambda: "running" in pod.status().get("state", {}), BOOT_S)
        first = pod.info()["pid"]
        equal("memory.oom.group", text(limits_of(pod) / "memory.oom.group"), "0")
        equal("exit status of an exec that takes the memory", pod.exec("tail", "/dev/zero").exit_code, 137)
        kills = dict(line.split() for line in text(limits_of(pod) / "memory.events").splitlines())["oom_kill"]
        equal("processes that the kernel killed", kills, "2")
        equal("another exec", pod.exec("cat", "/proc/1/comm").stdout.decode().strip(), INITS.get(mode, "sleep"))
        equal("PID 1 is the one of before", pod.info()["pid"], first)
        equal("restartCount", pod.status().get("restartCount"), 0)


@contextmanager
def kubelet(**more: object) -> Iterator[bool]:
    """Run a kubelet with CONFIGURATION and `more` within the `with`; yields whether it answers."""
    MANIFESTS.mkdir(parents=True, exist_ok=True)
    file = Path("/etc/vm/kubelet.json")
    file.write_text(json.dumps({**CONFIGURATION, **more}))
    argv = [PROGRAM, f"--config={file}", f"--hostname-override={NAME}", "--node-ip=127.0.0.1"]
    with (LOGS / "kubelet").open("wb") as said:
        daemon = subprocess.Popen(argv, stdout=said, stderr=said)
    with of(run(PROGRAM, "--version").stdout.strip()):
        holds = until(answers, BOOT_S)
        check("it answers", holds, text(LOGS / "kubelet")[-2000:])
    yield holds
    daemon.terminate()
    daemon.wait()


def checks() -> None:
    each = [(oci, mode) for oci in OCIS for mode in ("plain", *INITS)]
    with kubelet() as holds:
        for oci, mode in each if holds else ():
            lives(oci, mode)
            for who in ("application", "exec"):
                runs_out_of_memory(oci, mode, who)
    with kubelet(singleProcessOOMKill=True) as holds:
        for oci, mode in each if holds else ():
            loses_one_process(oci, mode)


if __name__ == "__main__":
    sys.exit(run_checks(checks, configuration=pods.both_ways()))

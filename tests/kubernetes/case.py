"""One case: the objects that it makes, what Kubernetes says of them, what their containers noted, and its lines."""

import json
import re
import sys
import time
import traceback
from collections.abc import Callable
from typing import Any

from tests.cri.gen import runtime_pb2 as pb
from tests.kubernetes import manifests
from tests.kubernetes.cluster import NAME, Cluster
from tests.kubernetes.manifests import Kind, Object

PATIENCE_S = 150.0

OF_POD = {
    "policy",
    "annotations",
    "terminationGracePeriodSeconds",
    "initContainers",
    "os",
    "hostUsers",
    "hostname",
    "hostnameOverride",
    "subdomain",
    "setHostnameAsFQDN",
    "dnsPolicy",
    "dnsConfig",
}
"""What of a template is the pod's, and not its container's."""

failed: list[str] = []
"""The lines of the checks that failed, of all cases."""


def say(line: str) -> None:
    """Print a line at once and whole, as cases run beside each other."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


class Case:
    """One case for one kind: its objects have the label `label`, and its containers `shared` at /shared."""

    def __init__(self, cluster: Cluster, kind: Kind, name: str) -> None:
        self.cluster = cluster
        self.kind = kind
        self.title = f"{kind.name}: {name.replace('_', ' ')}"
        self.label = re.sub("[^a-z0-9]+", "-", f"{name}-{kind.name}")
        self.shared = cluster.node.base / "shared" / self.label
        self.shared.mkdir(parents=True)

    # What is looked at

    def check(self, what: str, holds: bool, found: object = "") -> None:
        """Print one line."""
        words = f"ok   {self.title}: {what}" if holds else f"FAIL {self.title}: {what}: found {found!r}"
        if not holds:
            failed.append(words)
        say(words.replace("\n", " | "))

    def equal(self, what: str, found: object, wanted: object) -> None:
        self.check(f"{what} is {wanted}", found == wanted, found)

    def notes(self, name: str) -> list[str]:
        """The lines that the containers wrote to a file."""
        path = self.shared / name
        return path.read_text().splitlines() if path.exists() else []

    def started(self, times: int) -> None:
        """The application has noted so many starts: what runs may not have come to that yet."""
        self.until(lambda: len(self.notes("starts")) >= times, 20)
        self.equal("starts", len(self.notes("starts")), times)

    def pod(self) -> Object:
        """The case's only pod; without a status where there is none."""
        pods = self.cluster.pods(self.label)
        return pods[0] if len(pods) == 1 else {"metadata": {"name": ""}, "status": {}}

    def phase(self) -> str:
        return str(self.pod()["status"].get("phase", ""))

    def status(self) -> Object:
        """What the pod says of the container `app`."""
        statuses: list[Object] = self.pod()["status"].get("containerStatuses", [])
        return next((one for one in statuses if one["name"] == "app"), {})

    def count(self) -> int:
        return int(self.status().get("restartCount", -1))

    def runs(self, count: int) -> bool:
        """Whether the container runs, after `count` restarts."""
        status = self.status()
        return "running" in status.get("state", {}) and status["restartCount"] == count

    def condition(self, kind: str) -> str:
        conditions = self.pod()["status"].get("conditions", [])
        return next((str(one["status"]) for one in conditions if one["type"] == kind), "")

    def figures(self) -> Object:
        """What kubelet measures of the container; nothing at first."""
        summary = self.cluster.get(f"/api/v1/nodes/{NAME}/proxy/stats/summary")
        pods = {one["podRef"]["name"]: one for one in summary["pods"]}
        found: list[Object] = pods.get(self.label, {}).get("containers", [])
        return next((one for one in found if one["name"] == "app"), {})

    def info(self) -> Object:
        """containerd's own account of the container."""
        identity = self.status()["containerID"].removeprefix("containerd://")
        with self.cluster.node.client() as client:
            request = pb.ContainerStatusRequest(container_id=identity, verbose=True)
            found: Object = json.loads(client.call(request, pb.ContainerStatusResponse).info["info"])
        return found

    def sandbox_pid(self) -> int:
        """The pid of the first process of the pod's sandbox."""
        with self.cluster.node.client() as client:
            request = pb.PodSandboxStatusRequest(pod_sandbox_id=self.info()["sandboxID"], verbose=True)
            return int(json.loads(client.call(request, pb.PodSandboxStatusResponse).info["info"])["pid"])

    def ends(self, pod: str) -> list[Object]:
        """What the node's poststop hook was told of the application's container in `pod`, one for each end."""
        path = self.cluster.node.base / "ends"
        lines = path.read_text().splitlines() if path.exists() else []
        told = (json.loads(line) for line in lines)
        return [one for one in told if (one["pod"], one["container"]) == (pod, "app")]

    def until(self, holds: Callable[[], object], patience_s: float = PATIENCE_S) -> bool:
        """Whether it came to hold in time."""
        end = time.monotonic() + patience_s
        while not holds():
            if time.monotonic() > end:
                return False
            time.sleep(0.3)
        return True

    def arrives(self, what: str, holds: Callable[[], object], patience_s: float = PATIENCE_S) -> None:
        """A check of something that takes its time. Raises TimeoutError, as the rest of the case needs it."""
        came = self.until(holds, patience_s)
        self.check(what, came, self.pod()["status"])
        if not came:
            raise TimeoutError(what)

    def comes_to(self, phase: str) -> None:
        self.arrives(f"phase {phase}", lambda: self.phase() == phase)

    def comes_to_run(self, what: str, restarts: int) -> None:
        """The container runs, in time, after so many restarts; a check called `what`."""
        self.arrives(what, lambda: self.runs(restarts))

    def ended(self, which: str, code: int, reason: str) -> None:
        """How the container ended: `which` is "state", or "lastState" for the one before it."""
        found = self.status()[which]
        end = found.get("terminated", {})
        holds = (end.get("exitCode"), end.get("reason")) == (code, reason)
        self.check(f"{which} is {(code, reason)}", holds, found)

    # What is done

    def template(self, script: str, **more: Any) -> Object:
        """A template whose one container, `app`, has the rest of `more` that is a container's."""
        own = {key: more.pop(key) for key in list(more) if key not in OF_POD}
        return manifests.template(self.kind, self.label, self.shared, [manifests.container(script, **own)], **more)

    def run(self, script: str, **more: Any) -> str:
        """A pod of such a template: its name."""
        self.cluster.create(manifests.pod(self.label, self.template(script, **more)))
        return self.label

    def run_job(self, script: str, *, policy: str = "Never", **more: Any) -> None:
        self.cluster.create(manifests.job(self.label, self.template(script, policy=policy), **more))

    def job(self) -> Object:
        status: Object = self.cluster.get(f"/apis/batch/v1/namespaces/default/jobs/{self.label}")["status"]
        return status

    def job_ends(self, condition: str) -> Object:
        """Wait for the condition: what it says."""

        def found() -> list[Object]:
            conditions = self.job().get("conditions", [])
            return [one for one in conditions if one["type"] == condition and one["status"] == "True"]

        came = self.until(found)
        self.check(f"the Job is {condition}", came, self.job())
        return found()[0] if came else {}

    def exec(self, *command: str, said: str = "") -> Any:
        """`kubectl exec` in `app`, with `said` as its standard input."""
        place = ("-i", self.pod()["metadata"]["name"], "-c", "app")
        return self.cluster.kubectl("exec", *place, "--", *command, said=said)

    def delete_pod(self) -> float:
        """`kubectl delete pod`, which waits until it is gone: when that began."""
        began = time.time()
        done = self.cluster.kubectl("delete", "pod", self.label)
        self.check("kubectl delete pod succeeds", done.returncode == 0, done.stderr)
        return began

    def ended_within(self, began: float, least_s: float, most_s: float) -> None:
        """The container's only end was so long after `began`; that its pod is gone may take kubelet a minute more."""
        if self.kind.is_rich:
            self.until(lambda: self.ends(self.label), 20)
            took = [one["at"] - began for one in self.ends(self.label)]
            self.check(
                f"it ends within {least_s} to {most_s} s",
                bool(took) and all(least_s <= it < most_s for it in took),
                took,
            )

    def hooks_ran_once(self, pod: str, codes: list[int]) -> None:
        """The node's poststop hook ran once for each end of the container; `codes` are the exit codes in order."""
        if self.kind.is_rich:
            self.until(lambda: len(self.ends(pod)) >= len(codes), 20)
            time.sleep(1)
            self.equal("exit codes that the node's poststop hook saw", [one["code"] for one in self.ends(pod)], codes)


def attempt(case: Case, function: Callable[[Case], None]) -> None:
    """Run one case: what it raises is a failed check."""
    began = time.monotonic()
    try:
        try:
            function(case)
        finally:
            case.cluster.delete(["jobs", "deployments", "pods"], case.label)
    except Exception as error:
        traceback.print_exc()
        case.check("runs to its end", False, error)
    say(f"     {case.title}: {time.monotonic() - began:.0f} s")

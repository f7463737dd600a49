"""Cases of what later releases of Kubernetes do: with each the first that does it by default, or by `cluster.GATES`."""

import functools
import json
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from tests.cri.client import CallFailed
from tests.integration import images
from tests.kubernetes import manifests
from tests.kubernetes.case import Case
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.manifests import (
    KINDS,
    LIVE,
    NODE,
    NODE_SYSTEMD,
    START,
    Kind,
    Object,
)

ROUNDS = 20
ROUND_S = 30.0  # of a busy machine's patience
AGAIN = 88
MIB = 1 << 20

HOOKS = {
    f"pouchrich.io/{stage}": json.dumps(
        [{"name": stage, "command": ["sh", "-c", f"echo {stage} $POUCHRICH_NAME >>/shared/hooks"]}]
    )
    for stage in ("prestart", "poststop")
}
"""Of a pod: each of its containers has them."""


def rule(action: str) -> Object:
    """Of a container: what is to happen when it exits with AGAIN, and nothing after any other exit."""
    exits = {"operator": "In", "values": [AGAIN]}
    return {"restartPolicy": "Never", "restartPolicyRules": [{"action": action, "exitCodes": exits}]}


def restart_rule(case: Case) -> None:
    name = case.run(
        f"{START} test $(wc -l </shared/starts) = 2 || exit {AGAIN}; exit 3", policy="Never", **rule("Restart")
    )
    case.comes_to("Failed")
    case.equal("restartCount", case.count(), 1)
    case.ended("lastState", AGAIN, "Error")
    case.ended("state", 3, "Error")
    case.hooks_ran_once(name, [AGAIN, 3])


def all_containers_restarted(case: Case) -> None:
    """One container's exit restarts all of the pod, its init container too, in the sandbox that there is."""
    script = f"{START} trap 'exit 0' TERM; test $(wc -l </shared/starts) -gt {ROUNDS} || exit {AGAIN}; {LIVE}"
    beside = f"trap 'exit 7' TERM; {LIVE}"
    containers = [manifests.container(script, **rule("RestartAllContainers")), manifests.busybox(beside, "beside")]
    of = manifests.template(
        case.kind,
        case.label,
        case.shared,
        containers,
        policy="Never",
        annotations=HOOKS if case.kind.is_rich else {},
        initContainers=[manifests.busybox("echo prepared >>/shared/prepared", "prepare")],
    )
    case.cluster.create(manifests.pod(case.label, of))
    case.arrives("it runs", lambda: sandbox_of(case))
    sandbox = sandbox_of(case)
    case.arrives(f"it runs after {ROUNDS} restarts", lambda: case.runs(ROUNDS), ROUNDS * ROUND_S)
    case.equal("its sandbox is the same", sandbox_of(case), sandbox)
    for file in ("starts", "prepared"):
        case.equal(f"lines of {file}", len(case.notes(file)), ROUNDS + 1)
    case.delete_pod()
    case.hooks_ran_once(case.label, [AGAIN] * ROUNDS + [0])
    if case.kind.is_rich:
        for stage in ("prestart", "poststop"):
            for name in ("prepare", "app", "beside"):
                count = case.notes("hooks").count(f"{stage} {name}")
                case.equal(f"{stage} hooks of {name}", count, ROUNDS + 1)


def sandbox_of(case: Case) -> str:
    """The sandbox of the container that the pod's status has; "" where that is gone by now, or there is none yet."""
    try:
        return str(case.info()["sandboxID"])
    except (CallFailed, KeyError):
        return ""


def native_sidecar(case: Case) -> None:
    """It starts first, is told to stop last, and its exit code is nobody's business."""
    up = {"exec": {"command": ["test", "-e", "/shared/up"]}, "periodSeconds": 1, "failureThreshold": 60}
    end = "trap 'echo sidecar stops >>/shared/order; exit 3' TERM"
    script = f"{end}; echo sidecar >>/shared/order; touch /shared/up; {LIVE}"
    sidecar = manifests.container(script, "sidecar", restartPolicy="Always", startupProbe=up)
    of = case.template("echo app >>/shared/order; sleep 1", policy="Never", initContainers=[sidecar])
    of["metadata"]["annotations"] |= {"pouchrich.io/mode.sidecar": case.kind.init} if case.kind.is_rich else {}
    case.cluster.create(manifests.job(case.label, of))
    case.job_ends("Complete")
    case.equal("what happened", case.notes("order"), ["sidecar", "app", "sidecar stops"])
    (status,) = case.pod()["status"]["initContainerStatuses"]
    case.equal("the sidecar's exit code", status["state"]["terminated"]["exitCode"], 3)


def own_stop_signal(case: Case) -> None:
    script = f"trap 'echo usr1 >>/shared/order; exit 6' USR1; trap 'echo term >>/shared/order; exit 5' TERM; {LIVE}"
    name = case.run(script, lifecycle={"stopSignal": "SIGUSR1"}, os={"name": "linux"})
    case.comes_to_run("it runs", 0)
    case.until(lambda: case.exec("true").returncode == 0, 20)
    case.delete_pod()
    case.equal("what the application was told", case.notes("order"), ["usr1"])
    case.hooks_ran_once(name, [6])


def resized(case: Case) -> None:
    """CPU and memory of a container that runs on."""
    resources = {"limits": {"cpu": "300m", "memory": "256Mi"}, "requests": {"cpu": "100m", "memory": "64Mi"}}
    name = case.run(f"trap 'exit 0' TERM; {START} {LIVE}", resources=resources)
    case.comes_to_run("it runs", 0)
    case.equal("its limits", limits(case), (30_000, 256 * MIB))
    less = 300 if case.cluster.release >= (1, 34) else 600  # the API of 1.33 refuses to lower memory in place
    for cpu, memory in ((700, 512), (200, less)):
        wanted = {"cpu": f"{cpu}m", "memory": f"{memory}Mi"}
        patch = {"spec": {"containers": [{"name": "app", "resources": {"limits": wanted}}]}}
        done = case.cluster.kubectl("patch", "pod", name, "--subresource=resize", f"--patch={json.dumps(patch)}")
        case.check(f"a resize to {cpu}m and {memory}Mi is taken", done.returncode == 0, done.stderr)
        case.arrives("the pod's status says so", functools.partial(has_limits, case, wanted))
        case.equal("its limits then", limits(case), (cpu * 100, memory * MIB))
    case.equal("restartCount and starts", (case.count(), len(case.notes("starts"))), (0, 1))
    case.delete_pod()
    case.hooks_ran_once(name, [0])


def has_limits(case: Case, wanted: dict[str, str]) -> bool:
    return bool(case.status().get("resources", {}).get("limits") == wanted)


def limits(case: Case) -> tuple[int, int]:
    """The container's own in cgroup v1, in microseconds of each 100,000 and in bytes."""
    path = case.info()["runtimeSpec"]["linux"]["cgroupsPath"].lstrip("/")

    def read(controller: str, file: str) -> int:
        return int(Path("/sys/fs/cgroup", controller, path, file).read_text())

    return read("cpu", "cpu.cfs_quota_us"), read("memory", "memory.limit_in_bytes")


def user_namespace(case: Case) -> None:
    """And with it what an application that was made for a machine asks of a pod: a name, a resolver, no root."""
    case.run(
        f"trap 'exit 4' TERM; cat /proc/self/uid_map >/shared/map; hostname -f >/shared/name; {LIVE}",
        hostUsers=False,
        hostname="ipa",
        subdomain="example",
        setHostnameAsFQDN=True,
        dnsPolicy="None",
        dnsConfig={"nameservers": ["127.0.0.1"], "searches": ["example.test"]},
        securityContext={"readOnlyRootFilesystem": True},
    )
    case.comes_to_run("it runs", 0)
    case.until(lambda: case.notes("name"), 20)
    mapped = case.notes("map")[0].split()
    case.check("its root is another on the node", mapped[0] == "0" and mapped[1] != "0", mapped)
    case.equal("its name", case.notes("name"), ["ipa.example.default.svc.cluster.local"])
    case.equal("the note's owner on the node", (case.shared / "map").stat().st_uid, 0)
    case.equal("its resolver", case.exec("cat", "/etc/resolv.conf").stdout.split()[:2], ["search", "example.test"])
    if case.kind.init == "systemd":
        said = case.exec("systemctl", "is-system-running", "--wait").stdout.strip()
        failed = case.exec("systemctl", "--failed", "--no-legend", "--plain").stdout
        case.check("systemctl is-system-running says running", said == "running", f"{said}: {failed}")
    case.delete_pod()
    case.hooks_ran_once(case.label, [4])


def names_and_groups(case: Case) -> None:
    context = {"runAsUser": 0, "runAsGroup": 0, "supplementalGroups": [4000], "supplementalGroupsPolicy": "Strict"}
    script = f"hostname >/shared/name; id -G >/shared/groups; {LIVE}"
    of = case.template(script, policy="Never", hostnameOverride="another.name")
    of["spec"]["securityContext"] = context
    case.cluster.create(manifests.pod(case.label, of))
    case.until(lambda: case.notes("groups"), 60)
    case.equal("its name", case.notes("name"), ["another.name"])
    case.equal("its groups", case.notes("groups"), ["0 4000"])


def debugged(case: Case) -> None:
    """`kubectl debug`: beside the application's processes, and with a PID 1 of its own."""
    case.run(f"trap 'exit 0' TERM; {LIVE}")
    case.comes_to_run("it runs", 0)
    own = "dumb-init" if case.kind.is_rich else "sh"
    for where, words, init in (("in its pid namespace", ["--target=app"], case.kind.init), ("on its own", [], own)):
        known = {one["name"] for one in ephemeral(case)}
        image = [f"--image={images.BUSYBOX}", "--image-pull-policy=Never", "--profile=general"]
        done = case.cluster.kubectl("debug", case.label, *image, *words, "--", "sh", "-c", "cat /proc/1/comm; exit 3")
        case.check(f"kubectl debug {where} succeeds", done.returncode == 0, done.stderr)
        case.arrives(f"it ends {where}", functools.partial(exit_of_another, case, known))
        case.equal(f"its exit code {where}", exit_of_another(case, known), [3])
        (name,) = {one["name"] for one in ephemeral(case)} - known
        case.equal(f"PID 1 {where}", case.cluster.kubectl("logs", case.label, "-c", name).stdout, f"{init}\n")
    case.equal("the application's restartCount", case.count(), 0)
    case.delete_pod()
    case.hooks_ran_once(case.label, [0])


def ephemeral(case: Case) -> list[Object]:
    found: list[Object] = case.pod()["status"].get("ephemeralContainerStatuses", [])
    return found


def exit_of_another(case: Case, known: set[str]) -> list[int]:
    """The exit code of the container for debugging that is not among the known ones, once it has ended."""
    ends = [one["state"].get("terminated") for one in ephemeral(case) if one["name"] not in known]
    return [end["exitCode"] for end in ends if end]


def copied_and_forwarded(case: Case) -> None:
    """`kubectl cp` both ways, and `kubectl port-forward` to a server of the application's."""
    serve = (
        "while ($c = $s->accept) { 1 while <$c> =~ /\\S/; print $c qq(HTTP/1.0 200 OK\\r\\n\\r\\nserved\\n); close $c }"
    )
    listen = "$s = IO::Socket::INET->new(LocalPort => 8080, Listen => 5, ReuseAddr => 1)"
    case.run(f"exec perl -MIO::Socket::INET -e '$SIG{{TERM}} = sub {{ exit 0 }}; {listen}; {serve}'")
    case.comes_to_run("it runs", 0)
    there, back = case.cluster.base / f"{case.label}-there", case.cluster.base / f"{case.label}-back"
    there.write_text("copied\n")
    for words in ((str(there), f"{case.label}:/tmp/copy"), (f"{case.label}:/tmp/copy", str(back))):
        done = case.cluster.kubectl("cp", "-c", "app", *words)
        case.check("kubectl cp succeeds", done.returncode == 0, done.stderr)
    case.equal("what came back", back.read_text() if back.exists() else "", "copied\n")
    with case.cluster.forwarded(case.label, 8080) as address, urllib.request.urlopen(address, timeout=30) as answer:
        case.equal("what was served", answer.read(), b"served\n")


def pod_failure_policy(case: Case) -> None:
    """The Job is given up by the application's exit code."""
    exits = {"containerName": "app", "operator": "In", "values": [AGAIN]}
    policy = {"rules": [{"action": "FailJob", "onExitCodes": exits}]}
    case.run_job(f"{START} exit {AGAIN}", backoffLimit=4, podFailurePolicy=policy)
    case.equal("reason", case.job_ends("Failed").get("reason"), "PodFailurePolicy")
    case.started(1)


def image_volume(case: Case) -> None:
    of = case.template(f"trap 'exit 0' TERM; ls /image/bin >/shared/found; {LIVE}")
    of["spec"]["volumes"].append({"name": "image", "image": {"reference": images.BUSYBOX, "pullPolicy": "Never"}})
    of["spec"]["containers"][0]["volumeMounts"].append({"name": "image", "mountPath": "/image"})
    case.cluster.create(manifests.pod(case.label, of))
    case.comes_to_run("it runs", 0)
    case.until(lambda: case.notes("found"), 20)
    case.check("the image's files are there", "sh" in case.notes("found"), case.notes("found"))


@dataclass(frozen=True, slots=True)
class Later:
    """A case, the first Kubernetes and containerd that do what it asks for, and the kinds that it is asked of."""

    function: Callable[[Case], None]
    kubernetes: tuple[int, ...]
    containerd: tuple[int, ...] = (2, 0)
    kinds: tuple[Kind, ...] = KINDS


CASES = (
    Later(all_containers_restarted, (1, 36)),
    Later(user_namespace, (1, 33), (2, 3, 4), (NODE, NODE_SYSTEMD)),
    Later(resized, (1, 33)),
    Later(restart_rule, (1, 35)),
    Later(native_sidecar, (1, 29)),
    Later(debugged, (1, 25)),
    Later(copied_and_forwarded, (1, 25)),
    Later(pod_failure_policy, (1, 31)),
    Later(names_and_groups, (1, 35)),
    Later(image_volume, (1, 35), (2, 1)),
    Later(own_stop_signal, (1, 33), (2, 3)),
)


def cases(cluster: Cluster) -> list[Later]:
    """Those that the cluster's Kubernetes and containerd do."""
    return [one for one in CASES if cluster.release >= one.kubernetes and cluster.containerd >= one.containerd]

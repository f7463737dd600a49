"""The cases: what Kubernetes must show of containers, whoever runs them."""

import json
import os
import shlex
import signal
import time

from tests.integration import first_pod as readme
from tests.kubernetes import manifests
from tests.kubernetes.case import Case
from tests.kubernetes.cluster import Cluster
from tests.kubernetes.manifests import (
    DUMB_INIT,
    GRACE_S,
    HANDLERS,
    KINDS,
    LIVE,
    START,
    SYSTEMD_BY_ANNOTATION,
    SYSTEMD_BY_HANDLER,
    Object,
)

SETTLE_S = 4.0
DEADLINE_S = 15
AFTER = [{"name": "after", "command": ["sh", "-c", "echo poststop $POUCHRICH_EXIT_CODE >>/shared/order"]}]
LEAVES_NOTES = "trap 'echo term >>/shared/order; sleep 1; echo exit >>/shared/order; exit 5' TERM\n"


# Restart policies


def deployment_restarts(case: Case) -> None:
    script = 'case $n in 1) exit 0 ;; 2) sleep 4; exit 7 ;; esac; trap "exit 0" TERM'
    script = f"{START} n=$(wc -l </shared/starts); echo start $n; {script}; {LIVE}"
    case.cluster.create(manifests.deployment(case.label, case.template(script)))
    case.comes_to_run("it runs again after exit 0", 1)
    case.ended("lastState", 0, "Completed")
    case.comes_to_run("it runs again after exit 7", 2)
    case.ended("lastState", 7, "Error")
    name = case.pod()["metadata"]["name"]
    case.until(lambda: "start 3" in case.cluster.kubectl("logs", name).stdout, 20)
    case.equal("kubectl logs", case.cluster.kubectl("logs", name).stdout.split("\n"), ["start 3", ""])
    case.equal(
        "kubectl logs --previous", case.cluster.kubectl("logs", "--previous", name).stdout.split("\n"), ["start 2", ""]
    )
    time.sleep(SETTLE_S)
    case.equal("restartCount", case.count(), 2)
    starts = [line.split() for line in case.notes("starts")]
    wanted = [(case.kind.init, case.kind.parent)] * 3
    case.equal("PID 1 and the application's parent at each start", [(one[0], one[1]) for one in starts], wanted)
    case.equal("how many different PIDs 1 there were", len({one[2] for one in starts}), 3)
    case.cluster.delete(["deployments", "pods"], case.label)
    case.hooks_ran_once(name, [0, 7, 0])


def policy_on_failure(case: Case) -> None:
    name = case.run(f"{START} test $(wc -l </shared/starts) = 2 || exit 7", policy="OnFailure")
    case.comes_to("Succeeded")
    case.equal("restartCount", case.count(), 1)
    case.ended("lastState", 7, "Error")
    case.ended("state", 0, "Completed")
    case.hooks_ran_once(name, [7, 0])


def policy_never(case: Case) -> None:
    for code, phase, reason in ((7, "Failed", "Error"), (0, "Succeeded", "Completed")):
        name = case.run(f"exit {code}", policy="Never")
        case.comes_to(phase)
        time.sleep(SETTLE_S)
        case.ended("state", code, reason)
        case.equal("restartCount", case.count(), 0)
        case.cluster.delete(["pods"], case.label)
    case.hooks_ran_once(name, [7, 0])  # two pods of one name


# Jobs


def job_completes(case: Case) -> None:
    case.run_job(f"{START} sleep 1", completions=6, parallelism=3)
    case.job_ends("Complete")
    case.equal("succeeded and failed", (case.job().get("succeeded"), case.job().get("failed", 0)), (6, 0))
    pods = case.cluster.pods(case.label)
    case.equal("pods", [one["status"]["phase"] for one in pods], ["Succeeded"] * 6)
    case.started(6)
    for pod in pods:
        case.hooks_ran_once(pod["metadata"]["name"], [0])


def job_fails(case: Case) -> None:
    case.run_job(f"{START} exit 3", backoffLimit=2)
    case.equal("reason", case.job_ends("Failed").get("reason"), "BackoffLimitExceeded")
    time.sleep(SETTLE_S)
    case.equal("failed", case.job().get("failed"), 3)
    case.equal("pods", [one["status"]["phase"] for one in case.cluster.pods(case.label)], ["Failed"] * 3)
    case.started(3)


def job_succeeds_at_the_second_attempt(case: Case) -> None:
    case.run_job(f"{START} test $(wc -l </shared/starts) = 2 || exit 3", backoffLimit=4)
    case.job_ends("Complete")
    case.equal("succeeded and failed", (case.job().get("succeeded"), case.job().get("failed")), (1, 1))
    case.started(2)


def job_restarts_in_its_pod(case: Case) -> None:
    script = f"{START} test $(wc -l </shared/starts) = 2 || exit 3"
    case.run_job(script, policy="OnFailure", backoffLimit=4)
    case.job_ends("Complete")
    case.equal("succeeded and failed", (case.job().get("succeeded"), case.job().get("failed", 0)), (1, 0))
    case.equal("restartCount", case.count(), 1)


def job_deadline(case: Case) -> None:
    case.run_job(f"{LEAVES_NOTES} echo start >>/shared/order; {LIVE}", activeDeadlineSeconds=DEADLINE_S)
    case.arrives("it runs", lambda: case.notes("order"))
    name = case.pod()["metadata"]["name"]
    # Where its first update of the status failed, this release's Job controller looks too early, then only when asked.
    time.sleep(DEADLINE_S)
    case.cluster.kubectl("annotate", "job", case.label, "deadline=over")
    case.equal("reason", case.job_ends("Failed").get("reason"), "DeadlineExceeded")
    case.arrives("its pod ends", lambda: not case.cluster.pods(case.label))
    case.equal("what the application did", case.notes("order"), ["start", "term", "exit"])
    case.hooks_ran_once(name, [5])


# Probes


def liveness_probe(case: Case) -> None:
    probe = {
        "exec": {"command": ["sh", "-c", "test ! -e /shared/sick"]},
        "periodSeconds": 1,
        "failureThreshold": 1,
        "timeoutSeconds": 10,
    }
    stop = {"preStop": {"exec": {"command": ["sh", "-c", "echo prestop >>/shared/order"]}}}
    sicken = "rm -f /shared/sick; test $(wc -l </shared/starts) = 2 || (sleep 3; touch /shared/sick) &"
    script = f"{LEAVES_NOTES} {START} {sicken}\n{LIVE}"
    name = case.run(script, livenessProbe=probe, lifecycle=stop)
    case.comes_to_run("it is killed and runs again", 1)
    case.ended("lastState", 5, "Error")
    case.equal("what happened before", case.notes("order"), ["prestop", "term", "exit"])
    time.sleep(SETTLE_S)
    case.equal("restartCount after a while", case.count(), 1)
    case.equal("PIDs 1", len({line.split()[2] for line in case.notes("starts")}), 2)
    case.delete_pod()
    case.hooks_ran_once(name, [5, 5])


def readiness_and_startup_probes(case: Case) -> None:
    def probe(file: str, failures: int = 1) -> Object:
        command = {"command": ["test", "-e", f"/shared/{file}"]}
        return {"exec": command, "periodSeconds": 1, "failureThreshold": failures, "timeoutSeconds": 10}

    probes = {"startupProbe": probe("up", 100), "livenessProbe": probe("up"), "readinessProbe": probe("ready")}
    case.run(f"trap 'exit 0' TERM; {LIVE}", **probes)
    case.comes_to_run("it runs", 0)
    time.sleep(SETTLE_S)
    found = [case.status()[key] for key in ("started", "ready", "restartCount")]
    case.equal("started, ready and restartCount", found, [False, False, 0])
    case.exec("touch", "/shared/up")
    case.arrives("it has started", lambda: case.status().get("started"))
    case.equal("ready", case.condition("Ready"), "False")
    case.exec("touch", "/shared/ready")
    case.arrives("it gets ready", lambda: case.condition("Ready") == "True")
    case.exec("rm", "/shared/ready")
    case.arrives("it is not ready any more", lambda: case.condition("Ready") == "False")
    case.equal("restartCount", case.count(), 0)


# kubectl


def exec_and_token(case: Case) -> None:
    case.run(f"trap 'exit 0' TERM; echo out; echo err >&2; {LIVE}")
    case.comes_to_run("it runs", 0)
    case.equal("exit status of kubectl exec", case.exec("sh", "-c", "exit 9").returncode, 9)
    case.equal("what kubectl exec passes through", case.exec("cat", said="a word").stdout, "a word")
    case.equal("PID 1", case.exec("cat", "/proc/1/comm").stdout.strip(), case.kind.init)
    token = "/var/run/secrets/kubernetes.io/serviceaccount/token"
    case.equal("exit status of a look at the service account's token", case.exec("test", "-s", token).returncode, 0)
    case.equal("kubectl logs", sorted(case.cluster.kubectl("logs", case.label).stdout.split()), ["err", "out"])


def deleted_pod(case: Case) -> None:
    stop = {"preStop": {"exec": {"command": ["sh", "-c", "echo prestop >>/shared/order; sleep 1"]}}}
    more = {"lifecycle": stop, "annotations": {"pouchrich.io/poststop": json.dumps(AFTER)}}
    if not case.kind.is_rich:
        del more["annotations"]
    name = case.run(f"{LEAVES_NOTES} touch /shared/up; {LIVE}", **more)
    case.arrives("it runs", lambda: (case.shared / "up").exists() and case.runs(0))
    case.ended_within(case.delete_pod(), 2, GRACE_S)
    wanted = ["prestop", "term", "exit"] + ["poststop 5"] * case.kind.is_rich
    case.equal("what happened", case.notes("order"), wanted)
    case.hooks_ran_once(name, [5])


def deleted_pod_that_ignores_term(case: Case) -> None:
    more = {"annotations": {"pouchrich.io/poststop": json.dumps(AFTER)}} if case.kind.is_rich else {}
    name = case.run(f"trap '' TERM; touch /shared/up; {LIVE}", terminationGracePeriodSeconds=4, **more)
    case.arrives("it runs", lambda: (case.shared / "up").exists() and case.runs(0))
    case.ended_within(case.delete_pod(), 4, GRACE_S)
    case.equal("what happened", case.notes("order"), ["poststop 137"] * case.kind.is_rich)
    case.hooks_ran_once(name, [137])


def out_of_memory(case: Case) -> None:
    name = case.run("exec tail /dev/zero", policy="Never", resources={"limits": {"memory": "96Mi"}})
    case.comes_to("Failed")
    case.ended("state", 137, "OOMKilled")
    case.hooks_ran_once(name, [137])


def attached_and_ended(case: Case) -> None:
    """Standard input, the termination message, and the exit code of what read and wrote them."""
    script = "read word; echo got $word; echo last words >/dev/termination-log; exit 4"
    name = case.run(script, policy="Never", stdin=True, stdinOnce=True)
    case.comes_to_run("it runs", 0)
    done = case.cluster.kubectl("attach", "-i", name, said="hello\n")
    case.equal("exit status of kubectl attach", done.returncode, 0)
    case.comes_to("Failed")
    case.ended("state", 4, "Error")
    case.equal("termination message", case.status()["state"]["terminated"].get("message"), "last words\n")
    case.equal("kubectl logs", case.cluster.kubectl("logs", name).stdout.strip(), "got hello")


def ended_by_a_signal(case: Case) -> None:
    post = {"postStart": {"exec": {"command": ["sh", "-c", "echo poststart >>/shared/order"]}}}
    name = case.run(f"sh -c 'sleep 2; kill -USR1 $PPID' & {LIVE}", policy="Never", lifecycle=post)
    case.comes_to("Failed" if case.kind.is_rich else "Running")
    if case.kind.is_rich:
        case.ended("state", 128 + signal.SIGUSR1, "Error")
        case.hooks_ran_once(name, [128 + signal.SIGUSR1])
    else:
        time.sleep(SETTLE_S)
        case.check("its PID 1 takes no signal that it has no handler for", case.runs(0), case.status())
    case.equal("what the postStart hook did", case.notes("order"), ["poststart"])


def measured(case: Case) -> None:
    case.run(f"trap 'exit 0' TERM; {LIVE}")
    case.arrives("kubelet has its figures", lambda: case.figures().get("cpu", {}).get("usageCoreNanoSeconds"))
    case.check("its memory, too", case.figures()["memory"].get("workingSetBytes", 0) > 0, case.figures())


# Accidents


def killed_shim(case: Case) -> None:
    """The pod's sandbox is lost with it: kubelet makes another one and counts a restart."""
    name = case.run(f"{START} trap 'exit 0' TERM; {LIVE}")
    case.comes_to_run("it runs", 0)
    case.until(lambda: case.notes("starts"), 20)
    sandbox = case.info()["sandboxID"]
    socket = case.cluster.node.socket_of(sandbox)
    shims = case.cluster.node.shims(containing=sandbox)
    case.equal("its shims", len(shims), 1)
    os.kill(shims[0], signal.SIGKILL)
    case.comes_to_run("it runs again", 1)
    time.sleep(SETTLE_S)
    case.equal("restartCount after a while", case.count(), 1)
    case.ended("lastState", 255, "Error")  # which containerd makes of it
    if case.kind.is_rich:
        case.check("its socket is gone", not socket.exists(), str(socket))
    else:
        socket.unlink()  # containerd's own shim leaves it
    case.started(2)
    case.delete_pod()
    case.hooks_ran_once(name, [137, 0])


def killed_sandbox(case: Case) -> None:
    """kubelet ends the pod's containers and makes another sandbox, once its first process is gone."""
    name = case.run(f"{LEAVES_NOTES} {START} touch /shared/up; {LIVE}")
    case.arrives("it runs", lambda: (case.shared / "up").exists() and case.runs(0))
    os.kill(case.sandbox_pid(), signal.SIGKILL)
    case.comes_to_run("it runs again", 1)
    time.sleep(SETTLE_S)
    case.equal("restartCount after a while", case.count(), 1)
    case.ended("lastState", 5, "Error")
    case.equal("what the application did", case.notes("order"), ["term", "exit"])
    case.started(2)
    case.delete_pod()
    case.hooks_ran_once(name, [5, 5])


# Of rich containers alone


def failing_prestart_hook(case: Case) -> None:
    gate = [{"name": "gate", "command": ["sh", "-c", "echo no licence >&2; exit 3"]}]
    about = {"pouchrich.io/prestart": json.dumps(gate)}
    name = case.run("touch /shared/ran", policy="Never", annotations=about)
    case.comes_to("Failed")
    said = case.status()["state"]["terminated"]
    for what in ("prestart hook gate: exit status 3", "no licence"):
        case.check(f"the container's message has '{what}'", what in said.get("message", ""), said)
    described = case.cluster.kubectl("describe", "pod", name).stdout
    case.check("so has kubectl describe pod", "prestart hook gate: exit status 3" in described, described)
    case.equal("restartCount", case.count(), 0)
    case.equal("what the application did", case.notes("ran"), [])
    case.hooks_ran_once(name, [128])


def failing_prestart_hook_that_is_tried_again(case: Case) -> None:
    gate = [{"name": "gate", "command": ["sh", "-c", "echo try >>/shared/tries; test $(wc -l </shared/tries) -ge 3"]}]
    case.run(f"trap 'exit 0' TERM; {LIVE}", annotations={"pouchrich.io/prestart": json.dumps(gate)})
    case.arrives("it runs at last", lambda: "running" in case.status().get("state", {}))
    case.equal("tries and restartCount", (len(case.notes("tries")), case.count()), (3, 2))


def deleted_while_it_starts(case: Case) -> None:
    """In a prestart hook: this kubelet takes the pod for ended, and kills all that its cgroup has, hooks too."""
    slow = [{"name": "slow", "command": ["sh", "-c", "echo prestart >>/shared/order; sleep 4"]}]
    hooks = {"pouchrich.io/prestart": json.dumps(slow), "pouchrich.io/poststop": json.dumps(AFTER)}
    name = case.run(f"trap 'exit 5' TERM; {START} {LIVE}", annotations=hooks)
    case.arrives("its prestart hook runs", lambda: case.notes("order"))
    case.ended_within(case.delete_pod(), 0, 4 + GRACE_S)
    time.sleep(SETTLE_S)
    ends, order, starts = case.ends(name), case.notes("order"), case.notes("starts")
    case.equal("how often the node's poststop hook ran", len(ends), 1)
    case.check(
        "the pod's own at most once", order in (["prestart"], ["prestart", f"poststop {ends[0]['code']}"]), order
    )
    case.check("the application started at most once", len(starts) <= 1, starts)


def init_container_and_sidecar(case: Case) -> None:
    note = 'echo "$HOSTNAME_OF $(cat /proc/1/comm)" >>/shared/order'
    short, long = f"{note}", f"{note}; trap 'exit 0' TERM; {LIVE}"

    def named(of: Object) -> Object:
        return {**of, "env": [{"name": "HOSTNAME_OF", "value": of["name"]}]}

    containers = [named(manifests.container(long)), named(manifests.busybox(long, "sidecar"))]
    of = manifests.template(
        DUMB_INIT,
        case.label,
        case.shared,
        containers,
        annotations={"pouchrich.io/mode": "systemd"},
        initContainers=[named(manifests.busybox(short, "prepare"))],
    )
    case.cluster.create(manifests.pod(case.label, of))
    case.arrives("the pod gets ready", lambda: case.condition("Ready") == "True")
    case.until(lambda: len(case.notes("order")) == 3, 20)
    notes = case.notes("order")
    case.equal("the init container's PID 1", notes[:1], ["prepare dumb-init"])
    case.equal("the others'", sorted(notes[1:]), ["app systemd", "sidecar dumb-init"])
    counts = [one["restartCount"] for one in case.pod()["status"]["containerStatuses"]]
    case.equal("restart counts", counts, [0, 0])


def powered_off(case: Case) -> None:
    """By the container's own root: its init shuts down, the application with it."""
    name = case.run(f"{LEAVES_NOTES} {START} touch /shared/up; {LIVE}")
    case.arrives("it runs", lambda: (case.shared / "up").exists() and case.runs(0))
    case.exec("systemctl", "poweroff")
    case.comes_to_run("it runs again", 1)
    case.ended("lastState", 5, "Error")
    case.equal("what the application did", case.notes("order"), ["term", "exit"])
    case.equal(
        "PID 1 and the application's parent",
        [line.split()[:2] for line in case.notes("starts")],
        [["systemd", "1"]] * 2,
    )
    case.delete_pod()
    case.hooks_ran_once(name, [5, 5])


def another_user(case: Case) -> None:
    """An application that is not root's below an init that is, which only the handler may choose."""
    case.shared.chmod(0o777)
    case.run(f"trap 'exit 0' TERM; {START} {LIVE}", securityContext={"runAsUser": 1000, "runAsNonRoot": True})
    case.comes_to_run("it runs", 0)
    case.until(lambda: case.notes("starts"), 20)
    case.equal(
        "PID 1 and the application's parent", [line.split()[:2] for line in case.notes("starts")], [["systemd", "1"]]
    )
    case.equal("kubectl exec's user", case.exec("id", "-u").stdout.strip(), "1000")
    case.equal("who wrote the note", (case.shared / "starts").stat().st_uid, 1000)


def first_pod(case: Case) -> None:
    """The first pod of README.md by the page's own commands, with an image that the node has and another class."""
    text = readme.block("yaml").replace(readme.image(), readme.own_image(case.cluster.node))
    text = text.replace("name: pouchrich\nhandler: pouchrich\n", f"name: first\nhandler: {HANDLERS['pouchrich']}\n")
    file = case.shared / "first.yaml"
    file.write_text(text.replace("runtimeClassName: pouchrich\n", "runtimeClassName: first\n"))
    said = []
    for line in readme.block("sh", "first.yaml").splitlines():
        program, *words = shlex.split(line, comments=True)
        if program == "kubectl":
            done = case.cluster.kubectl(*(str(file) if word == file.name else word for word in words))
            case.check(f"kubectl {' '.join(words[:2])} succeeds", done.returncode == 0, done.stderr)
            said.append(done.stdout)
    case.equal("the last line prints", said[-1].strip(), readme.printed())
    logs = next(one for one in said if one.startswith("systemd")).splitlines()
    case.check("the log is as the page says", logs[1] == "prepared" and logs[2].endswith("root: hello"), logs)
    done = case.cluster.kubectl("delete", "-f", str(file), "--timeout=60s")
    case.check("kubectl delete -f succeeds", done.returncode == 0, done.stderr)


EVERYWHERE = (
    deployment_restarts,
    job_fails,
    liveness_probe,
    policy_on_failure,
    policy_never,
    job_completes,
    job_succeeds_at_the_second_attempt,
    job_restarts_in_its_pod,
    job_deadline,
    readiness_and_startup_probes,
    exec_and_token,
    deleted_pod,
    deleted_pod_that_ignores_term,
    out_of_memory,
    attached_and_ended,
    ended_by_a_signal,
    measured,
)
ACCIDENTS = (killed_shim, killed_sandbox)
RICH = (failing_prestart_hook, failing_prestart_hook_that_is_tried_again, deleted_while_it_starts)
"""Cases of every kind, the long ones first, of the kinds whose shim leaves nothing then, and of rich containers."""

ONCE = (
    (first_pod, SYSTEMD_BY_ANNOTATION),
    (init_container_and_sidecar, SYSTEMD_BY_ANNOTATION),
    (powered_off, SYSTEMD_BY_ANNOTATION),
    (another_user, SYSTEMD_BY_HANDLER),
)


# One at a time, at the end


def restarted_daemons(cluster: Cluster) -> None:
    """kubelet and containerd are killed and started again, each while pods of every kind run that have ended once."""
    cases = [Case(cluster, kind, "restarted daemons") for kind in (*KINDS, SYSTEMD_BY_HANDLER)]
    script = f"""{START} test $(wc -l </shared/starts) -gt 1 || exit 7
trap 'exit 0' TERM
while test ! -e /shared/quit; do sleep 0.2; done
rm /shared/quit
exit 7
"""
    for case in cases:
        case.run(script)
    for case in cases:
        case.comes_to_run("it runs after one restart", 1)
    before = [case.status()["containerID"] for case in cases]

    def nothing_changed(what: str) -> None:
        time.sleep(SETTLE_S)
        for case, identity in zip(cases, before, strict=True):
            case.check(
                f"the container is the same after {what}", case.status()["containerID"] == identity, case.status()
            )
            case.equal(f"restartCount and starts after {what}", (case.count(), len(case.notes("starts"))), (1, 2))

    cluster.kill_kubelet()
    cluster.start_kubelet()
    nothing_changed("a restart of kubelet")
    cluster.node.kill_containerd()
    cluster.node.start()
    nothing_changed("a restart of containerd")
    for case in cases:
        case.equal("exit status of kubectl exec after that", case.exec("sh", "-c", "exit 9").returncode, 9)
        (case.shared / "quit").touch()
    for case in cases:
        case.comes_to_run("it runs again after exit 7", 2)
        case.ended("lastState", 7, "Error")
        case.started(3)

    # An application's end that nobody sees: kubelet counts it when it is back.
    cluster.kill_kubelet()
    for case in cases:
        (case.shared / "quit").touch()
    time.sleep(SETTLE_S)
    cluster.start_kubelet()
    for case in cases:
        case.comes_to_run("it runs again after exit 7 without kubelet", 3)
        case.started(4)
    for case in cases:
        case.delete_pod()
        case.hooks_ran_once(case.label, [7, 7, 7, 0])


def rebooted_node(cluster: Cluster) -> None:
    """The power fails while pods of every kind run. They run again, and what was owed of them is done once."""
    cases = [Case(cluster, kind, "rebooted node") for kind in (*KINDS, SYSTEMD_BY_HANDLER)]
    for case in cases:
        case.run(f"{START} trap 'exit 0' TERM; {LIVE}")
    for case in cases:
        case.comes_to_run("it runs", 0)
        case.until(lambda one=case: one.notes("starts"), 20)
    before = [case.status()["containerID"] for case in cases]
    with cluster.node.rebooted():
        cluster.start()
        for case, identity in zip(cases, before, strict=True):
            case.arrives(
                "it runs again, another container",
                lambda one=case, was=identity: one.runs(1) and one.status()["containerID"] != was,
            )
            case.ended("lastState", 255, "Unknown")  # which containerd makes of it
            case.started(2)
            case.equal("exit status of kubectl exec", case.exec("sh", "-c", "exit 9").returncode, 9)
    for case in cases:
        case.delete_pod()
        case.hooks_ran_once(case.label, [137, 0])

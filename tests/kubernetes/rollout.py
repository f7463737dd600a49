"""deploy/ on a node whose containerd knows nothing of us: held, taken up, upgraded, rolled back, and given back.

With rich pods that run through all of it, and the DaemonSet's pod killed in the middle of an upgrade.
"""

import json
import os
import re
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from pouchrich.cluster import probe
from pouchrich.cluster.kubectl import Kubectl
from shim import __version__
from tests.integration import images, node, processes, rich_images
from tests.kubernetes import manifests
from tests.kubernetes.case import Case, say
from tests.kubernetes.cluster import NAME, Cluster
from tests.kubernetes.deployed import Charted, Kustomized, Place
from tests.root.bare_root import BareRoot

ROOT = Path(__file__).resolve().parents[2]
NAMESPACE = "pouchrich"
PREFIX = Path("/var/lib/pouchrich-node")
"""Below what is the node's own here (`tests.integration.reaper`)."""

NEWER = "99.1"
MODES = {"dumb-init": "pouchrich", "systemd": "pouchrich-systemd"}
SCRIPT = "echo ran >>/shared/$HOSTNAME; while [ ! -e /shared/end ]; do sleep 0.5; done; exit $(cat /shared/end)"
END = 3
OURS = re.compile(r'^\[plugins\.[^\n]*containerd\.runtimes\."(pouchrich[^"\n]*|dropin)"')
PATIENCE_S = 300.0

Object = dict[str, Any]


class Releases:
    """The release, another of the same under a later version, and the images of both."""

    path: Path
    another_version = BareRoot.another_version

    def __init__(self, artefact: Path, programs: Path, directory: Path) -> None:
        self.path = directory
        (directory / "tmp").mkdir()
        subprocess.run(["tar", "-C", directory / "tmp", "--zstd", "-xf", artefact], check=True)
        newer = f"pouchrich-{NEWER}"
        self.another_version(f"/tmp/pouchrich-{__version__}", NEWER)
        packed = directory / f"{newer}-linux-amd64.tar.zst"
        subprocess.run(["tar", "-C", directory / "tmp", "--zstd", "-cf", packed, newer], check=True)
        static = os.environ.get("KUBECTL", str(programs / "kubectl"))
        kubectl = {"KUBECTL": static, "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}
        for version, made_of in ((__version__, artefact), (NEWER, packed)):
            words = [ROOT / "hack/build-image.sh", made_of, self.image(version)]
            subprocess.run(words, check=True, env=kubectl, stdout=subprocess.DEVNULL)

    def image(self, version: str) -> Path:
        return self.path / f"{version}.tar"


class Restarter(threading.Thread):
    """Who starts containerd anew when a file is made, as systemd would; `count` says how often that was."""

    def __init__(self, running: node.Node) -> None:
        super().__init__(daemon=True)
        self.running = running
        self.wanted = running.base / "restart"
        self.count = 0
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.wait(0.2):
            if self.wanted.exists():
                self.wanted.unlink()
                self.running.kill_containerd()
                self.running.start()
                self.count += 1


def forget_us(running: node.Node) -> str:
    """Have a containerd whose configuration has no handler of ours: that configuration."""
    path = running.base / "config.toml"
    tables = re.split(r"\n(?=\[)", path.read_text())
    text = "\n".join(table for table in tables if not OURS.match(table))
    assert "pouchrich.v2" not in text
    path.write_text(text)
    running.kill_containerd()
    running.start()
    return text


def everything(running: node.Node, programs: Path, artefact: Path, rich_pods: int, *, helm: str) -> None:
    """Start Kubernetes and do all of that, in order, with so many rich pods that run meanwhile.

    By the program `helm` and the chart, or where that is "" by kubectl and the kustomizations.
    """
    configuration = forget_us(running)
    rich_images.import_system(running, manifests.SYSTEMD)
    with tempfile.TemporaryDirectory(prefix="pouchrich-releases-") as directory:
        releases = Releases(artefact, programs, Path(directory))
        for version in (__version__, NEWER):
            running.ctr(
                "-n",
                "k8s.io",
                "images",
                "import",
                "--snapshotter",
                running.settings.snapshotter,
                str(releases.image(version)),
            )
    cluster = Cluster(running, programs)
    say(f"     Kubernetes {cluster.get('/version')['gitVersion']} and containerd {running.version} are up")
    restarter = Restarter(running)
    restarter.start()
    try:
        Rollout(cluster, restarter, configuration, rich_pods, helm=helm).run()
    finally:
        restarter.done.set()
        restarter.join()


class Rollout:
    """The steps."""

    def __init__(
        self, cluster: Cluster, restarter: Restarter, configuration: str, rich_pods: int, *, helm: str
    ) -> None:
        self.cluster = cluster
        self.rich_pods = rich_pods
        self.restarter = restarter
        self.configuration = configuration
        self.case = Case(cluster, manifests.Kind("DaemonSet", None, ""), "rollout")
        self.place = Place(cluster, NAMESPACE, str(PREFIX), f"touch {restarter.wanted}")
        self.deployed = Charted(self.place, helm) if helm else Kustomized(self.place)
        self.root = Path(f"/proc/{cluster.node.pid}/root")

    def run(self) -> None:
        for step in (self.held, self.taken_up, self.used, self.upgraded, self.rolled_back, self.ended, self.given_back):
            began = time.monotonic()
            try:
                step()
            except Exception as error:
                traceback.print_exc()
                self.case.check(f"{step.__name__} runs to its end", False, error)
                say(self.logs())
                return
            say(f"     {step.__name__.replace('_', ' ')}: {time.monotonic() - began:.0f} s")

    # What is looked at

    def labels(self) -> dict[str, str]:
        found = self.cluster.get(f"/api/v1/nodes/{NAME}")["metadata"]["labels"]
        return {name: value for name, value in found.items() if name.startswith("pouchrich.io/")}

    def pods(self) -> list[Object]:
        path = f"/api/v1/namespaces/{NAMESPACE}/pods?labelSelector=app.kubernetes.io/name=pouchrich-node"
        found: list[Object] = self.cluster.get(path)["items"]
        return found

    def is_ready(self) -> bool:
        """Whether the DaemonSet's pod of the present generation is."""
        found = self.cluster.get(f"/apis/apps/v1/namespaces/{NAMESPACE}/daemonsets/pouchrich-node")
        status = found["status"]
        current = status.get("observedGeneration") == found["metadata"]["generation"]
        return current and (status.get("updatedNumberScheduled"), status.get("numberReady")) == (1, 1)

    def logs(self) -> str:
        done = self.cluster.kubectl("-n", NAMESPACE, "logs", "daemonset/pouchrich-node", "--tail=30")
        return f"{done.stdout}{done.stderr}"

    def becomes(self, what: str, holds: Callable[[], object]) -> None:
        came = self.case.until(holds, PATIENCE_S)
        self.case.check(what, came, "" if came else self.logs()[-1500:])
        if not came:
            raise TimeoutError(what)

    def current(self) -> str:
        link = self.root / f"{PREFIX}/lib/pouchrich/current".lstrip("/")
        return str(link.readlink()) if link.is_symlink() else ""

    def rich(self) -> dict[str, tuple[str, int, str]]:
        """The rich pods: container's id, restarts, phase."""
        found = {}
        for pod in self.cluster.pods("rich"):
            (one,) = pod["status"].get("containerStatuses") or [{"containerID": "", "restartCount": -1}]
            found[pod["metadata"]["name"]] = (one.get("containerID", ""), one["restartCount"], pod["status"]["phase"])
        return found

    # What is done

    def annotate(self, text: str) -> None:
        self.cluster.kubectl("annotate", "node", NAME, "--overwrite", text)

    # The steps

    def held(self) -> None:
        self.annotate("pouchrich.io/hold=until Monday")
        self.deployed.apply(__version__)
        self.becomes("held: it says why", lambda: "held by annotation pouchrich.io/hold: until Monday" in self.logs())
        self.case.equal("held: what is installed", self.current(), "")
        self.case.equal("held: containerd's configuration", self.text() == self.configuration, True)

    def text(self) -> str:
        return (self.cluster.node.base / "config.toml").read_text()

    def taken_up(self) -> None:
        self.annotate("pouchrich.io/hold-")
        self.becomes("it is ready", self.is_ready)
        self.case.equal("the version that is run", self.current(), __version__)
        self.case.equal("starts of containerd anew", self.restarter.count, 1)
        modes = {f"pouchrich.io/mode.{mode}": "true" for mode in ("dumb-init", "sbin-init", "systemd")}
        self.case.equal("the node's labels", self.labels(), {"pouchrich.io/version": __version__, **modes})
        self.case.equal("probe pods that are left", len(self.pods()), len(self.everything_there()))
        self.case.check("containerd's configuration has lines of ours", "pouchrich: begin" in self.text())
        self.forbidden()
        if self.place.has_policy:
            self.own_node_only()
        self.kill_pod()
        self.becomes("killed, it is ready again", self.is_ready)
        self.case.equal("starts of containerd anew, then", self.restarter.count, 1)
        record = json.dumps(["/bin/sh", "-c", f"echo $POUCHRICH_EXIT_CODE >>{self.cluster.node.base}/codes"])
        hook = f'\n[[hooks.poststop]]\nname = "record"\nwhere = "host"\ncommand = {record}\n'
        self.cluster.node.write_files({f"{PREFIX}/etc/pouchrich/config.toml": f"version = 1\n{hook}"})

    def everything_there(self) -> list[Object]:
        found: list[Object] = self.cluster.get(f"/api/v1/namespaces/{NAMESPACE}/pods")["items"]
        return found

    def forbidden(self) -> None:
        """RBAC, really asked."""
        who = f"--as=system:serviceaccount:{NAMESPACE}:pouchrich-node"
        for allowed, words in (
            (True, ("get", f"nodes/{NAME}")),
            (True, ("patch", f"nodes/{NAME}")),
            (True, ("create", "pods", "-n", NAMESPACE)),
            (False, ("list", "nodes")),
            (False, ("delete", f"nodes/{NAME}")),
            (False, ("create", "pods", "-n", "default")),
            (False, ("get", "secrets", "-n", NAMESPACE)),
            (False, ("patch", "nodes", "--subresource=status")),
        ):
            done = self.cluster.kubectl("auth", "can-i", *words, who)
            self.case.equal(
                f"may {' '.join(words)}", done.stdout.strip().splitlines()[-1:], ["yes" if allowed else "no"]
            )

    def own_node_only(self) -> None:
        """The admission policy of deploy/components, really asked: by who is of that node, and by who is not."""
        user = f"--as=system:serviceaccount:{NAMESPACE}:pouchrich-node"
        node = f"--as-user-extra=authentication.kubernetes.io/node-name={NAME}"

        def patch(what: Object, *who: str) -> str:
            words = ("patch", "node", NAME, "--dry-run=server", f"--patch={json.dumps(what)}", user, *who)
            done = self.cluster.kubectl(*words)
            return "taken" if done.returncode == 0 else done.stderr

        ours, other = {"metadata": {"labels": {"pouchrich.io/x": "1"}}}, {"metadata": {"labels": {"x": "1"}}}
        self.case.equal("own_node_only: a label of ours on its own node", patch(ours, node), "taken")
        for what, change, who, said in (
            ("another label", other, (node,), "may change labels pouchrich.io/* only"),
            ("an annotation", {"metadata": {"annotations": {"x": "1"}}}, (node,), "may change labels only"),
            ("unschedulable", {"spec": {"unschedulable": True}}, (node,), "may change labels only"),
            ("a token of no node", ours, (), "may change its own node only"),
            ("another node's", ours, (node.replace(f"={NAME}", "=another"),), "may change its own node only"),
        ):
            found = patch(change, *who)
            self.case.check(f"own_node_only: {what} is refused: {said}", said in found, found)
        self.own_pods_only(user, node)

    def own_pods_only(self, user: str, node: str) -> None:
        """The policy for pods: of a probe pod, and of pods that may do more."""

        def create(spec: Object, *who: str) -> str:
            pod = probe.manifest("asked", Kubectl(NAME, NAMESPACE), "dumb-init", images.BUSYBOX)
            pod["spec"].update(spec)
            words = ("create", "--dry-run=server", "--filename=-", user, *who)
            done = self.cluster.kubectl(*words, said=json.dumps(pod))
            return "taken" if done.returncode == 0 else done.stderr

        self.case.equal("own_pods_only: a probe pod on its own node", create({}, node), "taken")
        for what, spec, who, said in (
            ("another node", {"nodeName": "another"}, (node,), "of its own node only"),
            ("a token of no node", {}, (), "of its own node only"),
            ("another class", {"runtimeClassName": "pouchrich"}, (node,), "of the class pouchrich-probe"),
            ("a token", {"automountServiceAccountToken": True}, (node,), "without a token only"),
            ("the node's PIDs", {"hostPID": True}, (node,), "the node's namespaces, files or ports"),
            (
                "the node's files",
                {"volumes": [{"name": "a", "hostPath": {"path": "/"}}]},
                (node,),
                "the node's namespaces, files or ports",
            ),
            (
                "a privileged container",
                {"initContainers": [{"name": "a", "image": "a", "securityContext": {"privileged": True}}]},
                (node,),
                "no privileged container",
            ),
        ):
            found = create(spec, *who)
            self.case.check(f"own_pods_only: {what} is refused: {said}", said in found, found)
        (pod,) = self.pods()
        words = ("-n", NAMESPACE, "delete", "pod", pod["metadata"]["name"], "--dry-run=server", user)
        for who, allowed in ((node, True), (f"{node}-2", False)):
            done = self.cluster.kubectl(*words, who)
            self.case.equal(f"own_pods_only: deletes a pod of the node: {allowed}", done.returncode == 0, allowed)

    def kill_pod(self) -> None:
        """Kill the first process of the DaemonSet's container."""
        statuses = [one for pod in self.pods() for one in pod["status"].get("containerStatuses", [])]
        identities = [one["containerID"].removeprefix("containerd://") for one in statuses if one.get("containerID")]
        for line in self._tasks():
            if line.split()[0] in identities:
                subprocess.run(["kill", "-KILL", line.split()[1]], check=False)
        self.case.until(lambda: not self.is_ready(), 20)

    def _tasks(self) -> list[str]:
        """containerd's tasks, a line each. containerd may be restarting, as the container to be killed has it do."""
        found: list[str] = []

        def ask() -> bool:
            with suppress(AssertionError):
                found[:] = self.cluster.node.ctr("-n", "k8s.io", "tasks", "ls").splitlines()
            return bool(found)

        self.case.until(ask, PATIENCE_S)
        return found

    def kill_pod_after(self, *pauses_s: float) -> None:
        for pause_s in pauses_s:
            time.sleep(pause_s)
            self.kill_pod()

    def used(self) -> None:
        for mode, runtime_class in MODES.items():
            kind = manifests.Kind(mode, runtime_class, "", annotations={"pouchrich.io/mode.app": mode})
            for number in range(self.rich_pods // 2):
                image = manifests.SYSTEMD.reference if mode == "systemd" else images.BUSYBOX
                of = manifests.template(
                    kind, "rich", self.case.shared, [manifests.container(SCRIPT, image=image)], "Never"
                )
                self.cluster.create(manifests.pod(f"{mode}-{number}", of))
        self.becomes(
            f"{self.rich_pods} rich pods run",
            lambda: [phase for _, _, phase in self.rich().values()] == ["Running"] * self.rich_pods,
        )
        for mode in MODES:
            pod = next(one for one in self.cluster.pods("rich") if one["metadata"]["name"] == f"{mode}-0")
            overhead = pod["spec"].get("overhead")
            used = self.memory(pod["metadata"]["uid"])
            say(f"     a pod of {mode}: {used / (1 << 20):.1f} MiB in its cgroup, overhead {overhead}")

    def memory(self, uid: str) -> int:
        """What a pod's cgroup has, without its page cache."""
        parent = Path("/sys/fs/cgroup/memory", self.cluster.node.cgroup.lstrip("/"))
        (found,) = parent.glob(f"kubepods/**/pod{uid}")
        stat = dict(line.split() for line in (found / "memory.stat").read_text().splitlines())
        return int(stat["total_rss"]) + int(stat["total_shmem"])

    def upgraded(self) -> None:
        before = self.rich()
        self.deployed.apply(NEWER)
        self.kill_pod_after(2.0, 4.0, 6.0)
        self.becomes("upgraded, killed three times meanwhile, it is ready", self.is_ready)
        self.case.equal(
            "the version that is run then", (self.current(), self.labels()["pouchrich.io/version"]), (NEWER, NEWER)
        )
        self.case.equal("rich pods are as they were", self.rich() == before, True)
        self.case.equal("starts of containerd anew by the upgrade", self.restarter.count, 1)

    def rolled_back(self) -> None:
        before = self.rich()
        self.deployed.undo()
        self.kill_pod_after(3.0, 5.0)
        self.becomes(
            "rolled back, killed twice meanwhile, it is ready",
            lambda: self.is_ready() and self.current() == __version__,
        )
        self.case.equal("rich pods are as they were after that", self.rich() == before, True)

    def ended(self) -> None:
        (self.case.shared / "end").write_text(f"{END}\n")
        self.becomes("all rich pods end", lambda: all(phase == "Failed" for _, _, phase in self.rich().values()))
        codes = [
            pod["status"]["containerStatuses"][0]["state"]["terminated"]["exitCode"]
            for pod in self.cluster.pods("rich")
        ]
        self.case.equal("their exit codes", codes, [END] * self.rich_pods)
        path = self.cluster.node.base / "codes"
        self.case.until(lambda: len(path.read_text().split()) >= self.rich_pods, 60)
        self.case.equal(
            "what the poststop hooks saw", path.read_text().split()[-self.rich_pods :], [str(END)] * self.rich_pods
        )
        self.case.check(
            "each pod's application ran once",
            all((self.case.shared / name).read_text() == "ran\n" for name in self.rich()),
        )

    def given_back(self) -> None:
        self.cluster.delete(["pods"], "rich")
        kind = manifests.Kind("dumb-init", "pouchrich", "")
        of = manifests.template(
            kind, "last", self.case.shared, [manifests.container("exec sleep 3600", image=images.BUSYBOX)]
        )
        self.cluster.create(manifests.pod("last", of))
        self.becomes(
            "one more runs", lambda: [one["status"]["phase"] for one in self.cluster.pods("last")] == ["Running"]
        )
        labels = self.labels()
        self.deployed.give_back(__version__)
        self.becomes("uninstalling waits for it, and says so", lambda: "waiting: these need the shim" in self.logs())
        self.case.equal("labels meanwhile", self.labels(), labels)
        of = manifests.template(kind, "late", self.case.shared, [manifests.container("true", image=images.BUSYBOX)])
        self.cluster.create(manifests.pod("late", of))
        (late,) = self.cluster.pods("late")
        self.case.equal("a new pod chooses no node", late["spec"].get("nodeSelector"), {"pouchrich.io/no-node": "true"})
        self.cluster.delete(["pods"], "late")
        self.case.equal("the version meanwhile", self.current(), __version__)
        self.kill_pod()
        self.becomes("killed, it waits again", lambda: "waiting: these need the shim" in self.logs())
        self.cluster.delete(["pods"], "last")
        self.kill_pod_after(1.0)
        self.becomes("uninstalled, killed twice meanwhile, it is ready", self.is_ready)
        self.case.equal("labels then", self.labels(), {})
        self.case.equal("containerd's configuration is as before", self.text() == self.configuration, True)
        self.case.equal("starts of containerd anew in all", self.restarter.count, 2)
        left = self.root / str(PREFIX).lstrip("/")
        files = [str(path.relative_to(left)) for path in left.rglob("*")] if left.exists() else []
        self.case.equal(
            "what is left of the installation", files, ["etc", "etc/pouchrich", "etc/pouchrich/config.toml"]
        )
        self.deployed.remove()
        done = self.cluster.kubectl("delete", "namespace", NAMESPACE, "--timeout=120s", timeout_s=180)
        self.case.check("the namespace goes", done.returncode == 0, done.stderr)
        shims = [pid for pid in self.cluster.node.shims() if "pouchrich-v2" in processes.command(pid)]
        self.case.equal("pod servers that are left", shims, [])

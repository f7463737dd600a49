"""The operator's command against a real containerd: what it shows of containers is what they are.

The installed command and shim (hack/install.sh --prefix, as hack/test.sh does), a containerd of its own in a mount
namespace of its own, root file systems made of Debian packages.
"""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import pytest

from runtime.linux import syscalls
from tests.root import rootfs_images
from tests.root.oci_bundle import cgroups_of

_CACHE = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich")
PREFIX = Path(os.environ.get("POUCHRICH_PREFIX") or _CACHE / "prefix")
PATIENCE_S = 30.0
CGROUP = f"/pouchcommand-{os.getpid()}"

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not (PREFIX / "bin/pouchrich").exists(), reason=f"nothing is installed below {PREFIX}"),
    pytest.mark.skipif(shutil.which("containerd") is None, reason="containerd is not installed"),
    pytest.mark.skipif(shutil.which("runc") is None, reason="runc is not installed"),
]

CONFIG = """\
version = 1
[runtime]
binary = "runc"
[rich]
mode = "systemd"
[hooks]
prestart = [{ name = "hello", command = ["/bin/echo", "hello"] }]
poststop = [{ name = "bye", command = ["/bin/echo", "bye"] }]
[[agents]]
name = "watcher"
command = ["/bin/sleep", "1000"]
"""
HANDLER = """\
version = 2
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
  runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rich]
  runtime_type = "io.containerd.pouchrich.v2"
  pod_annotations = ["pouchrich.io/*"]
  container_annotations = ["io.kubernetes.pod.terminationGracePeriod"]
  [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rich.options]
    ConfigPath = "/run/c.toml"
"""


class Node:
    """A containerd and its ctr. `home` is its own directory."""

    def __init__(self, home):
        self.home = home
        self.env = {"PATH": f"{PREFIX}/bin:{os.environ['PATH']}", "CONTAINERD_ADDRESS": f"{home}/c.sock"}

    def call(self, *words):
        return subprocess.run(words, env=self.env, capture_output=True, text=True, timeout=60)

    def ctr(self, *words):
        done = self.call("ctr", *words)
        assert done.returncode == 0, done.stderr + (self.home / "log").read_text()[-3000:]
        return done.stdout

    def run(self, name, lower, command, *annotations):
        """Start a container on a layer above `lower`, which stays as it is; its bundle."""
        for part in ("upper", "work", "root"):
            (self.home / name / part).mkdir(parents=True)
        layers = f"lowerdir={lower},upperdir={self.home}/{name}/upper,workdir={self.home}/{name}/work"
        syscalls.mount("overlay", str(self.home / name / "root"), "overlay", 0, layers)
        options = ["--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", "/run/c.toml"]
        for one in annotations:
            options += ["--annotation", one]
        options += ["--cgroup", f"{CGROUP}/{name}", "--null-io", "--rootfs", str(self.home / name / "root")]
        self.ctr("run", "--detach", *options, name, *command)
        return f"{self.home}/state/io.containerd.runtime.v2.task/default/{name}"

    def remove(self, name):
        self.ctr("task", "kill", "-s", "KILL", name)
        until(lambda: "STOPPED" in self.ctr("task", "ls"), "the container to stop")
        self.call("ctr", "task", "rm", name)  # reports the exit status 137 as its own
        self.ctr("container", "rm", name)

    def pouchrich(self, *words, status=0):
        done = self.call("pouchrich", *words)
        assert done.returncode == status, done.stdout + done.stderr
        return done.stdout

    def json(self, *words, status=0):
        return json.loads(self.pouchrich(*words, "--json", status=status))


def until(condition, what):
    end = time.monotonic() + PATIENCE_S
    while not (found := condition()):
        assert time.monotonic() < end, f"timed out waiting for {what}"
        time.sleep(0.1)
    return found


@contextlib.contextmanager
def containerd():
    syscalls.mount("tmpfs", "/run", "tmpfs", 0, "mode=0755")
    own = Path("/run/lib")
    own.mkdir()
    syscalls.mount(str(own), "/var/lib", None, syscalls.MS_BIND)  # records of poststop hooks are this node's
    home = Path("/run/node")
    home.mkdir()
    Path("/run/c.toml").write_text(CONFIG)
    node = Node(home)
    words = ["containerd", "--root", f"{home}/root", "--state", f"{home}/state", "--address", f"{home}/c.sock"]
    with open(home / "log", "wb") as log:
        daemon = subprocess.Popen([*words, "--config", "/dev/null"], env=node.env, stdout=log, stderr=log)
    try:
        until(lambda: node.call("ctr", "version").returncode == 0, "containerd")
        yield node
    finally:
        for name in node.call("ctr", "task", "ls", "-q").stdout.split():  # a check that failed has left it
            with contextlib.suppress(AssertionError):
                node.remove(name)
        daemon.send_signal(signal.SIGTERM)
        daemon.wait(timeout=30)


@pytest.fixture
def on_node(isolated):
    """Run a check on a node; the cgroups of its containers go with it."""

    def run(check):
        def action():
            syscalls.unshare(syscalls.CLONE_NEWNS)
            with containerd() as node:
                check(node)

        try:
            isolated(action)
        finally:
            for directory in cgroups_of(CGROUP):
                with contextlib.suppress(OSError):
                    os.rmdir(directory)

    return run


def parts(container):
    return {(part["role"], part["name"]): part for part in container["parts"]}


def test_a_systemd_container_is_shown_as_it_is(on_node):
    lower = rootfs_images.debian("systemd")

    def check(node):
        bundle = node.run("web", lower, ["/bin/sh", "-c", "while :; do :; done"], "pouchrich.io/services=cron")

        def seen():
            (one,) = node.json("ps")["containers"]
            return one if ("service", "cron.service") in parts(one) and ("agent", "watcher") in parts(one) else None

        container = until(seen, "cron and the agent")
        found = parts(container)
        assert (container["mode"], container["init"], container["state"]) == ("systemd", "systemd", "running")
        assert Path(f"/proc/{found['init', 'systemd']['pid']}/comm").read_text() == "systemd\n"
        application = found["application", ""]
        assert application["command"] == "/bin/sh -c while :; do :; done"
        asleep = found["agent", "watcher"]
        assert asleep["cpu_percent"] < application["cpu_percent"] <= 100
        assert 0 < container["memory_bytes"] < 1 << 30
        assert "└─ agent watcher" in node.pouchrich("ps", "--tree")
        head, row = node.pouchrich("ps").splitlines()
        assert head.split()[:4] == ["ID", "NAMESPACE/POD/CONTAINER", "MODE", "STATE"]
        assert row.split()[:4] == ["web", "default/web", "systemd", "running"]
        assert node.pouchrich("ps", "-q", "--filter", "mode=systemd") == "web\n"
        assert "1 rich containers, " in node.pouchrich("top", "--count", "1", "--interval", "0.2")

        assert "console: " in (said := node.pouchrich("logs", "default/we"))
        assert "hook hello: prestart: exit status 0" in said
        assert "hook hello: hello" in said
        assert "boot: the application runs (" in said
        whole = node.json("inspect", "default/web")
        assert {"key": "mode", "value": "systemd", "source": "/run/c.toml: rich.mode"} in whole["decisions"]
        assert [(one["name"], one["result"]) for one in whole["hooks"]] == [("hello", "exit status 0")]
        assert [(one["name"], one["owner"], one["state"]) for one in whole["owed"]] == [("bye", "node", "owed")]
        assert whole["paths"]["bundle"] == bundle
        assert node.json("explain", bundle)["stored"] is True
        assert node.json("explain", "web")["stored"] is True
        found = node.json("doctor", "--address", f"{node.home}/c.sock", status=1)  # which has no handler of ours
        checks = {(one["area"], one["what"]): one for one in found["checks"]}
        told = [one["found"] for one in found["checks"] if one["what"] == "containerd"]
        assert told[0].startswith(f"listens at {node.home}/c.sock, pid ")
        assert checks["containers", "rich containers"]["found"] == "1"
        assert found["summary"]["fail"] == 1

        spec = Path("/run/info.json")
        spec.write_text(node.ctr("container", "info", "web"))
        anew = node.json("explain", "--replan", "--spec", str(spec), "--config", "/run/c.toml", bundle)
        assert [one["name"] for one in anew["steps"]] == [one["name"] for one in whole["steps"]]
        assert any(one["path"] == "process.args" for one in anew["difference"])
        node.remove("web")
        assert node.json("ps") == {"version": 1, "containers": []}

    on_node(check)


def test_a_dumb_init_container_and_its_execs_are_shown(on_node, tmp_path):
    lower = rootfs_images.busybox(tmp_path / "busybox")

    def check(node):
        about = (
            "pouchrich.io/mode=dumb-init",
            "io.kubernetes.cri.container-name=worker",
            "pouchrich.io/mode.wroker=auto",
        )
        node.run("worker", lower, ["/bin/sh", "-c", "sleep 900 & exec sleep 901"], *about)
        warning = "annotation pouchrich.io/mode.wroker: is for a container"
        assert warning in "".join(node.json("explain", "worker")["warnings"])
        assert warning in (node.home / "log").read_text()
        assert warning in node.pouchrich("doctor", "--quiet", "--address", f"{node.home}/c.sock", status=1)
        node.ctr("task", "exec", "--detach", "--exec-id", "e", "worker", "/bin/sleep", "902")
        (container,) = node.json("ps")["containers"]
        found = {part["role"]: part for part in container["parts"] if part["role"] != "exec"}
        assert (container["mode"], container["state"]) == ("dumb-init", "running")
        assert (found["application"]["command"], found["application"]["processes"]) == ("sleep 901", 2)
        assert "/bin/sleep 902" in [part["command"] for part in container["parts"]]
        node.ctr("task", "pause", "worker")
        assert node.json("inspect", "work")["state"] == "paused"
        node.ctr("task", "resume", "worker")
        node.remove("worker")

    on_node(check)


def test_restarts_in_place_and_agents_that_do_not_run_are_shown(on_node):
    lower = rootfs_images.debian("systemd")

    def check(node):
        Path("/run/c.toml").write_text(
            CONFIG.replace('mode = "systemd"', 'mode = "systemd"\nrestart = "on-failure"').replace(
                "/bin/sleep", "/none"
            )
        )
        node.run("web", lower, ["/bin/sh", "-c", "[ -e /again ] && exec sleep 900; touch /again; exit 3"])

        def restarted():
            (one,) = node.json("ps")["containers"]
            return one if one["restarts"] == 1 and len(one["problems"]) == 2 else None

        container = until(restarted, "the restart and the agent's failure to be noted")
        assert parts(container)["application", ""]["command"] == "sleep 900"
        assert container["problems"][0] == "init restarted the application once"
        assert container["problems"][1].startswith("agent watcher does not run")
        assert "  ! init restarted the application once\n" in node.pouchrich("ps")
        assert "the application ended with 3 and was restarted" in node.pouchrich("logs", "web", "--boot")
        node.remove("web")
        counted = {(one["name"], *one["labels"].values()): one["value"] for one in node.json("metrics")["samples"]}
        assert counted["pouchrich_restarts_in_place_total",] == 1
        assert counted["pouchrich_boot_seconds_count", "systemd", "ok"] == 1
        assert counted["pouchrich_exits_total", "systemd", "Signal"] == 1
        hook = ("pouchrich_hook_seconds_count", "ok", "node")
        assert (counted[*hook, "prestart", "container"], counted[*hook, "poststop", "container"]) == (1, 1)
        assert counted["pouchrich_owed_records",] == 0
        assert (
            'container="web"' in (node.home / "log").read_text() or "container=web" in (node.home / "log").read_text()
        )

    on_node(check)


def test_a_support_bundle_has_no_names(on_node, tmp_path):
    lower = rootfs_images.busybox(tmp_path / "busybox")

    def check(node):
        node.run("topsecretname", lower, ["/bin/sh", "-c", "exec sleep 901"], "pouchrich.io/mode=dumb-init")
        node.pouchrich("support", "-o", "/run/b.tar.gz", "--address", f"{node.home}/c.sock")
        listed = node.call("tar", "-tzf", "/run/b.tar.gz").stdout.splitlines()
        assert {one.rpartition("/")[2] for one in listed} >= {"containers.json", "doctor.json", "containerd.txt"}
        everything = node.call("tar", "-xOzf", "/run/b.tar.gz").stdout
        assert "topsecretname" not in everything
        assert '"state": "running"' in everything
        assert "io.containerd" in everything  # its own config dump
        node.remove("topsecretname")

    on_node(check)


@pytest.mark.full
def test_ps_of_a_hundred_containers_costs_two_milliseconds_each(on_node, tmp_path):
    """Of processor time, with the command's own start."""
    lower = rootfs_images.busybox(tmp_path / "busybox")

    def check(node):
        for number in range(100):
            node.run(
                f"c{number:02}", lower, ["/bin/sh", "-c", "sleep 900 & exec sleep 901"], "pouchrich.io/mode=dumb-init"
            )
        costs = {}
        for words in (("ps",), ("ps", "--tree"), ("ps", "--json")):
            before = os.times()
            assert node.pouchrich(*words).count("running") >= 100
            after = os.times()
            costs[words] = after.children_user + after.children_system - before.children_user - before.children_system
        print({" ".join(words): f"{10 * cost:.2f} ms a container" for words, cost in costs.items()})
        assert costs["ps",] <= 0.2
        for number in range(100):
            node.call("ctr", "task", "rm", "--force", f"c{number:02}")

    on_node(check)


def test_doctor_judges_this_node(on_node):
    def check(node):
        Path("/run/containerd.toml").write_text(HANDLER)
        found = node.json("doctor", "--config", "/run/c.toml", "--containerd-config", "/run/containerd.toml")
        assert found["healthy"] is True
        checks = {(one["area"], one["what"]): one for one in found["checks"]}
        assert checks["runtime", "OCI runtime"]["found"].startswith(shutil.which("runc"))
        assert checks["containerd", "handler rich"]["found"] == "configured by /run/c.toml"
        assert {("kernel", "exit status of applications"), ("installation", "launch")} <= set(checks)
        Path("/run/containerd.toml").write_text("version = 2\n")
        text = node.pouchrich("doctor", "--containerd-config", "/run/containerd.toml", status=1)
        assert "  fail handlers: /run/containerd.toml: none for this shim\n" in text
        *rest, last = node.pouchrich(
            "doctor", "--quiet", "--containerd-config", "/run/containerd.toml", status=1
        ).splitlines()
        assert not [line for line in rest if line.startswith("  ok")]
        assert ", 1 failed: the lines above say what to do" in last

    on_node(check)

"""Hooks of rich containers, through the CRI: before the application, and exactly once after it, however it ends."""

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import pytest

from runtime.paths import POSTSTOP_SWEPT, RECORDS
from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import binaries, cgroups, processes
from tests.integration.images import BUSYBOX
from tests.integration.node import ROOT, Node
from tests.integration.pods import EXITED, Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_crashes import kill_shim, restart
from tests.integration.test_cri_containers import limited
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_systemd import failed_start, stuck
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
MODES = ["systemd", "dumb-init"]
TOLD = "$POUCHRICH_EXIT_CODE $POUCHRICH_EXIT_REASON $POUCHRICH_MODE $POUCHRICH_NAMESPACE/$POUCHRICH_NAME"


def hook(stage: str, where: str, script: str, **more: object) -> str:
    """A hook's table in the node's configuration."""
    keys = {"name": f"{stage}-{where}", "where": where, "command": ["/bin/sh", "-c", script], **more}
    return f"[[hooks.{stage}]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


class Hooked:
    """Containers whose hooks write lines below `directory`, which is at /shared in the container."""

    def __init__(self, rich_pods: RichPods) -> None:
        self.rich_pods = rich_pods
        self.directory = Path(rich_pods.node.base, f"shared-{time.monotonic_ns()}")
        self.directory.mkdir()
        self.directory.chmod(0o777)

    @property
    def node(self) -> Node:
        return self.rich_pods.node

    def poststop(self) -> str:
        """A poststop hook on the host and one in the container."""
        return hook("poststop", "host", f"cat >/dev/null; echo {TOLD} >>{self.directory}/host") + hook(
            "poststop", "container", f"cat >/dev/null; echo {TOLD} >>/shared/container"
        )

    def create(
        self,
        mode: str,
        *command: str,
        more: str = "",
        rich: str = "",
        image: System | str = SYSTEMD,
        config: pb.ContainerConfig | None = None,
        annotations: dict[str, str] | None = None,
    ) -> Container:
        wanted = pb.ContainerConfig(mounts=[pb.Mount(container_path="/shared", host_path=str(self.directory))])
        if config is not None:
            wanted.MergeFrom(config)
        pod = self.rich_pods.pod(mode, rich=rich, more=more, annotations=annotations)
        return self.rich_pods.create(pod, image, *command, config=wanted)

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def ran_once(self, expected: str, *, timeout_s: float = 10.0) -> None:
        """Both poststop hooks ran, or will have shortly, were told `expected`, and run no second time."""
        until(lambda: self.lines("host") and self.lines("container"), "the hooks to run", timeout_s=timeout_s)
        time.sleep(0.3)
        for name in ("host", "container"):
            (line,) = self.lines(name)
            assert f"{line} ".startswith(f"{expected} "), line


@pytest.fixture
def hooked(rich_pods: RichPods) -> Hooked:
    return Hooked(rich_pods)


# Before the application


@everywhere
@pytest.mark.parametrize("mode", MODES)
def test_prestart_hooks_run_before_the_init_in_order(hooked: Hooked, mode: str) -> None:
    more = hook("prestart", "host", f"cat >{hooked.directory}/state; echo host >>{hooked.directory}/order")
    more += hook("prestart", "container", "cat >/dev/null; cat /proc/1/comm >/tmp/init; echo container >>/shared/order")
    about = {"pouchrich.io/init-script": "/bin/sh -c 'echo script >>/shared/order'"}
    container = hooked.create(mode, "sh", "-c", "cat /shared/order", more=more, annotations=about)
    container.start()
    assert container.wait().exit_code == 0
    container.wait_output(b"host\ncontainer\nscript\n")
    state = json.loads((hooked.directory / "state").read_text())
    assert (state["status"], state["id"]) == ("created", container.id)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["container", "host"])
def test_a_prestart_hook_that_fails_fails_the_start_and_its_last_words_reach_the_pods_owner(
    hooked: Hooked, mode: str, where: str
) -> None:
    more = hook("prestart", where, "cat >/dev/null; echo the disk is full >&2; exit 3") + hooked.poststop()
    message = failed_start(container := hooked.create(mode, "touch", "/shared/ran", more=more))
    assert f"prestart hook prestart-{where}: exit status 3" in message, message
    assert ("the disk is full" in message) == (where == "container"), message
    assert container.status().state == EXITED
    assert not (hooked.directory / "ran").exists()
    hooked.ran_once("128 StartFailed")


def test_a_prestart_hook_that_may_fail_holds_nothing_up(hooked: Hooked) -> None:
    more = hook("prestart", "container", "exit 3", **{"on-failure": "continue"})
    container = hooked.create("systemd", "sh", "-c", "exit 5", more=more).start()
    assert container.wait().exit_code == 5


@pytest.mark.parametrize("where", ["container", "host"])
def test_a_prestart_hook_that_hangs_is_ended_with_all_that_it_started(hooked: Hooked, where: str) -> None:
    """One of its children has left its session and its process group."""
    script = "setsid sleep 987 & sleep 987"
    message = failed_start(hooked.create("systemd", "true", more=hook("prestart", where, script, timeout="1s")))
    assert f"prestart hook prestart-{where}: timed out after 1s" in message, message
    until(lambda: not sleeping(hooked.node), "the hook's processes to end")


def sleeping(node: Node) -> list[int]:
    return [pid for pid in node.below() if "sleep 987" in processes.command(pid)]


def test_what_a_prestart_hook_leaves_is_ended_though_it_forks_without_an_end(hooked: Hooked) -> None:
    """Each of its processes is gone before a signal can reach it, and the next one is there."""
    perl = '$SIG{CHLD} = "IGNORE"; fork for 1..3; while (1) { exit if fork }'
    script = f"perl -e '{perl}' </dev/null >/dev/null 2>&1 & sleep 0.5"
    container = hooked.create("dumb-init", "sh", "-c", FOREVER, more=hook("prestart", "container", script))
    running(container.start())
    found = cgroups.of_process(container.pid(), "pids").joinpath("cgroup.procs").read_text().split()
    assert len(found) <= 3  # the init, the shell and its sleep


@pytest.mark.parametrize("where", ["container", "host"])
def test_a_hook_with_much_to_say_is_cut_short(hooked: Hooked, where: str) -> None:
    script = "head -c 10000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 1"
    message = failed_start(hooked.create("systemd", "true", more=hook("prestart", where, script)))
    assert ("the end" in message) == (where == "container"), message
    assert len(message) < 2000


@pytest.mark.parametrize("where", ["container", "host"])
def test_a_hook_that_is_not_there_fails_the_start(hooked: Hooked, where: str) -> None:
    more = f'[[hooks.prestart]]\nname = "absent"\nwhere = "{where}"\ncommand = ["/usr/bin/no-such-program"]\n'
    container = hooked.create("systemd", "true", more=more)
    with pytest.raises(CallFailed) as failure:
        container.start()
    assert "no-such-program" in failure.value.message or "absent" in failure.value.message


def test_a_pods_own_hooks_run_as_the_pods_user(hooked: Hooked) -> None:
    security = pb.LinuxContainerSecurityContext(run_as_user=pb.Int64Value(value=1000))
    script = "id -u >>/shared/user; grep CapEff /proc/self/status >>/shared/user"
    listed = json.dumps([{"name": "mine", "command": ["sh", "-c", script]}])
    about = {"pouchrich.io/prestart": listed, "pouchrich.io/poststop": listed}
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(security_context=security))
    container = hooked.create("systemd", "true", config=config, annotations=about).start()
    container.wait()
    until(lambda: len(hooked.lines("user")) == 4, "both hooks to run")
    assert hooked.lines("user") == ["1000", "CapEff:\t0000000000000000"] * 2


# After it


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("script", "expected"),
    [("exit 0", "0 Completed"), ("exit 7", "7 Error"), ("kill -KILL $$", "137 Signal")],
)
def test_poststop_hooks_run_once_and_before_the_exit_is_told(
    hooked: Hooked, mode: str, script: str, expected: str
) -> None:
    container = hooked.create(mode, "sh", "-c", script, more=hooked.poststop()).start()
    container.wait()
    assert (len(hooked.lines("host")), len(hooked.lines("container"))) == (1, 1)
    hooked.ran_once(f"{expected} {mode} tests/app")


def test_poststop_hooks_run_in_reverse_order_in_the_containers_file_system_and_network(hooked: Hooked) -> None:
    script = (
        "cat /tmp/kept >>/shared/seen; cat /proc/net/fib_trie | grep -c 10.222. >>/shared/seen; echo $$ >>/shared/seen"
    )
    first = hook("poststop", "container", script)
    second = hook("poststop", "container", "echo second >>/shared/seen").replace("poststop-container", "second")
    container = hooked.create("systemd", "sh", "-c", "echo it is here >/tmp/kept", more=first + second).start()
    container.wait()
    order, kept, addresses, pid = hooked.lines("seen")
    assert (order, kept, pid) == ("second", "it is here", "1")
    assert int(addresses) > 0


@pytest.mark.parametrize("mode", MODES)
def test_poststop_hooks_are_told_of_a_kill_by_the_kernel(hooked: Hooked, mode: str) -> None:
    grow = 'BEGIN { x = "0123456789abcdef"; while (1) x = x x }'
    container = hooked.create(mode, "awk", grow, more=hooked.poststop(), config=limited(160 << 20)).start()
    assert container.wait().reason == "OOMKilled"
    hooked.ran_once("137 OOMKilled")


def test_poststop_hooks_run_after_a_boot_that_failed(hooked: Hooked) -> None:
    image = stuck(hooked.rich_pods)
    failed_start(hooked.create("systemd", "true", more=hooked.poststop(), rich='start-timeout = "1s"', image=image))
    hooked.ran_once("128 StartFailed")


@pytest.mark.parametrize("mode", MODES)
def test_poststop_hooks_run_after_a_container_was_killed_at_once(hooked: Hooked, mode: str) -> None:
    container = hooked.create(mode, "sleep", "300", more=hooked.poststop()).start()
    container.stop(grace_s=0)
    hooked.ran_once("137 Signal")


@everywhere
@pytest.mark.parametrize("mode", MODES)
def test_poststop_hooks_run_after_the_shim_was_killed(hooked: Hooked, mode: str) -> None:
    container = running(hooked.create(mode, "sh", "-c", FOREVER, more=hooked.poststop()).start())
    kill_shim(hooked.node, "pouchrich")
    assert container.wait().state == EXITED
    hooked.ran_once("137 ShimKilled", timeout_s=20)


@pytest.mark.parametrize("mode", MODES)
def test_a_poststop_hook_that_runs_while_the_shim_is_killed_is_not_run_again(hooked: Hooked, mode: str) -> None:
    """The other one, which had not been started, is."""
    slow = hook("poststop", "host", f"echo {TOLD} >>{hooked.directory}/host; sleep 2").replace("-host", "-slow")
    first = hook("poststop", "host", f"cat >/dev/null; echo {TOLD} >>{hooked.directory}/container")
    container = running(hooked.create(mode, "sh", "-c", f"trap 'exit 4' TERM; {FOREVER}", more=first + slow).start())
    hooked.node.ctr("-n", "k8s.io", "tasks", "kill", "--signal", "TERM", container.id)
    until(lambda: hooked.lines("host"), "the slow hook to run")
    kill_shim(hooked.node, "pouchrich")
    hooked.ran_once("4 Error", timeout_s=20)
    assert container.wait().state == EXITED


@pytest.mark.parametrize("mode", MODES)
def test_poststop_hooks_run_while_containerd_is_away_and_not_again_when_it_is_back(hooked: Hooked, mode: str) -> None:
    command = "until [ -e /shared/go ]; do sleep 0.05; done; exit 7"
    container = hooked.create(mode, "sh", "-c", command, more=hooked.poststop()).start()
    hooked.node.kill_containerd()
    (hooked.directory / "go").touch()
    hooked.ran_once("7 Error")
    hooked.node.start()
    hooked.rich_pods.pods.reconnect()
    assert container.wait().exit_code == 7
    hooked.ran_once("7 Error")


@pytest.mark.parametrize("mode", MODES)
def test_poststop_hooks_that_have_run_are_not_run_again_for_a_shim_killed_after_the_exit(
    hooked: Hooked, mode: str
) -> None:
    command = "until [ -e /shared/go ]; do sleep 0.05; done; exit 7"
    container = hooked.create(mode, "sh", "-c", command, more=hooked.poststop()).start()
    hooked.node.kill_containerd()  # or CRI would delete the task as soon as it has ended
    (hooked.directory / "go").touch()
    hooked.ran_once("7 Error")
    kill_shim(hooked.node, "pouchrich")
    hooked.node.start()
    hooked.rich_pods.pods.reconnect()
    assert container.wait().state == EXITED
    hooked.ran_once("7 Error")


@pytest.mark.parametrize("mode", MODES)
def test_a_restart_of_containerd_alone_runs_no_hook(hooked: Hooked, mode: str) -> None:
    container = running(hooked.create(mode, "sh", "-c", FOREVER, more=hooked.poststop()).start())
    restart(hooked.rich_pods.pods)
    time.sleep(0.5)
    assert hooked.lines("host") == hooked.lines("container") == []
    container.stop(grace_s=20)
    hooked.ran_once("143 Signal")


@everywhere
@pytest.mark.parametrize("stdin", [False, True], ids=["", "stdin"])
@pytest.mark.parametrize("mode", MODES)
def test_containerd_that_is_killed_in_the_middle_of_a_start_comes_back(hooked: Hooked, mode: str, stdin: bool) -> None:
    """It kills what it finds created and not started, and waits for the end of its output before anything else."""
    script = f"touch {hooked.directory}/begun; sleep 300"
    more = hook("prestart", "host", script, timeout="5m") + hooked.poststop()
    container = hooked.create(mode, "sh", "-c", FOREVER, more=more, config=pb.ContainerConfig(stdin=stdin))
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(container.start)
        until(lambda: (hooked.directory / "begun").exists(), "the prestart hook")
        restart(hooked.rich_pods.pods)
        assert isinstance(start.exception(), CallFailed)
    hooked.ran_once("128 StartFailed", timeout_s=30)


@pytest.mark.parametrize("mode", MODES)
def test_poststop_hooks_do_not_run_for_a_container_that_could_not_be_created(hooked: Hooked, mode: str) -> None:
    """The shim's own steps are all through: it is the OCI runtime that fails, at a mount of the pod's."""
    bad = pb.Mount(container_path="/proc/sys/kernel/not-there", host_path=str(hooked.directory))
    config = pb.ContainerConfig(mounts=[bad])
    failed_start(hooked.create(mode, "true", more=hooked.poststop(), config=config))
    time.sleep(0.5)
    assert hooked.lines("host") == hooked.lines("container") == []


def and_then(hooked: Hooked) -> str:
    """A poststop hook that runs after the others, which come later in the list."""
    return hook("poststop", "host", f"cat >/dev/null; echo {TOLD} >>{hooked.directory}/then", name="then")


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("where", ["container", "host"])
def test_a_poststop_hook_that_hangs_is_ended_with_all_that_it_started_and_the_next_one_runs(
    hooked: Hooked, mode: str, where: str
) -> None:
    """A grandchild has left its session, keeps its output open, and is gone before the exit is told."""
    shared = "/shared" if where == "container" else hooked.directory
    script = f"setsid sh -c 'echo grandchild >>{shared}/hung; sleep 987 & sleep 987' & sleep 987"
    more = and_then(hooked) + hook("poststop", where, script, timeout="1s")
    container = hooked.create(mode, "sh", "-c", "exit 6", more=more).start()
    assert container.wait(timeout_s=20).exit_code == 6
    assert not sleeping(hooked.node)
    assert hooked.lines("hung") == ["grandchild"]
    assert hooked.lines("then") == [f"6 Error {mode} tests/app"]


@everywhere
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    "bad",
    [
        pytest.param({"command": ["/bin/false"], "on-failure": "abort"}, id="aborts"),
        pytest.param({"command": ["/bin/sleep", "600"], "timeout": "1m"}, id="hangs"),
    ],
)
def test_a_pods_own_poststop_hook_keeps_none_of_the_nodes_from_running(
    hooked: Hooked, mode: str, bad: dict[str, object]
) -> None:
    """Also of the same name."""
    listed = json.dumps([{"name": name, **bad} for name in ("poststop-host", "x")])
    more = 'poststop-budget = "3s"\n' + hooked.poststop()
    about = {"pouchrich.io/poststop": listed}
    container = hooked.create(mode, "sh", "-c", "exit 6", more="[hooks]\n" + more, annotations=about).start()
    assert container.wait(timeout_s=20).exit_code == 6
    hooked.ran_once(f"6 Error {mode} tests/app")


def test_a_pods_own_prestart_hooks_come_after_the_nodes(hooked: Hooked) -> None:
    listed = json.dumps([{"name": "x", "command": ["sh", "-c", "echo pod >>/shared/order; exit 1"]}])
    more = "".join(
        hook("prestart", where, f"cat >/dev/null; echo {where} >>{shared}/order")
        for where, shared in (("host", hooked.directory), ("container", "/shared"))
    )
    failed_start(hooked.create("systemd", "true", more=more, annotations={"pouchrich.io/prestart": listed}))
    assert hooked.lines("order") == ["host", "container", "pod"]


@pytest.mark.parametrize("mode", MODES)
def test_programs_of_the_image_that_hang_keep_no_poststop_hook_on_the_host_from_running(
    hooked: Hooked, mode: str
) -> None:
    more = '[hooks]\npoststop-budget = "2s"\n' + and_then(hooked) + hook("poststop", "container", "sleep 987")
    container = hooked.create(mode, "sh", "-c", "exit 6", more=more).start()
    assert container.wait(timeout_s=20).exit_code == 6
    assert hooked.lines("then") == [f"6 Error {mode} tests/app"]


FAILS = ["/bin/sh", "-c", "echo the disk is full >&2; exit 3"]
TALKS = ["/bin/sh", "-c", "head -c 10000000 /dev/zero | tr '\\0' x; echo; echo the end; exit 4"]


@pytest.mark.parametrize("mode", ["dumb-init", pytest.param("systemd", marks=pytest.mark.full)])
@pytest.mark.parametrize(
    ("where", "command", "result"),
    [
        pytest.param("container", FAILS, "exit status 3", id="container-fails"),
        pytest.param("host", FAILS, "exit status 3", id="host-fails"),
        # On the host that is a fault of the configuration, which Create refuses.
        pytest.param("container", ["/usr/bin/no-such-program"], "no-such-program", id="container-missing"),
        pytest.param("container", TALKS, "exit status 4", id="container-talks"),
        pytest.param("host", TALKS, "exit status 4", id="host-talks"),
    ],
)
def test_a_poststop_hook_that_fails_changes_neither_the_exit_nor_what_comes_after_it(
    hooked: Hooked, mode: str, where: str, command: list[str], result: str
) -> None:
    more = and_then(hooked) + hook("poststop", where, "", command=command)
    container = hooked.create(mode, "sh", "-c", "exit 6", more=more).start()
    assert container.wait().exit_code == 6
    assert hooked.lines("then") == [f"6 Error {mode} tests/app"]
    about = f"{container.id}: poststop hook poststop-{where}: "
    until(lambda: about in hooked.node.log.read_text(), "the log to have the hook's result")
    (line,) = [line for line in hooked.node.log.read_text().splitlines() if about in line]
    assert result in line, line
    assert len(line) < 2000


def test_what_was_killed_with_the_shim_leaves_nothing(hooked: Hooked) -> None:
    container = running(hooked.create("systemd", "sh", "-c", FOREVER).start())
    init = container.pid()
    (shim,) = hooked.node.shims()
    os.kill(shim, signal.SIGKILL)
    until(lambda: not processes.alive(init), "PID 1 to end")
    assert container.wait().state == EXITED


# A node in trouble


@contextlib.contextmanager
def small_disk(node: Node) -> Iterator[Path]:
    """Where records are: a file system of 128 KiB for the length of the `with`."""
    inside = ["nsenter", f"--mount=/proc/{node.pid}/ns/mnt"]
    seen = Path(f"/proc/{node.pid}/root{RECORDS}").parent
    seen.mkdir(exist_ok=True)
    subprocess.run([*inside, "mount", "-t", "tmpfs", "-o", "size=128k", "small", str(Path(RECORDS).parent)], check=True)
    try:
        yield seen
    finally:
        subprocess.run([*inside, "umount", "-l", str(Path(RECORDS).parent)], check=True)


def fill(directory: Path) -> Path:
    path = directory / "fill"
    with suppress(OSError), path.open("wb", buffering=0) as file:
        while True:
            file.write(bytes(4096))
    return path


@everywhere
@pytest.mark.parametrize("mode", MODES)
def test_a_disk_that_is_full_keeps_no_poststop_hook_from_running(hooked: Hooked, mode: str) -> None:
    with small_disk(hooked.node) as disk:
        container = running(hooked.create(mode, "sh", "-c", FOREVER, more=hooked.poststop()).start())
        fill(disk)
        container.stop(grace_s=0)
        hooked.ran_once("137 Signal")
        assert not list(disk.rglob("*.jsonl"))


def test_poststop_hooks_that_cannot_be_recorded_fail_create(hooked: Hooked) -> None:
    with small_disk(hooked.node) as disk:
        filling = fill(disk)
        message = failed_start(hooked.create("dumb-init", "true", more=hooked.poststop()))
        for part in ("no space left on device", "/var/lib/pouchrich", "make room"):
            assert part in message, message
        assert [path.name for path in disk.rglob("*") if path.is_file()] == ["fill"]
        filling.unlink()
        hooked.create("dumb-init", "true", more=hooked.poststop()).start().wait()
        hooked.ran_once("0 Completed")


@pytest.mark.parametrize("killed", ["runner", "runner and sweeper"])
def test_poststop_hooks_whose_runner_was_killed_are_run_by_the_next(hooked: Hooked, killed: str) -> None:
    """Whoever waits for the runner does so, or else the next container's start."""
    script = f"echo $$ >{hooked.directory}/pid; echo slow >>{hooked.directory}/slow; exec sleep 4"
    slow = hook("poststop", "host", script, name="slow")
    container = running(hooked.create("dumb-init", "sh", "-c", FOREVER, more=hooked.poststop() + slow).start())
    kill_shim(hooked.node, "pouchrich")
    until(lambda: hooked.lines("pid"), "the slow hook to run")
    parents = processes.parents()
    supervisor = parents[int(hooked.lines("pid")[0])]
    runner = parents[supervisor]
    if killed == "runner and sweeper":
        os.kill(parents[runner], signal.SIGKILL)
    os.kill(runner, signal.SIGKILL)
    container.wait()
    if killed == "runner and sweeper":
        assert hooked.lines("host") == []
        os.utime(f"/proc/{hooked.node.pid}/root{POSTSTOP_SWEPT}", (0, 0))
        hooked.create("dumb-init", "true").start().wait()
    until(lambda: hooked.lines("host"), "the hook to run", timeout_s=20)
    until(lambda: not list(hooked.node.records()), "the record to go", timeout_s=20)
    assert (len(hooked.lines("host")), hooked.lines("slow")) == (1, ["slow"])


def test_the_shim_is_not_uninstalled_from_under_pods_and_owed_hooks(hooked: Hooked) -> None:
    """The installation is read-only to this uninstaller, should it not refuse."""
    container = running(hooked.create("dumb-init", "sh", "-c", FOREVER, more=hooked.poststop()).start())
    prefix = str(binaries.prefix())
    script = f"mount --bind {prefix} {prefix} && mount -o remount,bind,ro {prefix} && exec hack/install.sh"
    words = ["nsenter", f"--mount=/proc/{hooked.node.pid}/ns/mnt", f"--wd={ROOT}", "unshare", "--mount", "sh", "-c"]
    words += [f"{script} --prefix {prefix} --uninstall"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    (server,) = hooked.node.shims()
    assert done.returncode == 1, done.stderr
    assert f"(pid {server})" in done.stderr, done.stderr
    assert f"{container.id}.jsonl" in done.stderr, done.stderr
    container.stop(grace_s=0)
    hooked.ran_once("137 Signal")


@pytest.mark.timeout(180)
def test_an_exit_is_told_though_containerd_comes_back_in_the_middle_of_slow_poststop_hooks(
    rich_pods: RichPods,
) -> None:
    """A task that says it has ended is deleted by a containerd that comes back, and given up after ten seconds."""
    hooked = Hooked(rich_pods)
    slow = hook("poststop", "host", f"touch {hooked.directory}/began; sleep 13; echo x >>{hooked.directory}/host")
    container = hooked.create("dumb-init", "sh", "-c", "exit 7", more=slow, image=BUSYBOX).start()
    until((hooked.directory / "began").exists, "the hook to begin")
    restart(rich_pods.pods)
    assert container.wait(timeout_s=40).exit_code == 7
    assert hooked.lines("host") == ["x"]

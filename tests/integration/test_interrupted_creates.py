"""An OCI runtime that is killed in the middle of its work, and one whose shim is: nothing of the container is left.

The OCI runtime of these pods is a script, which runs the real one.
"""

import fcntl
import os
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runtime.host import NESTED
from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import configuration, leaks, processes
from tests.integration.images import BUSYBOX
from tests.integration.node import Node
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import HANDLER, RichPods
from tests.integration.test_crashes import kill_shim, restart
from tests.integration.test_rich_application import everywhere
from tests.integration.test_rich_hooks import hook
from tests.integration.test_rich_systemd import failed_start
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), everywhere]

MODES = {"plain": BUSYBOX, "dumb-init": BUSYBOX, "systemd": System("systemd")}
modes = pytest.mark.parametrize("mode", MODES)

# Once there is a cgroup, and before there is a word of it in the runtime's own state.
INTERRUPTED = """#!/bin/sh
case " $* " in *" create "*{container}" ")
    for id; do :; done
    cgroup={cgroups}/$id
    {oci} "$@" &
    until [ -d $cgroup ]; do :; done
    {interrupt}
    wait $!
    exit
esac
exec {oci} "$@"
"""

# As late as can be: there is an init that waits to be started, and no word of it.
NOT_NOTED = """#!/bin/sh
case " $* " in *" create "*)
    for id; do [ "$last" != --root ] || root=$id; last=$id; done
    {oci} "$@"
    rm -r $root/$id
    kill -9 $$
esac
exec {oci} "$@"
"""

# What the runtime makes for the container takes its time, as with 100,000 variables to read, and stands still here.
SLOW_INIT = "until kill -STOP $(cat $cgroup/cgroup.procs $cgroup/*/cgroup.procs 2>/dev/null) 2>/dev/null; do :; done"

# It may have come to its end before.
KILL = "kill -9 $!; exit 137"

KILLED_ONCE = """#!/bin/sh
for id; do :; done
case " $* " in *" delete "*) [ -e {marks}/$id ] || {{ : >{marks}/$id; kill -9 $$; }} ;; esac
exec {oci} "$@"
"""

# A cgroup is busy for a moment after its last process; a runtime may give up sooner.
LEAVES_A_CGROUP = """#!/bin/sh
for id; do :; done
case " $* " in *" delete "*) {oci} "$@"; status=$?; mkdir -p {cgroups}/$id{nested}/left; exit $status ;; esac
exec {oci} "$@"
"""

KILLS_WHO_DELETES = """#!/bin/sh
for id; do :; done
case " $* " in *" delete "*) [ -e {marks}/$id ] || {{ : >{marks}/$id; kill -9 $PPID; }} ;; esac
exec {oci} "$@"
"""

SLOW = """#!/bin/sh
for id; do :; done
case " $* " in *" delete "*) : >{marks}/$id; until [ -e {marks}/go ]; do sleep 0.05; done ;; esac
exec {oci} "$@"
"""


def created(
    rich_pods: RichPods, mode: str, interrupt: str, *, command: str = "true", container: str = "*", more: str = ""
) -> Container:
    """A container that is not started yet.

    The create of each `container`, a shell's pattern, meets `interrupt`, lines for a shell about process `$!`. `more`
    is for the configuration.
    """
    node = rich_pods.node
    program = node.base / node.oci.name
    program.write_text(f'#!/bin/sh\nexec {node.oci} "$@"\n')
    program.chmod(0o755)
    rich = "enabled = false" if mode == "plain" else f'mode = "{mode}"'
    text = f'version = 1\n[runtime]\nbinary = "{program}"\n[rich]\n{rich}\n{more}'
    rich_pods.node.write_files({configuration.TEST_FILE: text})
    made = rich_pods.create(rich_pods.pods.run(handler=HANDLER), MODES[mode], "sh", "-c", command)
    words = {"oci": node.oci, "cgroups": cgroups_of(node), "interrupt": interrupt, "container": container}
    replace(node, INTERRUPTED.format(**words))
    return made


def cgroups_of(node: Node) -> Path:
    """The directory of the node's cgroups in one of the hierarchies."""
    controller = "memory" if Path("/sys/fs/cgroup/memory").is_dir() else ""
    return Path("/sys/fs/cgroup", controller, node.cgroup[1:])


def leaves_a_cgroup(node: Node, mode: str) -> str:
    """An OCI runtime that leaves one below the container's own, which is one of two levels where systemd is PID 1."""
    nested = f"/{NESTED}" if mode == "systemd" else ""
    return LEAVES_A_CGROUP.format(oci=node.oci, cgroups=cgroups_of(node), nested=nested)


def replace(node: Node, script: str) -> None:
    """Make `script` the OCI runtime."""
    program = node.base / node.oci.name
    program.unlink()  # a new file: the old one may be held
    program.write_text(script)
    program.chmod(0o755)


def runtimes(node: Node) -> list[int]:
    """The OCI runtimes that run."""
    return [pid for pid in node.below() if " create " in processes.command(pid)]


@modes
def test_an_oci_runtime_that_is_killed_fails_the_start_and_leaves_no_cgroup(rich_pods: RichPods, mode: str) -> None:
    message = failed_start(created(rich_pods, mode, KILL))
    assert "OCI runtime create failed" in message, message


@modes
@pytest.mark.only(oci="crun")  # runc notes a container before its init may wait
def test_an_oci_runtime_that_is_killed_after_all_its_work_leaves_no_init(rich_pods: RichPods, mode: str) -> None:
    container = created(rich_pods, mode, "")
    replace(rich_pods.node, NOT_NOTED.format(oci=rich_pods.node.oci))
    assert "OCI runtime create failed" in failed_start(container)


@modes
def test_an_oci_runtime_that_is_killed_while_its_init_is_slow_leaves_no_process(rich_pods: RichPods, mode: str) -> None:
    message = failed_start(created(rich_pods, mode, f"{SLOW_INIT}; {KILL}"))
    assert "OCI runtime create failed" in message, message


@modes
def test_a_create_that_is_given_up_while_the_init_is_slow_leaves_nothing(rich_pods: RichPods, mode: str) -> None:
    slow = rich_pods.node.base / f"slow-{mode}"
    container = created(rich_pods, mode, f"{SLOW_INIT}; : >{slow}; kill -STOP $$")
    request = pb.StartContainerRequest(container_id=container.id)
    with rich_pods.node.client() as client, pytest.raises(CallFailed):
        client.call(request, pb.StartContainerResponse, timeout_s=3.0)
    assert slow.exists()
    until(lambda: not runtimes(rich_pods.node), "the create's end")
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have given the start up too", timeout_s=30)


@modes
def test_a_create_whose_shim_is_killed_while_the_init_is_slow_leaves_nothing(rich_pods: RichPods, mode: str) -> None:
    node = rich_pods.node
    slow = node.base / f"alone-{mode}"
    container = created(rich_pods, mode, f"{SLOW_INIT}; : >{slow}; kill -STOP $$")
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(container.start)
        until(slow.exists, "the init")
        kill_shim(node, "pouchrich")
        assert isinstance(start.exception(), CallFailed)
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)


@pytest.mark.parametrize("mode", ["dumb-init", "systemd"])
def test_an_oci_runtime_of_a_poststop_hook_that_is_killed_leaves_no_cgroup(rich_pods: RichPods, mode: str) -> None:
    more = hook("poststop", "container", "true") + hook("poststop", "host", f"touch {rich_pods.node.base}/ran-{mode}")
    container = created(rich_pods, mode, "kill -9 $!", container="-poststop-1", more=more).start()
    assert container.wait().exit_code == 0
    until(Path(rich_pods.node.base, f"ran-{mode}").exists, "the next hook")


@modes
def test_a_create_that_outlives_its_shim_leaves_no_container(rich_pods: RichPods, mode: str) -> None:
    node = rich_pods.node
    directory = node.base / f"create-{mode}"
    directory.mkdir()
    interrupt = (
        f"kill -STOP $!; : >{directory}/stopped; until [ -e {directory}/go ]; do sleep 0.05; done; kill -CONT $!"
    )
    container = created(rich_pods, mode, interrupt)
    with ThreadPoolExecutor(1) as pool:
        start = pool.submit(container.start)
        until((directory / "stopped").exists, "the create")
        kill_shim(node, "pouchrich")
        (directory / "go").touch()
        assert isinstance(start.exception(), CallFailed)
    until(lambda: not runtimes(node), "the create's end")
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)


@modes
def test_an_oci_runtime_that_is_killed_in_the_delete_after_a_dead_shim_runs_again(
    rich_pods: RichPods, mode: str
) -> None:
    node = rich_pods.node
    container = created(rich_pods, mode, "", command="sleep 1000").start()
    marks = node.base / f"delete-{mode}"
    marks.mkdir()
    replace(node, KILLED_ONCE.format(marks=marks, oci=node.oci))
    kill_shim(node, "pouchrich")
    until((marks / container.id).exists, "the delete")
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)


# runc notes a container before its init is there: then there is something left to delete.
KILLED_TWICE = """#!/bin/sh
for id; do :; done
case " $* " in
    *" create "*) {oci} "$@"; kill -9 $$ ;;
    *" delete "*) [ -e {marks}/$id ] || {{ : >{marks}/$id; kill -9 $$; }} ;;
esac
exec {oci} "$@"
"""


@modes
def test_an_oci_runtime_that_is_killed_in_the_create_and_in_the_delete_after_it_leaves_nothing(
    rich_pods: RichPods, mode: str
) -> None:
    node = rich_pods.node
    container = created(rich_pods, mode, "")
    marks = node.base / f"twice-{mode}"
    marks.mkdir()
    replace(node, KILLED_TWICE.format(marks=marks, oci=node.oci))
    assert "OCI runtime create failed" in failed_start(container)
    assert (marks / container.id).exists()


@modes
def test_a_cgroup_that_the_oci_runtime_leaves_is_removed(rich_pods: RichPods, mode: str) -> None:
    node = rich_pods.node
    container = created(rich_pods, mode, "", command="exit 3").start()
    replace(node, leaves_a_cgroup(node, mode))
    assert container.wait().exit_code == 3


@modes
def test_a_cgroup_that_the_oci_runtime_leaves_after_a_dead_shim_is_removed(rich_pods: RichPods, mode: str) -> None:
    node = rich_pods.node
    created(rich_pods, mode, "", command="sleep 1000").start()
    replace(node, leaves_a_cgroup(node, mode))
    kill_shim(node, "pouchrich")
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)


@modes
def test_a_delete_after_a_dead_shim_that_is_killed_is_done_all_the_same(rich_pods: RichPods, mode: str) -> None:
    """containerd kills one that takes more than five seconds, and never comes back; it keeps the bundle's directory."""
    node = rich_pods.node
    before = leaks.everything(node)
    ran = node.base / f"ran-after-{mode}"
    more = "" if mode == "plain" else hook("poststop", "host", f"echo $POUCHRICH_NAME >>{ran}")
    container = created(rich_pods, mode, "", command="sleep 1000", more=more).start()
    marks = node.base / f"killed-delete-{mode}"
    marks.mkdir()
    replace(node, SLOW.format(marks=marks, oci=node.oci))
    kill_shim(node, "pouchrich")
    until((marks / container.id).exists, "the delete")
    for pid in deletes(node):
        os.kill(pid, signal.SIGKILL)
    (marks / "go").touch()
    if mode != "plain":
        until(lambda: ran.exists() and ran.read_text(), "the hook")
        assert ran.read_text().split() == ["app"]
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)
    left = leaks.settled(node, before)
    assert [line for line in left if not line.startswith("bundle ")] == []
    restart(rich_pods.pods)  # which has containerd remove them


@modes
def test_a_delete_after_a_dead_shim_whose_worker_is_killed_does_it_again(rich_pods: RichPods, mode: str) -> None:
    node = rich_pods.node
    container = created(rich_pods, mode, "", command="sleep 1000").start()
    marks = node.base / f"worker-{mode}"
    marks.mkdir()
    replace(node, KILLS_WHO_DELETES.format(marks=marks, oci=node.oci))
    kill_shim(node, "pouchrich")
    until((marks / container.id).exists, "the delete")
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)


def test_a_delete_waits_for_another_one_of_the_same_container(rich_pods: RichPods) -> None:
    """A containerd that was killed meanwhile begins it again, while the first one still saves what a hook needs."""
    node = rich_pods.node
    container = created(rich_pods, "plain", "", command="sleep 1000").start()
    marks = node.base / "second-delete"
    marks.mkdir()
    (marks / "go").touch()
    replace(node, SLOW.format(marks=marks, oci=node.oci))
    bundle = os.open(node.bundle_of(container.id), os.O_RDONLY)
    fcntl.flock(bundle, fcntl.LOCK_EX)
    kill_shim(node, "pouchrich")
    until((marks / container.pod.id).exists, "the delete of the sandbox, which waits for nobody")
    time.sleep(0.5)
    assert not (marks / container.id).exists()
    os.close(bundle)
    until((marks / container.id).exists, "the delete")
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)


def test_a_dead_shim_whose_address_could_not_be_written_leaves_no_socket(rich_pods: RichPods) -> None:
    """As on a disk that was full when containerd wrote it down."""
    node = rich_pods.node
    pod = created(rich_pods, "plain", "", command="sleep 1000").start().pod
    for bundle in node.base.glob("state/io.containerd.runtime.v2.task/k8s.io/*"):
        (bundle / "address").write_text("")
    assert node.socket_of(pod.id) == Path()
    kill_shim(node, "pouchrich")
    until(lambda: not rich_pods.pods.remove_all(), "containerd to have dealt with the dead shim", timeout_s=30)


def deletes(node: Node) -> list[int]:
    """The `delete` commands that containerd waits for: its children."""
    parents = processes.parents()
    return [pid for pid in node.below() if parents.get(pid) == node.containerd_pid and _deletes(pid)]


def _deletes(pid: int) -> bool:
    return processes.command(pid).endswith(" delete")

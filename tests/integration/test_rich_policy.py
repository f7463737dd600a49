"""Who may decide what: handler, pod and image, through the CRI and through ctr."""

from collections.abc import Mapping

import pytest

from tests.integration import configuration, processes, rich_images
from tests.integration.configuration import TEST_FILE
from tests.integration.ctr import Ctr
from tests.integration.pods import SHARED_PID_NAMESPACE, Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, configure, security, variables
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_dumb_init import refused
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD, BUSYBOX = System("systemd"), System("busybox")
AGENT = '[[agents]]\nname = "watcher"\ncommand = ["/bin/true"]\nmandatory = true\n'


def init_of(container: Container) -> str:
    """What PID 1 of a container that has ended was, as its only output."""
    assert container.wait().exit_code == 0
    until(container.output, "the output")
    return container.output().decode().strip()


def pid_1(rich_pods: RichPods, handler_mode: str = "", *, image: System | str = SYSTEMD, **pod: str) -> str:
    annotations = {f"pouchrich.io/{key}": value for key, value in pod.items()}
    made = rich_pods.pod(handler_mode, annotations=annotations)
    return init_of(rich_pods.create(made, image, "cat", "/proc/1/comm").start())


# Who decides


def test_the_handlers_mode_holds_where_the_pod_says_nothing(rich_pods: RichPods) -> None:
    assert pid_1(rich_pods, "systemd") == "systemd"


@pytest.mark.parametrize(("key", "expected"), [("mode", "dumb-init"), ("mode.app", "dumb-init"), ("rich", "cat")])
def test_the_pods_annotation_comes_before_the_handlers_mode(rich_pods: RichPods, key: str, expected: str) -> None:
    assert pid_1(rich_pods, "systemd", **{key: "false" if key == "rich" else "dumb-init"}) == expected


def test_an_annotation_for_the_container_comes_before_the_pods(rich_pods: RichPods) -> None:
    assert pid_1(rich_pods, **{"mode": "dumb-init", "mode.app": "systemd"}) == "systemd"
    assert pid_1(rich_pods, **{"mode": "systemd", "mode.other": "dumb-init"}) == "systemd"


def test_a_debugging_container_boots_no_second_systemd(rich_pods: RichPods) -> None:
    """kubectl debug names its containers debugger-ABCDE, and the CRI has no other mark of them."""
    pod = rich_pods.pod("systemd", annotations={"pouchrich.io/mode": "systemd"})
    container = rich_pods.create(pod, SYSTEMD, "cat", "/proc/1/comm", name="debugger-x7k2p").start()
    assert init_of(container) == "dumb-init"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"rich_mode": "true", "rich_mode_launch_manner": "systemd"}, "systemd"),
        ({"rich_mode": "false"}, "cat"),
        ({"rich_mode_launch_manner": "sbin-init"}, "systemd"),
    ],
)
def test_pouchcontainers_variables_choose_as_they_did(
    rich_pods: RichPods, given: Mapping[str, str], expected: str
) -> None:
    container = rich_pods.create(rich_pods.pod("dumb-init"), SYSTEMD, "cat", "/proc/1/comm", config=variables(given))
    assert init_of(container.start()) == expected


def test_a_mode_that_does_not_exist_is_refused_by_name(rich_pods: RichPods) -> None:
    for given, where in (({"pouchrich.io/mode": "upstart"}, "pouchrich.io/mode"), ({}, "rich_mode_launch_manner")):
        config = variables({} if given else {"rich_mode_launch_manner": "upstart"})
        message = refused(rich_pods.create(rich_pods.pod("", annotations=given), SYSTEMD, "true", config=config))
        allowed = ("upstart", "systemd", "sbin-init", "dumb-init", "auto")
        assert all(word in message for word in (where, *allowed)), message


def test_a_mode_without_rich_is_refused(rich_pods: RichPods) -> None:
    """As PouchContainer refused a launch manner without --rich."""
    about = {"pouchrich.io/rich": "false", "pouchrich.io/mode": "systemd"}
    message = refused(rich_pods.create(rich_pods.pod("", annotations=about), SYSTEMD, "true"))
    assert all(word in message for word in ("pouchrich.io/mode", "pouchrich.io/rich", "false")), message


def test_what_the_node_does_not_let_pods_set_is_an_error(rich_pods: RichPods) -> None:
    rich = 'pod-override = ["rich"]'
    for key, value in (("mode", "systemd"), ("prestart", "[]"), ("services", "cron"), ("stop-signal", "HUP")):
        pod = rich_pods.pod("dumb-init", rich=rich, annotations={f"pouchrich.io/{key}": value})
        message = refused(rich_pods.create(pod, SYSTEMD, "true"))
        assert all(word in message for word in (f"pouchrich.io/{key}", "rich.pod-override")), message
        pod.remove()


@pytest.mark.parametrize("key", ["agents", "routes", "hooks", "runtime.binary", "Mode", "mode "])
def test_an_unknown_key_is_an_error_and_no_way_to_the_nodes_own(rich_pods: RichPods, key: str) -> None:
    pod = rich_pods.pod("dumb-init", annotations={f"pouchrich.io/{key}": "x"})
    assert f"pouchrich.io/{key.strip()}" in refused(rich_pods.create(pod, SYSTEMD, "true"))


# Modes that the image cannot serve


def test_a_mode_asked_for_the_container_that_its_image_lacks_is_refused_with_what_would_work(
    rich_pods: RichPods,
) -> None:
    pod = rich_pods.pod("", annotations={"pouchrich.io/mode.app": "systemd"})
    message = refused(rich_pods.create(pod, BUSYBOX, "true"))
    assert all(word in message for word in ("mode.app", "/lib/systemd/systemd", "sbin-init", "dumb-init")), message


def test_asked_for_the_pod_or_by_the_handler_it_is_dumb_init_instead(rich_pods: RichPods) -> None:
    assert pid_1(rich_pods, "systemd", image=BUSYBOX) == "dumb-init"
    assert pid_1(rich_pods, image=BUSYBOX, mode="systemd") == "dumb-init"


def test_unless_the_node_is_strict(rich_pods: RichPods) -> None:
    message = refused(rich_pods.create(rich_pods.pod("systemd", rich="strict = true"), BUSYBOX, "true"))
    assert "/lib/systemd/systemd" in message, message


def test_a_shared_pid_namespace_has_no_pid_1_to_give(rich_pods: RichPods) -> None:
    about = {"pouchrich.io/mode.app": "systemd"}
    pod = rich_pods.pod("", annotations=about, namespaces=SHARED_PID_NAMESPACE)
    message = refused(rich_pods.create(pod, SYSTEMD, "true"))
    assert "pid namespace" in message, message
    configure(rich_pods.node, 'mode = "systemd"')
    plain = rich_pods.create(pod, SYSTEMD, "sleep", "300", name="other").start()
    until(lambda: processes.command(plain.pid()) == "sleep 300", "the command's exec")


def test_a_mandatory_agent_makes_rich_false_by_the_pod_an_error(rich_pods: RichPods) -> None:
    pod = rich_pods.pod("systemd", more=AGENT, annotations={"pouchrich.io/rich": "false"})
    message = refused(rich_pods.create(pod, SYSTEMD, "true"))
    assert all(word in message for word in ("pouchrich.io/rich", "watcher", "mandatory")), message


def test_root_init_in_a_pod_of_another_user_is_the_nodes_to_allow(rich_pods: RichPods) -> None:
    about = {"pouchrich.io/mode": "systemd"}
    command = ("sh", "-c", "cat /proc/1/comm; id -u")
    for rule, allowed in (("allow", True), ("refuse", False)):
        pod = rich_pods.pod("", rich=f'root-init = "{rule}"', annotations=about)
        container = rich_pods.create(pod, SYSTEMD, *command, config=security(uid=1000))
        if allowed:
            assert init_of(container.start()) == "systemd\n1000"
        else:
            assert "rich.root-init" in refused(container)


def test_an_image_whose_command_is_an_init_chooses_as_its_pod_may(rich_pods: RichPods) -> None:
    """Where pods may not choose a mode it stays plain, as its author would have it without us."""
    pod = rich_pods.pod("dumb-init", rich='pod-override = ["rich"]')
    container = rich_pods.create(pod, SYSTEMD, "/sbin/init").start()
    mounts = container.info()["runtimeSpec"]["mounts"]
    assert "/run/pouchrich" not in [one["destination"] for one in mounts]


def test_a_configuration_that_breaks_later_stops_no_teardown_and_no_sandbox(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", f"trap 'exit 42' TERM; {FOREVER}"))
    rich_pods.node.write_files({TEST_FILE: "version = = 1\n"})
    container.stop(grace_s=20)
    assert container.status().exit_code == 42
    container.remove()
    pod = rich_pods.pods.run(handler="pouchrich-test")
    assert TEST_FILE in refused(rich_pods.create(pod, SYSTEMD, "true"))


# The same with ctr, where a container stands alone


def rich_ctr(
    ctr: Ctr, system: System, *command: str, mode: str = "", flags: tuple[str, ...] = (), more: str = ""
) -> str:
    """Start a detached container of the image and return its id."""
    image = rich_images.import_system(ctr.node, system, namespace="default")
    configure(ctr.node, f'mode = "{mode}"' if mode else "", more)
    container = ctr.new_id()
    runtime = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", configuration.TEST_FILE)
    place = ("--snapshotter", ctr.node.settings.snapshotter, "--cgroup", f"{ctr.node.cgroup}/{container}")
    result = ctr.call("run", "--detach", *runtime, *place, *flags, image, container, *command)
    if result.code:
        ctr.call("containers", "rm", container)
        raise AssertionError(result.stderr)
    return container


@everywhere
@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_ctr_runs_stops_and_tells_the_exit_code(ctr: Ctr, mode: str) -> None:
    container = rich_ctr(ctr, SYSTEMD, "sh", "-c", f"trap 'exit 42' TERM; {FOREVER}", mode=mode)
    assert ctr.look(container, "cat", "/proc/1/comm").decode().strip() == mode
    assert len(ctr.pids(container)) >= 2
    ctr.check("tasks", "pause", container)
    assert ctr.status(container) == "PAUSED"
    ctr.check("tasks", "resume", container)
    until(lambda: ctr.exec(container, "sh", "-c", "grep -q sleep /proc/[0-9]*/comm").code == 0, "the loop")
    assert ctr.kill(container, "SIGTERM").code == 0
    ctr.wait_stopped(container)
    assert ctr.delete(container) == 42


@pytest.mark.parametrize("system", [System("sysvinit"), BUSYBOX], ids=["sysvinit", "busybox"])
def test_ctr_runs_the_images_own_init(ctr: Ctr, system: System) -> None:
    flags = ("--annotation", "pouchrich.io/mode=sbin-init")
    container = rich_ctr(ctr, system, "sh", "-c", f"trap 'exit 42' TERM; {FOREVER}", flags=flags)
    assert ctr.look(container, "cat", "/proc/1/comm") == b"init\n"
    until(lambda: ctr.exec(container, "sh", "-c", "grep -q sleep /proc/[0-9]*/comm").code == 0, "the loop")
    assert ctr.kill(container, "SIGTERM").code == 0
    ctr.wait_stopped(container)
    assert ctr.delete(container) == 42


def test_outside_a_pod_a_mode_that_the_image_lacks_is_refused(ctr: Ctr) -> None:
    with pytest.raises(AssertionError, match="/lib/systemd/systemd"):
        rich_ctr(ctr, BUSYBOX, "true", flags=("--annotation", "pouchrich.io/mode=systemd"))


def test_the_kill_of_a_container_that_ctr_has_only_created(ctr: Ctr) -> None:
    image = rich_images.import_system(ctr.node, SYSTEMD, namespace="default")
    configure(ctr.node, 'mode = "systemd"')
    container = ctr.new_id()
    runtime = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", configuration.TEST_FILE)
    place = ("--snapshotter", ctr.node.settings.snapshotter)
    ctr.check("containers", "create", *runtime, *place, image, container, "sleep", "300")
    ctr.check("tasks", "start", "--detach", container)
    assert ctr.kill(container, "SIGKILL").code == 0
    ctr.wait_stopped(container)
    assert ctr.delete(container) == 137


def test_a_checkpoint_of_a_real_init_is_not_supported(ctr: Ctr) -> None:
    container = rich_ctr(ctr, SYSTEMD, "sleep", "300", mode="systemd")
    result = ctr.call("tasks", "checkpoint", "--image-path", str(ctr.node.base / "image"), container)
    assert result.code != 0
    assert "checkpoint of a container whose PID 1 is a real init" in result.stderr
    assert "dumb-init" in result.stderr
    assert "no criu program" not in result.stderr
    ctr.kill(container, "SIGKILL")
    ctr.wait_stopped(container)
    ctr.delete(container)

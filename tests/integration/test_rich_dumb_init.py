"""Rich containers in mode dumb-init, through the CRI."""

import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import images, processes
from tests.integration.pods import SHARED_PID_NAMESPACE, Container, Pod, Pods
from tests.integration.test_ctr_lifecycle import says_no_such_file
from tests.integration.waiting import until

pytestmark = pytest.mark.only(runtime="pouchrich")

ORPHAN = "(sleep 0.2 &); exec sleep 300"


@pytest.fixture
def rich(pods: Pods) -> Pod:
    """A pod whose handler makes its containers rich."""
    return pods.run(handler="pouchrich-rich")


def init_of(container: Container) -> str:
    """The name of the container's PID 1."""
    return container.shell("cat /proc/1/comm").strip()


@pytest.mark.smoke
def test_pid_1_is_dumb_init_and_the_command_is_its_child(rich: Pod) -> None:
    container = rich.run("sh", "-c", "echo $PPID; exec sleep 300")
    assert init_of(container) == "dumb-init"
    container.wait_output(b"1\n")
    (command,) = processes.descendants(container.pid())
    until(lambda: processes.command(command) == "sleep 300", "the command's exec")


@pytest.mark.smoke
def test_an_orphan_is_reaped(rich: Pod) -> None:
    container = rich.run("sh", "-c", ORPHAN)
    until(lambda: len(processes.descendants(container.pid())) == 2, "the orphan to run")
    until(lambda: len(processes.descendants(container.pid())) == 1, "the orphan to be reaped", timeout_s=5)


def test_an_image_of_one_static_program_is_enough(rich: Pod) -> None:
    """Nothing in it is needed but the program: no shell, no libc, no passwd."""
    config = pb.ContainerConfig(image=pb.ImageSpec(image=images.PAUSE))
    container = rich.run("/pause", config=config)
    init = container.pid()
    until(lambda: [processes.command(pid) for pid in processes.descendants(init)] == ["/pause"], "the program")
    assert processes.command(init).split()[0] == "/run/pouchrich/dumb-init"
    until(lambda: all(processes.catches(pid, signal.SIGTERM) for pid in processes.descendants(init)), "its handler")
    container.stop(5)
    assert container.wait().exit_code == 0


def test_without_an_init_the_orphan_stays_a_zombie(pods: Pods) -> None:
    """What the test above would look like in a plain container."""
    container = pods.run().run("sh", "-c", ORPHAN)
    init = container.pid()
    until(lambda: [processes.state(pid) for pid in processes.descendants(init)] == ["Z"], "the zombie")


@pytest.mark.smoke
@pytest.mark.parametrize("code", [0, 3, 137, 255])
def test_the_exit_code_is_the_commands(rich: Pod, code: int) -> None:
    assert rich.run("sh", "-c", f"exit {code}").wait().exit_code == code


@pytest.mark.smoke
def test_sigterm_reaches_the_command(rich: Pod) -> None:
    container = rich.run("sh", "-c", "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.1; done")
    until(lambda: container.output() == b"ready\n", "the trap to be set")
    container.stop(grace_s=10)
    assert container.status().exit_code == 7
    container.wait_output(b"ready\ngot it\n")


def test_a_command_without_a_handler_dies_of_sigterm(rich: Pod) -> None:
    """As PID 1 it would have ignored the signal."""
    container = rich.run("sleep", "300")
    # A PID 1 that has no handler yet gets no signal at all (pid_namespaces(7)), dumb-init no more than another.
    init = container.pid()
    until(lambda: [processes.command(pid) for pid in processes.descendants(init)] == ["sleep 300"], "the command")
    container.stop(grace_s=20)
    assert container.status().exit_code == 143


@pytest.mark.parametrize(("group", "said"), [("", b"ready\nworker is done\n"), ("1", b"ready\nworker is stopped\n")])
def test_a_signal_reaches_the_command_and_its_workers_only_where_the_pod_says_so(
    rich: Pod, group: str, said: bytes
) -> None:
    """As under runc: a master that lets its workers finish is told alone."""
    worker = "(trap 'echo worker is stopped; exit' TERM; until [ -e /tmp/go ]; do sleep 0.1; done; echo worker is done)"
    master = f"{worker} & trap 'sleep 0.3; touch /tmp/go; wait; exit 5' TERM; echo ready; while :; do sleep 0.1; done"
    config = pb.ContainerConfig(envs=[pb.KeyValue(key="DUMB_INIT_SETSID", value=group)] if group else [])
    container = rich.run("sh", "-c", master, config=config)
    container.wait_output(b"ready\n")
    # A shell has its children inherit no trap: the worker sets its own.
    until(lambda: sum(processes.catches(pid, signal.SIGTERM) for pid in workers(container)) == 2, "both to have a trap")
    container.stop(20)
    assert container.status().exit_code == 5
    container.wait_output(said)


def workers(container: Container) -> list[int]:
    """The host pids of what runs below its PID 1."""
    return processes.descendants(container.pid())


def test_a_command_killed_by_a_signal_gives_128_plus_its_number(rich: Pod) -> None:
    assert rich.run("sh", "-c", "kill -KILL $$").wait().exit_code == 137


def test_the_environment_says_that_the_container_is_rich(rich: Pod) -> None:
    container = rich.run("sh", "-c", "echo $rich_mode $rich_mode_launch_manner; sleep 300")
    container.wait_output(b"true dumb-init\n")


def test_the_terminal_is_the_commands(rich: Pod) -> None:
    container = rich.run("sh", config=pb.ContainerConfig(stdin=True, tty=True))
    with container.attach(tty=True) as stream:
        stream.resize(111, 22)
        stream.write(b"until [ \"$(stty size)\" = '22 111' ]; do sleep 0.05; done; echo size-$(stty size)\n")
        stream.read_until(b"size-22 111")
        stream.write(b"sh -c 'echo begin-$((1+1)); exec sleep 300'\n")
        stream.read_until(b"begin-2")
        stream.write(b"\x03")
        stream.read_until(b"^C")  # the interrupt discards what was typed before it
        stream.write(
            b"cat /proc/1/comm; read -r pid _ _ _ _ session _ </proc/$$/stat; echo leads-$((pid == session))\n"
        )
        stream.write(b"exit 6\n")
        output = stream.read_all()
    assert b"dumb-init" in output
    assert b"leads-1" in output
    assert container.wait().exit_code == 6


def test_stdin_and_output_are_the_commands(rich: Pod) -> None:
    container = rich.run("sh", "-c", "cat; echo err >&2", config=pb.ContainerConfig(stdin=True, stdin_once=True))
    with container.attach() as stream:
        stream.write(b"text\n")
        stream.read_until(b"text\n")
    assert container.wait().exit_code == 0
    container.wait_output(b"text\n")
    container.wait_output(b"err\n", "stderr")


def test_the_command_runs_as_its_user(rich: Pod) -> None:
    security = pb.LinuxContainerSecurityContext(run_as_user=pb.Int64Value(value=1000))
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(security_context=security))
    container = rich.run("sh", "-c", "id -u > /dev/stdout", config=config)
    assert container.wait().exit_code == 0
    container.wait_output(b"1000\n")


def test_the_sandbox_is_never_rich(rich: Pod) -> None:
    until(lambda: processes.command(rich.pid()) == "/pause", "the sandbox to be plain")


def test_in_a_shared_pid_namespace_the_container_stays_plain(pods: Pods) -> None:
    container = pods.run(handler="pouchrich-rich", namespaces=SHARED_PID_NAMESPACE).run("sleep", "300")
    until(lambda: processes.command(container.pid()) == "sleep 300", "the command's exec")
    assert init_of(container) == "pause"


@pytest.mark.parametrize("key", ["pouchrich.io/rich", "pouchrich.io/rich.app"])
def test_an_annotation_turns_it_off(pods: Pods, key: str) -> None:
    container = pods.run(handler="pouchrich-rich", annotations={key: "false"}).run("sleep", "300")
    assert init_of(container) == "sleep"


def test_an_annotation_for_another_container_does_not(pods: Pods) -> None:
    pod = pods.run(handler="pouchrich-rich", annotations={"pouchrich.io/rich.other": "false"})
    assert init_of(pod.run("sleep", "300")) == "dumb-init"


@pytest.mark.parametrize(
    ("annotations", "words"),
    [
        ({"pouchrich.io/mode": "upstart"}, ["pouchrich.io/mode", "upstart", "dumb-init", "systemd"]),
        ({"pouchrich.io/mode.app": "upstart"}, ["pouchrich.io/mode.app", "upstart", "dumb-init"]),
        ({"pouchrich.io/rich": "perhaps"}, ["pouchrich.io/rich", "perhaps", "true", "false"]),
        ({"pouchrich.io/colour": "red"}, ["pouchrich.io/colour"]),
    ],
)
def test_a_bad_annotation_fails_the_start_and_is_named(
    pods: Pods, annotations: Mapping[str, str], words: list[str]
) -> None:
    container = pods.run(handler="pouchrich-rich", annotations=annotations).create("sleep", "300")
    message = refused(container)
    assert all(word in message for word in words), message


def refused(container: Container) -> str:
    """The message with which the container's start fails. It is an invalid argument."""
    with pytest.raises(CallFailed) as failure:
        container.start()
    assert "invalid argument" in failure.value.message or failure.value.code == "INVALID_ARGUMENT"
    return failure.value.message


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        ("pouchrich-wrong-type", ["/etc/pouchrich/wrong-type.toml", "rich.enabled", "perhaps", "true", "false"]),
        ("pouchrich-unknown-key", ["/etc/pouchrich/unknown-key.toml", "rich.mood"]),
        ("pouchrich-not-toml", ["/etc/pouchrich/not.toml", "line 1"]),
        ("pouchrich-missing", ["/etc/pouchrich/missing.toml"]),
    ],
)
def test_a_bad_configuration_fails_a_container_but_no_sandbox(pods: Pods, handler: str, words: list[str]) -> None:
    pod = pods.run(handler=handler)
    message = refused(pod.create("sleep", "300"))
    assert all(word in message for word in words), message


@pytest.mark.only(containerd=("1.7", "2.1"))
def test_a_handlers_inline_options_are_its_configuration(pods: Pods) -> None:
    assert init_of(pods.run(handler="pouchrich-inline").run("sleep", "300")) == "sleep"


@pytest.mark.only(containerd="1.6")
def test_inline_options_that_containerd_1_6_emptied_are_refused(pods: Pods) -> None:
    message = refused(pods.run(handler="pouchrich-inline").create("sleep", "300"))
    assert "ConfigPath" in message, message


def test_a_missing_command_fails_the_start(rich: Pod) -> None:
    with pytest.raises(CallFailed) as failure:
        rich.create("/no/such/binary").start()
    assert says_no_such_file(failure.value.message), failure.value.message


def test_a_command_that_cannot_be_executed_fails_the_start(rich: Pod) -> None:
    with pytest.raises(CallFailed) as failure:
        rich.create("/etc/passwd").start()
    assert "permission denied" in failure.value.message.lower()


@pytest.mark.parametrize(
    ("command", "error"),
    [("/scripts/plain", "permission denied"), ("/scripts/none", "no such file"), ("/scripts/run", "")],
)
def test_so_does_one_on_a_volume(rich: Pod, tmp_path: Path, command: str, error: str) -> None:
    """As a ConfigMap's script with its usual mode, 0644: dumb-init would end with 2."""
    for name, mode in (("plain", 0o644), ("run", 0o755)):
        (tmp_path / name).write_text("#!/bin/sh\nexec sleep 300\n")
        (tmp_path / name).chmod(mode)
    volume = pb.ContainerConfig(mounts=[pb.Mount(container_path="/scripts", host_path=str(tmp_path))])
    container = rich.create(command, config=volume)
    if not error:
        container.start()
        return
    with pytest.raises(CallFailed) as failure:
        container.start()
    assert error in failure.value.message.lower()
    assert container.status().exit_code == 128

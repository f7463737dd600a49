"""The application under a real init is, seen from Kubernetes, the container: for every init, through the CRI."""

import functools
import hashlib
import os
import signal

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import processes, rich_images
from tests.integration.images import Entry
from tests.integration.pods import EXITED, RUNNING, Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, mode_of, security, variables
from tests.integration.test_cri_containers import limited
from tests.integration.waiting import until

in_one_place = pytest.mark.usually("2.1-crun-pouchrich")
everywhere = pytest.mark.usually("1.6-runc-pouchrich", "2.1-crun-pouchrich")
pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
USUAL = [pytest.param(SYSTEMD, id="systemd"), pytest.param(System("sysvinit"), id="sysvinit")]
RARE = [
    pytest.param(System("openrc"), id="openrc", marks=pytest.mark.full),
    *(
        pytest.param(System("systemd", suite), id=f"systemd-{suite}", marks=pytest.mark.full)
        for suite in ("bullseye", "trixie")
    ),
]
# busybox's init takes 3 s to end, whatever one does.
each_init = pytest.mark.parametrize(
    "system", [*USUAL, pytest.param(System("busybox"), id="busybox", marks=pytest.mark.full), *RARE]
)
busybox_too = pytest.mark.parametrize("system", [*USUAL, pytest.param(System("busybox"), id="busybox"), *RARE])

FOREVER = "echo ready; while :; do sleep 0.1; done"
PROCESS = """
grep -E '^(Uid|Gid|Groups|Cap|NoNewPrivs|Seccomp|SigBlk|SigCgt|ShdPnd)' /proc/self/status
cat /proc/self/limits /proc/self/oom_score_adj
umask; pwd
"""


def running(container: Container) -> Container:
    """The container, once its application has said that it is ready."""
    until(lambda: container.output().startswith(b"ready\n"), "the application to be ready", timeout_s=20)
    return container


@everywhere
@busybox_too
def test_pid_1_is_the_init_and_the_command_its_child(rich_pods: RichPods, system: System) -> None:
    container = running(rich_pods.run(system, "sh", "-c", "echo ready; echo $PPID; exec sleep 300"))
    assert container.shell("cat /proc/1/comm") == ("systemd\n" if system.kind == "systemd" else "init\n")
    container.wait_output(b"ready\n1\n")
    init = container.pid()
    until(lambda: "sleep 300" in map(processes.command, processes.descendants(init)), "the command's exec")
    (command,) = [pid for pid in processes.descendants(init) if processes.command(pid) == "sleep 300"]
    assert processes.parents()[command] == init


@each_init
@pytest.mark.parametrize(
    ("script", "code"), [("exit 0", 0), ("exit 7", 7), ("kill -KILL $$", 137), ("kill -TERM $$", 143)]
)
def test_the_exit_code_is_the_commands(rich_pods: RichPods, system: System, script: str, code: int) -> None:
    status = rich_pods.run(system, "sh", "-c", script).wait()
    assert (status.exit_code, status.reason) == (code, "Completed" if code == 0 else "Error")


@everywhere
@busybox_too
def test_stop_reaches_the_command_first_and_its_answer_is_the_exit_code(rich_pods: RichPods, system: System) -> None:
    container = running(rich_pods.run(system, "sh", "-c", f"trap 'echo got it; exit 42' TERM; {FOREVER}"))
    container.stop(grace_s=30)
    assert container.status().exit_code == 42
    container.wait_output(b"ready\ngot it\n")


@each_init
def test_a_command_without_a_handler_dies_of_sigterm(rich_pods: RichPods, system: System) -> None:
    container = rich_pods.run(system, "sleep", "300")
    container.stop(grace_s=30)
    assert container.status().exit_code == 143


def test_a_command_that_ignores_sigterm_is_killed_after_the_grace_period(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", f"trap '' TERM; {FOREVER}"))
    container.stop(grace_s=1)
    assert container.status().exit_code == 137


def test_a_second_sigterm_reaches_the_command_too(rich_pods: RichPods) -> None:
    script = f"n=0; trap 'n=$((n+1)); echo TERM $n; [ $n -lt 2 ] || exit 5' TERM; {FOREVER}"
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", script))
    kill = ("-n", "k8s.io", "tasks", "kill", "--signal", "TERM", container.id)
    rich_pods.node.ctr(*kill)
    until(lambda: b"TERM 1" in container.output(), "the first to arrive")
    rich_pods.node.ctr(*kill)
    assert container.wait().exit_code == 5
    container.wait_output(b"ready\nTERM 1\nTERM 2\n")


@pytest.mark.parametrize("word", ["SIGUSR1", "rtmin+3", "QUIT"])
def test_a_stop_signal_of_the_pods_replaces_sigterm(rich_pods: RichPods, word: str) -> None:
    script = f"trap 'exit 10' USR1; trap 'exit 11' RTMIN+3; trap 'exit 12' QUIT; trap 'exit 13' TERM; {FOREVER}"
    expected = {"SIGUSR1": 10, "rtmin+3": 11, "QUIT": 12}[word]
    container = running(
        rich_pods.run(SYSTEMD, "bash", "-c", script, annotations={"pouchrich.io/stop-signal.app": word})
    )
    container.stop(grace_s=20)
    assert container.status().exit_code == expected


def _sum(container: Container, path: str) -> str:
    return container.shell(f"sha256sum {path}").split()[0]


@each_init
@pytest.mark.parametrize("megabytes", [10, pytest.param(50, marks=pytest.mark.full)])
def test_output_and_errors_arrive_byte_by_byte(rich_pods: RichPods, system: System, megabytes: int) -> None:
    """In lines of 1,000 characters, and in lines longer than CRI's log keeps in one piece."""
    source = f"head -c {megabytes * 3 << 18} /dev/urandom"
    make = f"{source} | base64 -w 1000 >/tmp/out; {source} | base64 -w 50000 >/tmp/err"
    script = (
        f"{make}; cat /tmp/out & cat /tmp/err >&2; wait; echo end; until [ -e /tmp/go ]; do sleep 0.1; done; exit 3"
    )
    container = rich_pods.run(system, "sh", "-c", script)
    until(lambda: container.output().endswith(b"\nend\n"), "the end of the output", timeout_s=60, every_s=0.5)
    sums = [_sum(container, path) for path in ("/tmp/out", "/tmp/err")]
    container.shell("touch /tmp/go")
    assert container.wait().exit_code == 3
    written = [container.output().removesuffix(b"end\n"), container.output("stderr")]
    assert [len(one) >= megabytes << 20 for one in written] == [True, True]
    assert [hashlib.sha256(one).hexdigest() for one in written] == sums


def _has_its_directory(container: Container) -> bool:
    return b"/tmp\n" in container.output()


@each_init
def test_the_commands_process_is_what_it_would_be_in_a_plain_container(rich_pods: RichPods, system: System) -> None:
    """User, groups, capabilities, limits, mask, directory: all that a process is given."""
    config = security(uid=1000, drop=["NET_RAW"], no_new_privs=True)
    config.linux.security_context.run_as_group.value = 1001
    config.linux.security_context.supplemental_groups.extend([7, 4242])
    config.linux.resources.oom_score_adj = 900
    config.working_dir = "/tmp"
    outputs = []
    for mode in ("", mode_of(system)):
        pod = rich_pods.pod(mode, rich="" if mode else "enabled = false")
        container = rich_pods.create(pod, system, "sh", "-c", PROCESS, config=config).start()
        assert container.wait().exit_code == 0
        until(functools.partial(_has_its_directory, container), "the output")
        outputs.append(container.output().decode())
    assert outputs[1] == outputs[0]


CHANGES_USER = """
exec setpriv --reuid 999 --clear-groups sh -c 'trap "echo stopped; exit 42" TERM; echo up; while :; do sleep 0.1; done'
"""


@pytest.mark.parametrize("mode", ["", "dumb-init"])
def test_an_application_that_changed_its_user_is_stopped_as_without_an_init(rich_pods: RichPods, mode: str) -> None:
    """Without CAP_KILL, which many pods drop, dumb-init may not signal it (kill(2))."""
    pod = rich_pods.pod(mode, rich="" if mode else "enabled = false")
    config = security(drop=["ALL"], add=["SETUID", "SETGID"])
    container = rich_pods.create(pod, SYSTEMD, "sh", "-c", CHANGES_USER, config=config).start()
    container.wait_output(b"up\n")
    container.stop(20)
    assert (container.wait().exit_code, container.output()) == (42, b"up\nstopped\n")


@each_init
def test_the_commands_environment_is_the_pods(rich_pods: RichPods, system: System) -> None:
    given = {"dotted.name-1": "a=b", "PLAIN": "two\nlines", "QUOTED": "'\"$HOME`x`\\", "EMPTY": ""}
    container = rich_pods.run(system, "env", config=variables(given))
    assert container.wait().exit_code == 0
    until(lambda: b"rich_mode=" in container.output(), "the output")
    lines = container.output().decode()
    assert all(f"\n{name}={value}\n" in f"\n{lines}" for name, value in given.items()), lines
    assert f"rich_mode_launch_manner={mode_of(system)}\n" in lines
    assert "container=pouch" not in lines


@each_init
def test_a_login_shell_has_the_pods_environment_to_the_letter(rich_pods: RichPods, system: System) -> None:
    """And no name that a shell does not take."""
    given = {"EQUALS": "a=b=", "QUOTES": "'\"`", "DOLLARS": "$HOME ${x} $(id)", "LINES": "one\ntwo\n", "BACK": "\\n\\"}
    config = variables({**given, "dotted.name": "x", "PPID": "1"})
    # busybox's image has no /etc/profile that reads the directory.
    shell = ("-c", ". /etc/profile.d/pouchenv.sh; env -0") if system.kind == "busybox" else ("-lc", "env -0")
    for mode in dict.fromkeys((mode_of(system), "dumb-init")):
        container = rich_pods.create(rich_pods.pod(mode), system, "sh", "-c", FOREVER, config=config)
        answer = running(container.start()).exec("env", "-i", "PATH=/usr/bin:/bin", "sh", *shell)
        assert answer.stderr == b""
        found = dict(one.split("=", 1) for one in answer.stdout.decode().split("\0") if one)
        assert {name: found.get(name) for name in given} == given
        assert "dotted.name" not in found


@everywhere
@each_init
def test_another_user_may_open_its_output_again(rich_pods: RichPods, system: System) -> None:
    container = rich_pods.run(
        system, "sh", "-c", "id -u >/dev/stdout; echo err >/dev/stderr", config=security(uid=1000)
    )
    assert container.wait().exit_code == 0
    container.wait_output(b"1000\n")
    container.wait_output(b"err\n", "stderr")


@everywhere
@each_init
def test_the_terminal_is_the_commands(rich_pods: RichPods, system: System) -> None:
    container = rich_pods.run(system, "sh", config=pb.ContainerConfig(stdin=True, tty=True))
    with container.attach(tty=True) as stream:
        stream.resize(111, 22)
        stream.write(b"until [ \"$(stty size)\" = '22 111' ]; do sleep 0.05; done; echo size-$(stty size)\n")
        stream.read_until(b"size-22 111")
        stream.write(b"echo controlling-$((1+1)) >/dev/tty\n")
        stream.read_until(b"controlling-2")
        stream.write(b"sh -c 'echo begin-$((1+1)); exec sleep 300'\n")
        stream.read_until(b"begin-2")
        stream.write(b"\x03")
        stream.read_until(b"^C")
        stream.write(b"echo parent-$PPID; exit 6\n")
        output = stream.read_all()
    assert b"parent-1\r\n" in output
    assert container.wait().exit_code == 6


@each_init
def test_stdin_reaches_the_command(rich_pods: RichPods, system: System) -> None:
    config = pb.ContainerConfig(stdin=True, stdin_once=True)
    container = rich_pods.run(system, "sh", "-c", "cat; echo end", config=config)
    with container.attach() as stream:
        stream.write(b"text\n")
        stream.read_until(b"text\n")
    assert container.wait().exit_code == 0
    container.wait_output(b"text\nend\n")


@each_init
def test_a_thousand_orphans_are_reaped(rich_pods: RichPods, system: System) -> None:
    """Each is forked twice, so that init inherits it, and ends at once."""
    script = "i=0; while [ $i -lt 1000 ]; do (true & true &); i=$((i+1)); done; echo ready; exec sleep 300"
    container = running(rich_pods.run(system, "sh", "-c", script))
    until(
        lambda: "Z" not in {processes.state(pid) for pid in processes.descendants(container.pid())},
        "no zombie to be there",
    )


@each_init
def test_a_container_stops_and_another_starts_in_its_place(rich_pods: RichPods, system: System) -> None:
    pod = rich_pods.pod(mode_of(system))
    for _ in range(2):
        container = running(rich_pods.create(pod, system, "sh", "-c", f"trap 'exit 0' TERM; {FOREVER}").start())
        container.stop(grace_s=20)
        assert container.status().exit_code == 0
        container.remove()


@each_init
def test_a_paused_container_stands_still_and_goes_on(rich_pods: RichPods, system: System) -> None:
    container = running(rich_pods.run(system, "sh", "-c", FOREVER))
    tasks = ("-n", "k8s.io", "tasks")
    rich_pods.node.ctr(*tasks, "pause", container.id)
    assert "PAUSED" in rich_pods.node.ctr(*tasks, "ls")
    rich_pods.node.ctr(*tasks, "resume", container.id)
    assert container.shell("echo goes on") == "goes on\n"
    container.stop(grace_s=20)
    assert container.status().exit_code == 143


@each_init
def test_exec_stats_and_attach_work(rich_pods: RichPods, system: System) -> None:
    container = running(rich_pods.run(system, "sh", "-c", "echo ready; while :; do echo tick; sleep 0.1; done"))
    answer = container.exec("sh", "-c", "echo out; echo err >&2; exit 3")
    assert (answer.stdout, answer.stderr, answer.exit_code) == (b"out\n", b"err\n", 3)
    assert container.stats().memory.working_set_bytes.value > 0
    with container.attach(stdin=False) as stream:
        stream.read_until(b"tick\n")
    assert container.status().state == RUNNING


@everywhere
@each_init
def test_an_application_that_the_kernel_takes_for_its_memory_is_reported_as_oom_killed(
    rich_pods: RichPods, system: System
) -> None:
    grow = 'BEGIN { x = "0123456789abcdef"; while (1) x = x x }'
    status = rich_pods.run(system, "awk", grow, config=limited(160 << 20)).wait()
    assert (status.exit_code, status.reason) == (137, "OOMKilled")


@each_init
def test_pid_1_killed_from_outside_ends_the_container(rich_pods: RichPods, system: System) -> None:
    container = running(rich_pods.run(system, "sh", "-c", FOREVER))
    os.kill(container.pid(), signal.SIGKILL)
    status = container.wait(timeout_s=10)
    assert (status.state, status.exit_code) == (EXITED, 137)


TRAPS = 'for n in $(seq 64); do [ $n = 17 ] || trap "%s $n" $n 2>/dev/null; done; '
"""Not for CHLD: each command that ends would set it off."""


@pytest.mark.parametrize(
    ("mode", "word", "code"),
    [
        ("systemd", "SIGRTMIN+3", 15),  # systemd's halt: the application is stopped as ever, and then systemd
        ("systemd", "SIGRTMIN+5", 39),
        ("sbin-init", "SIGRTMIN+3", 37),
        ("dumb-init", "SIGRTMIN+3", 37),
        ("dumb-init", "10", 10),
    ],
)
def test_the_stop_signal_of_the_image_reaches_the_application_or_means_its_inits_shutdown(
    rich_pods: RichPods, mode: str, word: str, code: int
) -> None:
    system = System("sysvinit") if mode == "sbin-init" else SYSTEMD
    name = f"stops-{system}-{word.lower().replace('+', '-')}"
    image = rich_images.import_variant(rich_pods.node, system, name, [Entry("etc/stops", b"x")], StopSignal=word)
    pod = rich_pods.pod(mode, rich='stop-timeout = "25s"')
    container = running(rich_pods.create(pod, image, "bash", "-c", f"{TRAPS % 'exit'}{FOREVER}").start())
    container.stop(grace_s=20)
    assert container.status().exit_code == code


@pytest.mark.full
@pytest.mark.timeout(300)
@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_every_signal_that_a_client_can_send_reaches_the_application(rich_pods: RichPods, mode: str) -> None:
    pod = rich_pods.pod(mode)
    container = running(rich_pods.create(pod, SYSTEMD, "bash", "-c", f"{TRAPS % 'echo got'}{FOREVER}").start())
    # KILL and STOP have no handlers, CHLD is left out, and 32 and 33 are glibc's own.
    numbers = [one for one in range(1, 65) if one not in (9, 17, 19, 32, 33)]
    for number in numbers:
        rich_pods.node.ctr("-n", "k8s.io", "tasks", "kill", "--signal", str(number), container.id)
        shutdown = mode == "systemd" and number in (37, 38, 47, 48)
        said = f"got {15 if shutdown else number}\n".encode()
        until(lambda said=said: container.output().endswith(said), f"signal {number}")  # type: ignore[misc]

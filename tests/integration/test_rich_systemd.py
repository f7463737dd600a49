"""What mode systemd has beyond the application's life: services, agents, privilege, boots that fail."""

import os
import signal
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import processes, rich_images
from tests.integration.images import Entry
from tests.integration.pods import EXITED, Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, security, variables
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_dumb_init import refused
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
DEFAULT_CAPABILITIES = (
    *("CHOWN", "DAC_OVERRIDE", "FSETID", "FOWNER", "MKNOD", "NET_RAW", "SETGID", "SETUID", "SETFCAP", "SETPCAP"),
    *("NET_BIND_SERVICE", "SYS_CHROOT", "KILL", "AUDIT_WRITE"),
)
INIT_CAPABILITIES = f"init-capabilities = {[f'CAP_{name}' for name in DEFAULT_CAPABILITIES]}"

WANTED = "[Unit]\nWants={unit}\n"
ONE_SHOT = "[Unit]\nDefaultDependencies=no\n{more}\n[Service]\nType=oneshot\nRemainAfterExit=yes\nExecStart={command}\n"


def words_of(container: Container) -> list[list[str]]:
    """The command lines of everything in the container, as words."""
    return [processes.command(pid).split() or [""] for pid in processes.descendants(container.pid())]


def failed_start(container: Container) -> str:
    """The message with which the container's start fails."""
    with pytest.raises(CallFailed) as failure:
        container.start()
    return failure.value.message


@everywhere
def test_the_system_is_up_with_its_services_beside_the_application(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", f"echo ready; logger -t legacy said; {FOREVER}"))
    until(lambda: container.exec("systemctl", "is-system-running").stdout == b"running\n", "the system to be up")
    assert container.exec("systemctl", "is-active", "cron", "rsyslog").stdout == b"active\nactive\n"
    assert container.exec("systemctl", "list-units", "--failed", "--no-legend").stdout == b""


def test_rsyslog_writes_and_cron_runs_jobs(rich_pods: RichPods) -> None:
    entries = [Entry("etc/cron.d/at-boot", b"@reboot root id -un >/var/log/cron-ran\n", mode=0o644)]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "cron-job", entries)
    container = running(rich_pods.run(image, "sh", "-c", f"logger -t legacy 'it said'; {FOREVER}"))
    until(
        lambda: container.exec("cat", "/var/log/cron-ran").stdout == b"root\n", "cron to have run its job", every_s=0.1
    )
    until(lambda: b"legacy: it said" in container.exec("cat", "/var/log/syslog").stdout, "rsyslog's line", every_s=0.1)


@pytest.mark.full
@pytest.mark.timeout(180)
def test_cron_runs_a_job_at_the_minute(rich_pods: RichPods) -> None:
    entries = [Entry("etc/cron.d/every-minute", b"* * * * * root echo ran >>/var/log/cron-ran\n", mode=0o644)]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "cron-minute", entries)
    container = running(rich_pods.run(image, "sh", "-c", FOREVER))
    until(lambda: b"ran\n" in container.exec("cat", "/var/log/cron-ran").stdout, "the job", timeout_s=75, every_s=1)


@pytest.mark.parametrize("by", ["handler", "pod"])
def test_a_service_that_was_asked_for_is_up_before_the_application(rich_pods: RichPods, by: str) -> None:
    """The unit is enabled by nobody else, and takes its time."""
    slow = ONE_SHOT.format(more="", command="/bin/sh -c 'sleep 0.5; touch /run/slow-is-up'")
    entries = [Entry("etc/systemd/system/slow.service", slow.encode(), mode=0o644)]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "slow-service", entries)
    asked: dict[str, Any] = {"more": '[services]\nenable = ["slow"]'}
    if by == "pod":
        asked = {"annotations": {"pouchrich.io/services": "slow"}}
    container = rich_pods.run(image, "sh", "-c", "test -e /run/slow-is-up", **asked)
    assert container.wait().exit_code == 0


def test_a_service_that_the_image_does_not_have_is_refused_or_left_out(rich_pods: RichPods) -> None:
    pod = rich_pods.pod(annotations={"pouchrich.io/services": "no-such-thing"})
    message = refused(rich_pods.create(pod, SYSTEMD, "true"))
    assert "pouchrich.io/services" in message, message
    assert "no-such-thing" in message, message
    assert rich_pods.run(SYSTEMD, "true", more='[services]\nenable = ["no-such-thing"]').wait().exit_code == 0


# Privilege


def test_without_the_capabilities_for_a_boot_the_create_says_which_are_missing(rich_pods: RichPods) -> None:
    pod = rich_pods.pod("", annotations={"pouchrich.io/mode.app": "systemd"})
    message = refused(rich_pods.create(pod, SYSTEMD, "true", config=security(drop=["ALL"])))
    expected = ("process.capabilities.bounding", "CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP", "rich.init-capabilities")
    assert all(word in message for word in expected), message


@everywhere
def test_the_node_may_give_init_what_the_pod_dropped_and_the_application_has_none_of_it(rich_pods: RichPods) -> None:
    services = {"cron", "rsyslogd", "dbus-daemon"}
    script = "grep -E '^(Cap|NoNewPrivs)' /proc/self/status; echo ready; exec sleep 300"
    config = security(uid=1000, drop=["ALL"], no_new_privs=True)
    container = rich_pods.run(SYSTEMD, "sh", "-c", script, config=config, rich=INIT_CAPABILITIES)
    until(lambda: b"ready\n" in container.output(), "the application")
    found = dict(line.split(":\t") for line in container.output().decode().splitlines() if ":" in line)
    assert set(found) == {"CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb", "NoNewPrivs"}
    assert {name: int(value, 16) for name, value in found.items() if name.startswith("Cap")} == dict.fromkeys(
        ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"), 0
    )
    assert found["NoNewPrivs"] == "1"
    assert "NoNewPrivs:\t1" in Path(f"/proc/{container.pid()}/status").read_text()
    until(lambda: services <= {Path(word[0]).name for word in words_of(container)}, "the services to be up")


def restricted() -> pb.ContainerConfig:
    """What the `restricted` pod security standard asks for, and a read-only root."""
    config = security(uid=1000, drop=["ALL"], no_new_privs=True)
    config.linux.security_context.readonly_rootfs = True
    return config


def test_a_restricted_pod_runs_in_mode_dumb_init(rich_pods: RichPods) -> None:
    pod = rich_pods.pod("dumb-init")
    container = rich_pods.create(pod, SYSTEMD, "sh", "-c", "id -u; cat /proc/1/comm", config=restricted()).start()
    assert container.wait().exit_code == 0
    container.wait_output(b"1000\ndumb-init\n")


def test_a_restricted_pod_that_asks_for_systemd_is_refused(rich_pods: RichPods) -> None:
    pod = rich_pods.pod("dumb-init", rich=INIT_CAPABILITIES, annotations={"pouchrich.io/mode": "systemd"})
    message = refused(rich_pods.create(pod, SYSTEMD, "true", config=restricted()))
    assert all(word in message for word in ("pouchrich.io/mode", "user 1000", "allowed for user 0", "rich.root-init"))


def test_a_restricted_pod_may_have_systemd_where_the_node_chose_it(rich_pods: RichPods) -> None:
    script = "id -u; cat /proc/1/comm; touch /x || echo read-only"
    container = rich_pods.run(SYSTEMD, "sh", "-c", script, config=restricted(), rich=INIT_CAPABILITIES)
    assert container.wait().exit_code == 0
    container.wait_output(b"1000\nsystemd\nread-only\n")


# Restarts and agents

AGENT = """
[[agents]]
name = "watcher"
command = ["/opt/agent/watch", "--forever"]
mounts = [{ source = "%s", target = "/opt/agent" }]
"""


@pytest.fixture
def agent(rich_pods: RichPods) -> str:
    """The configuration of an agent whose program is on the node."""
    directory = rich_pods.node.base / "agent"
    directory.mkdir(exist_ok=True)
    (directory / "watch").write_text("#!/bin/sh\necho $$ >>/tmp/agent-starts\nexec sleep 1000\n")
    for path in (rich_pods.node.base, directory, directory / "watch"):
        path.chmod(0o755)
    return AGENT % directory


def test_an_application_that_fails_is_restarted_in_place_and_the_agent_lives_on(
    rich_pods: RichPods, agent: str
) -> None:
    script = 'echo run >>/tmp/runs; n=$(wc -l </tmp/runs); echo "run $n"; sleep 0.3; [ $n -ge 3 ] || exit 9'
    container = rich_pods.run(SYSTEMD, "sh", "-c", script, rich='restart = "on-failure"', more=agent)
    until(lambda: b"run 3" in container.output(), "the third run", timeout_s=20)
    starts = container.shell("cat /tmp/agent-starts").split()
    assert len(starts) == 1
    assert "sleep 1000" in container.shell(f"ps -o args= -p {starts[0]}")
    assert container.wait().exit_code == 0
    container.wait_output(b"run 1\nrun 2\nrun 3\n")


def test_a_restarted_application_finds_its_terminal_as_the_first_one_found_it(rich_pods: RichPods) -> None:
    """Though that one, an editor for instance, has died in raw mode."""
    script = "echo run >>/tmp/runs; stty -a; [ $(wc -l </tmp/runs) = 2 ] && exit 0; stty raw -echo; kill -9 $$"
    config = pb.ContainerConfig(tty=True, stdin=True)
    container = rich_pods.run(SYSTEMD, "sh", "-c", script, rich='restart = "on-failure"', config=config)
    assert container.wait().exit_code == 0
    told = container.output().decode().split("speed")[1:]
    assert len(told) == 2
    assert told[0].split() == told[1].split()


def test_an_agent_that_dies_is_restarted_and_the_application_does_not_notice(rich_pods: RichPods, agent: str) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", f"trap 'exit 4' TERM; {FOREVER}", more=agent))
    until(lambda: container.exec("test", "-s", "/tmp/agent-starts").exit_code == 0, "the agent to start", every_s=0.1)
    container.shell("kill -KILL $(cat /tmp/agent-starts)")
    until(lambda: len(container.shell("cat /tmp/agent-starts").split()) == 2, "the agent to start again", every_s=0.1)
    container.stop(grace_s=20)
    assert container.status().exit_code == 4


# Boots that fail


def stuck(rich_pods: RichPods) -> str:
    """An image whose boot waits for a unit that does not come up."""
    unit = ONE_SHOT.format(more="", command="/bin/sleep 300").encode()
    needed = b"[Unit]\nRequires=stuck.service\nAfter=stuck.service\n"
    entries = [
        Entry("etc/systemd/system/stuck.service", unit),
        Entry("etc/systemd/system/sysinit.target.d/stuck.conf", needed),
    ]
    return rich_images.import_variant(rich_pods.node, SYSTEMD, "stuck-boot", entries)


def test_a_boot_that_hangs_fails_the_start_with_what_the_console_said(rich_pods: RichPods) -> None:
    image = stuck(rich_pods)
    container = rich_pods.create(rich_pods.pod(rich='start-timeout = "3s"'), image, "true")
    message = failed_start(container)
    assert "start-timeout, 3 s" in message, message
    assert "stuck.service" in message, message
    status = container.status()
    assert (status.state, status.exit_code) == (EXITED, 128)
    program = Path(os.environ["POUCHRICH_PREFIX"], "bin/pouchrich")  # the task is gone by now, and its bundle with it
    kept = subprocess.run([program, "logs", container.id], capture_output=True, check=True)
    assert b"stuck.service" in kept.stdout, kept
    assert kept.stderr.strip().endswith(b": its start failed"), kept


def test_what_the_console_said_is_shown_as_a_person_would_read_it(rich_pods: RichPods) -> None:
    """A job's line is drawn again each second, and hostile units write to the console."""
    last = "systemd-update-utmp.service systemd-journal-flush.service"
    noise = rb"/bin/printf '\033[2J\033]0;title\007\033[31mred\377\n'"
    unit = ONE_SHOT.format(more=f"After={last}", command=noise.decode()).replace(
        "[Service]", "[Service]\nStandardOutput=tty"
    )
    slow = ONE_SHOT.format(more="Requires=noise.service\nAfter=noise.service", command="/bin/sleep 300")
    needed = "[Unit]\nRequires=stuck.service\nAfter=stuck.service\n"
    entries = [
        Entry("etc/systemd/system/noise.service", unit.encode()),
        Entry("etc/systemd/system/stuck.service", slow.encode()),
        Entry("etc/systemd/system/sysinit.target.d/stuck.conf", needed.encode()),
    ]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "noisy-boot", entries)
    message = failed_start(rich_pods.create(rich_pods.pod(rich='start-timeout = "9s"'), image, "true"))
    assert message.isprintable(), message
    assert message.count("ob stuck.service/start running") == 1, message
    assert "red\N{REPLACEMENT CHARACTER}" in message, message
    assert "\\x1b" not in message, message
    assert "title" not in message, message


def test_a_boot_that_fails_says_what_stopped_it(rich_pods: RichPods) -> None:
    entries = [Entry("etc/systemd/system/default.target", link="/dev/null")]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "no-target", entries)
    container = rich_pods.create(rich_pods.pod(rich='start-timeout = "3s"'), image, "true")
    message = failed_start(container)
    assert "did not start the application" in message, message
    assert "console" in message, message


def test_systemd_is_told_once_to_power_off_however_long_it_takes(rich_pods: RichPods) -> None:
    """Told again it begins anew with each mount that it failed to unmount, on a slow node without an end."""
    umount = b'#!/bin/sh\necho "$1" >>/shared/umounts\nsleep 1.5\nexit 32\n'
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "slow-umount", [Entry("usr/bin/umount", umount)])
    shared = Path(rich_pods.node.base, f"shared-{time.monotonic_ns()}")
    shared.mkdir()
    config = pb.ContainerConfig(mounts=[pb.Mount(container_path="/shared", host_path=str(shared))])
    pod = rich_pods.pod(rich='stop-timeout = "20s"')
    container = running(rich_pods.create(pod, image, "sh", "-c", FOREVER, config=config).start())
    container.stop(30)
    attempts = (shared / "umounts").read_text().splitlines()
    assert "/run/pouchrich" in attempts
    assert len(attempts) == len(set(attempts)), attempts


def test_an_image_whose_systemd_cannot_be_executed_fails_the_start(rich_pods: RichPods) -> None:
    entries = [Entry("usr/lib/systemd/systemd", b"no program at all\n")]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "broken-systemd", entries)
    message = failed_start(rich_pods.create(rich_pods.pod(), image, "true"))
    assert "systemd" in message, message


def test_a_signal_during_the_boot_calls_the_start_off(rich_pods: RichPods) -> None:
    image = stuck(rich_pods)
    container = rich_pods.create(rich_pods.pod(), image, "true")
    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(failed_start, container)
        ctr = ("-n", "k8s.io", "tasks")
        until(lambda: container.id in rich_pods.node.ctr(*ctr, "ls"), "the task to be there")
        until(lambda: len(rich_pods.node.ctr(*ctr, "ps", container.id).splitlines()) > 2, "the boot to have begun")
        rich_pods.node.ctr(*ctr, "kill", "--signal", "TERM", container.id)
        assert "a signal ended the start" in starting.result(timeout=10)


@pytest.mark.parametrize("after_s", [0.0, 0.15, 0.4])
def test_pid_1_may_be_killed_at_any_moment(rich_pods: RichPods, after_s: float) -> None:
    container = rich_pods.create(rich_pods.pod(), SYSTEMD, "sleep", "300")
    tasks = ("-n", "k8s.io", "tasks")

    def start() -> str:
        try:
            container.start()
        except CallFailed as error:
            return error.message
        return ""

    with ThreadPoolExecutor(1) as pool:
        starting = pool.submit(start)
        until(lambda: container.id in rich_pods.node.ctr(*tasks, "ls"), "the task to be there")
        time.sleep(after_s)
        rich_pods.node.ctr(*tasks, "kill", "--signal", "KILL", container.id)
        message = starting.result(timeout=20)
    assert container.wait(timeout_s=15).exit_code == (128 if message else 137), message


def test_containerd_may_be_killed_while_systemd_boots_and_runs(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", f"trap 'exit 42' TERM; {FOREVER}"))
    rich_pods.node.kill_containerd()
    rich_pods.node.start()
    rich_pods.pods.reconnect()
    assert container.shell("cat /proc/1/comm") == "systemd\n"
    container.stop(grace_s=20)
    assert container.status().exit_code == 42


# PouchContainer's environment file

AWKWARD = {
    "EQUALS": "a=b=c",
    "QUOTES": "single ' double \" both '\"'",
    "DOLLAR": "$HOME ${PATH} $(id) `id`",
    "LINES": "one\ntwo\n\nfour\n",
    "BACKSLASH": "\\n \\\\ \\",
    "SPACES": "  two  ",
    "BANG": "!! #! ~ * ?",
    "UNICODE": "köln €",
}


@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_a_login_shell_has_the_pods_environment(rich_pods: RichPods, mode: str) -> None:
    given = {**AWKWARD, "dotted.name": "left out", "BASH_ENV": "/tmp/x", "UID": "77"}
    pod = rich_pods.pod(mode)
    container = rich_pods.create(pod, SYSTEMD, "sleep", "300", config=variables(given)).start()
    wanted = " ".join(AWKWARD)
    script = f"for name in {wanted}; do printf '%s=%s\\0' $name \"${{!name}}\"; done; printf UID=$UID"
    answer = container.exec("env", "-i", "bash", "-lc", script)
    assert answer.exit_code == 0, answer.stderr
    *pairs, uid = answer.stdout.decode().split("\0")
    assert dict(pair.partition("=")[::2] for pair in pairs) == AWKWARD
    assert uid == "UID=0"
    assert container.shell("stat -c '%a %u' /etc/profile.d/pouchenv.sh") == "640 0\n"


def test_a_login_shell_has_nothing_of_it_where_the_node_does_not_want_it(rich_pods: RichPods) -> None:
    container = rich_pods.run(SYSTEMD, "sleep", "300", config=variables({"EQUALS": "a=b"}), rich="env-file = false")
    assert container.exec("env", "-i", "bash", "-lc", "echo [$EQUALS]").stdout == b"[]\n"


def test_the_image_s_command_may_be_the_init_itself(rich_pods: RichPods) -> None:
    container = rich_pods.run(SYSTEMD, "/sbin/init")
    until(lambda: container.exec("systemctl", "is-system-running").stdout == b"running\n", "the system to be up")
    assert container.exec("systemctl", "is-active", "pouchrich-app").stdout == b"inactive\n"
    container.stop(grace_s=20)
    assert container.status().exit_code in (0, 130)


def test_the_task_ends_as_the_application_even_where_it_is_killed_from_inside(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER))
    kept = rich_pods.node.run_directory(container.id)
    assert (kept / "launch").exists()
    main = container.exec("systemctl", "show", "-p", "MainPID", "--value", "pouchrich-app").stdout.decode().strip()
    container.shell(f"kill -{int(signal.SIGSEGV)} {main}")
    assert container.wait().exit_code == 128 + signal.SIGSEGV
    assert not (kept / "app.sock").exists()


@pytest.mark.full
@pytest.mark.parametrize("suite", ["bullseye", "trixie", "sid"])
def test_an_older_or_newer_systemd_runs_whatever_the_hosts_cgroups_are(rich_pods: RichPods, suite: str) -> None:
    """247, 257, and 258 or later, which knows no cgroup v1; the node's crun sees v1 alone, its runc a hybrid host."""
    pod = rich_pods.pod(rich="strict = true")
    container = running(rich_pods.create(pod, System("systemd", suite), "sh", "-c", FOREVER).start())
    state = "the system to be up"
    until(lambda: container.exec("systemctl", "is-system-running").stdout == b"running\n", state)
    container.stop(grace_s=20)
    assert container.status().exit_code == 143

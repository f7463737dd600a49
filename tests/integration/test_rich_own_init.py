"""An image whose command is the init: its streams or terminal are the container's, its end is the container's."""

import subprocess

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import binaries, rich_images
from tests.integration.images import Entry
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, mode_of
from tests.integration.test_rich_application import everywhere, in_one_place
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD, SYSVINIT, BUSYBOX = System("systemd"), System("sysvinit"), System("busybox")
SHOWING = ["/sbin/init", "--show-status=1"]
TERMINAL = pb.ContainerConfig(tty=True)
SAYS = b"#!/bin/sh\necho to stdout\necho to stderr >&2\n"


def with_script(rich_pods: RichPods) -> str:
    """An image of busybox whose init runs SAYS."""
    entries = [Entry("etc/init.d/rcS", SAYS, mode=0o755), Entry("etc/inittab", b"::sysinit:/etc/init.d/rcS\n")]
    return rich_images.import_variant(rich_pods.node, BUSYBOX, "busybox-says", entries, Cmd=["/sbin/init"])


def ends_by_itself(container: Container) -> None:
    """A stop is over long before the KILL that would follow."""
    container.stop(grace_s=60)
    status = container.status()
    assert status.exit_code != 137, status
    container.remove()


@everywhere
@pytest.mark.parametrize("command", [(), ("/bin/sh", "-c", "/sbin/init")], ids=["exec form", "shell form"])
def test_what_busyboxs_services_write_is_the_containers_log(rich_pods: RichPods, command: tuple[str, ...]) -> None:
    container = rich_pods.create(rich_pods.pod("sbin-init"), with_script(rich_pods), *command).start()
    until(lambda: container.shell("cat /proc/1/comm") == "init\n", "the shell's exec")
    container.wait_output(b"to stdout\n")
    container.wait_output(b"to stderr\n", "stderr")
    ends_by_itself(container)


def test_its_stdin_is_the_containers(rich_pods: RichPods) -> None:
    entries = [Entry("etc/inittab", b"::once:/bin/sh -c 'read line; echo got $line'\n")]
    image = rich_images.import_variant(rich_pods.node, BUSYBOX, "busybox-reads", entries, Cmd=["/sbin/init"])
    container = rich_pods.create(rich_pods.pod("sbin-init"), image, config=pb.ContainerConfig(stdin=True)).start()
    with container.attach() as stream:
        stream.write(b"this\n")
        container.wait_output(b"got this\n")
    ends_by_itself(container)


@everywhere
@pytest.mark.parametrize(
    ("system", "command", "said"),
    [
        pytest.param(SYSTEMD, SHOWING, b"Reached target", id="systemd"),
        pytest.param(SYSVINIT, ["/sbin/init"], b"Mounting local filesystems", id="sysvinit"),
    ],
)
def test_a_terminal_is_its_console(rich_pods: RichPods, system: System, command: list[str], said: bytes) -> None:
    container = rich_pods.create(rich_pods.pod(mode_of(system)), system, *command, config=TERMINAL).start()
    until(lambda: said in container.output(), f"{said!r} in the log", timeout_s=60)
    with container.attach(tty=True) as stream:
        stream.resize(width=111, height=22)
        until(lambda: container.shell("stty size </dev/console") == "22 111\n", "the terminal's size")
    container.stop(grace_s=60 if system is SYSTEMD else 1)
    container.remove()


def test_without_a_terminal_systemd_has_a_console_that_pouchrich_logs_shows(rich_pods: RichPods) -> None:
    container = rich_pods.create(rich_pods.pod("systemd"), SYSTEMD, *SHOWING).start()
    command = ["nsenter", f"--mount=/proc/{rich_pods.node.pid}/ns/mnt", str(binaries.prefix() / "bin/pouchrich")]

    def shown() -> str:
        return subprocess.run([*command, "logs", container.id], capture_output=True, text=True).stdout

    until(lambda: "Reached target" in shown(), "its console's lines", timeout_s=60, every_s=0.2)
    ends_by_itself(container)


def test_the_pods_stop_signal_is_what_it_gets_in_place_of_term(rich_pods: RichPods) -> None:
    entries = [
        Entry("etc/inittab", b"::sysinit:/bin/echo up\n::restart:/bin/echo restarted\n::shutdown:/bin/echo down\n")
    ]
    image = rich_images.import_variant(rich_pods.node, BUSYBOX, "busybox-stops", entries, Cmd=["/sbin/init"])
    pod = rich_pods.pod("sbin-init", annotations={"pouchrich.io/stop-signal": "SIGUSR1"})
    container = rich_pods.create(pod, image).start()
    container.wait_output(b"up\n")
    ends_by_itself(container)

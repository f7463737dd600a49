"""sshd as a service of the image beside the application: the pod answers as the machine it once was."""

import socket

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration.pods import Container, Pod
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, variables
from tests.integration.test_rich_application import in_one_place, running
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

MAKE_KEY = """
mkdir -pm 700 /root/.ssh
ssh-keygen -q -t ed25519 -N '' -f /root/.ssh/id_ed25519
cp /root/.ssh/id_ed25519.pub /root/.ssh/authorized_keys
"""
SSH = "ssh -o BatchMode=yes -o StrictHostKeyChecking=no -o LogLevel=ERROR root@127.0.0.1"
FAILS_WHEN_TOLD = """
echo run >>/var/runs; n=$(wc -l </var/runs); [ $n -gt 1 ] || echo ready; echo "run $n"
until [ -e /var/fail-$n ]; do sleep 0.1; done
exit 9
"""


def address(pod: Pod) -> str:
    request = pb.PodSandboxStatusRequest(pod_sandbox_id=pod.id)
    return pod.pods.client.call(request, pb.PodSandboxStatusResponse).status.network.ip


def banner(connection: socket.socket) -> bytes:
    """What sshd says first."""
    connection.settimeout(10)
    return connection.recv(255)


def sshd_pid(container: Container) -> str:
    return container.shell("systemctl show -p MainPID --value ssh").strip()


def answers(pod: Pod) -> bool:
    try:
        with socket.create_connection((address(pod), 22), timeout=1) as connection:
            return banner(connection).startswith(b"SSH-2.0-OpenSSH")
    except OSError:
        return False


def test_sshd_answers_beside_the_application_and_outlives_its_restart(rich_pods: RichPods) -> None:
    pod = rich_pods.pod(rich='restart = "on-failure"')
    command = ("sh", "-c", FAILS_WHEN_TOLD)
    config = variables({"FROM_THE_POD": "it is set"})
    container = running(rich_pods.create(pod, System("sshd"), *command, config=config).start())
    until(lambda: answers(pod), "sshd to answer at the pod's address")
    container.shell(MAKE_KEY)
    assert container.shell(f"{SSH} 'id -u; cat /proc/1/comm'") == "0\nsystemd\n"
    assert container.shell(f"{SSH} 'bash -lc \"echo \\$FROM_THE_POD\"'") == "it is set\n"
    before = sshd_pid(container)
    with socket.create_connection((address(pod), 22)) as connection:
        assert banner(connection).startswith(b"SSH-2.0-")
        container.shell("touch /var/fail-1")
        until(lambda: b"run 2\n" in container.output(), "the application to run again")
        connection.sendall(b"SSH-2.0-test\r\n")
        assert connection.recv(4) != b"", "the connection from before the restart has ended"
    assert sshd_pid(container) == before != "0"
    assert container.shell(f"{SSH} cat /var/runs") == "run\nrun\n"
    container.stop(grace_s=20)
    assert container.status().exit_code == 143
    assert not answers(pod)

"""Pods with `hostUsers: false`: containerd 2 asks the shim for features first, for the runc type only."""

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration.pods import Pods

FIRST_ID, COUNT = 200_000, 65_536

pytestmark = pytest.mark.only(containerd="2.1", runtime=("runc.v2", "dropin"))


def user_namespace() -> pb.NamespaceOption:
    mapping = [pb.IDMapping(host_id=FIRST_ID, container_id=0, length=COUNT)]
    namespace = pb.UserNamespace(mode=pb.NamespaceMode.POD, uids=mapping, gids=mapping)
    return pb.NamespaceOption(pid=pb.NamespaceMode.CONTAINER, userns_options=namespace)


def test_the_handler_offers_user_namespaces(pods: Pods) -> None:
    status = pods.client.call(pb.StatusRequest(), pb.StatusResponse)
    features = {handler.name: handler.features for handler in status.runtime_handlers}
    assert features[pods.handler].user_namespaces


def test_a_pod_with_a_user_namespace_starts(pods: Pods) -> None:
    pod = pods.run(namespaces=user_namespace())
    container = pod.run("sh", "-c", "touch /made; echo out > /dev/stdout; exec sleep 300")
    container.wait_output(b"out\n")
    fields = container.shell("cat /proc/self/uid_map").split()
    assert fields == ["0", str(FIRST_ID), str(COUNT)]
    assert container.shell("stat -c %u /made /bin/sh").split() == ["0", "0"]
    with open(f"/proc/{container.pid()}/status") as status:
        uids = next(line.split()[1:] for line in status if line.startswith("Uid:"))
    assert uids == [str(FIRST_ID)] * 4

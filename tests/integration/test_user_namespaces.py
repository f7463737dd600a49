"""Pods with `hostUsers: false`: containerd asks the shim for features first.

2.1 asks for its own runtime type only, 2.3.4 and later for all.
"""

import os

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration.pods import Pods

FIRST_ID, COUNT = 200_000, 65_536

containerds_type = pytest.mark.only(containerd="2.1", runtime=("runc.v2", "dropin"))
own_type = pytest.mark.only(containerd=("2.3", "2.4"), runtime="pouchrich")
NO_TABLE = "pouchrich-node"


def user_namespace() -> pb.NamespaceOption:
    mapping = [pb.IDMapping(host_id=FIRST_ID, container_id=0, length=COUNT)]
    namespace = pb.UserNamespace(mode=pb.NamespaceMode.POD, uids=mapping, gids=mapping)
    return pb.NamespaceOption(pid=pb.NamespaceMode.CONTAINER, userns_options=namespace)


def offers(pods: Pods, handler: str) -> bool:
    """Whether the kubelet hears that pods of this handler may have user namespaces."""
    status = pods.client.call(pb.StatusRequest(), pb.StatusResponse)
    return {one.name: one.features for one in status.runtime_handlers}[handler].user_namespaces


@containerds_type
def test_the_handler_offers_user_namespaces(pods: Pods) -> None:
    assert offers(pods, pods.handler)


@own_type
def test_our_type_offers_user_namespaces_where_they_can_be_had(pods: Pods) -> None:
    assert offers(pods, NO_TABLE)
    assert not offers(pods, "pouchrich")


@containerds_type
def test_a_pod_with_a_user_namespace_starts(pods: Pods) -> None:
    has_its_user_namespace(pods, pods.handler)


@pytest.mark.only(containerd="2.1", runtime="dropin")
def test_nobody_in_a_pod_with_a_user_namespace_owns_the_nodes_null(pods: Pods) -> None:
    """Its containers' /dev/null is the node's file, and crun makes root in them the owner of their streams."""
    before = os.stat(os.devnull)
    container = pods.run(handler=pods.handler, namespaces=user_namespace()).run("sleep", "300")
    assert container.shell("true; stat -c %u /dev/null") == "65534\n"
    found = os.stat(os.devnull)
    assert (found.st_uid, found.st_mode) == (before.st_uid, before.st_mode)


@own_type
def test_a_pod_of_our_type_with_a_user_namespace_starts(pods: Pods) -> None:
    has_its_user_namespace(pods, NO_TABLE)


def has_its_user_namespace(pods: Pods, handler: str) -> None:
    pod = pods.run(handler=handler, namespaces=user_namespace())
    container = pod.run("sh", "-c", "touch /made; echo out > /dev/stdout; exec sleep 300")
    container.wait_output(b"out\n")
    fields = container.shell("cat /proc/self/uid_map").split()
    assert fields == ["0", str(FIRST_ID), str(COUNT)]
    assert container.shell("stat -c %u /made /bin/sh").split() == ["0", "0"]
    with open(f"/proc/{container.pid()}/status") as status:
        uids = next(line.split()[1:] for line in status if line.startswith("Uid:"))
    assert uids == [str(FIRST_ID)] * 4

"""Text of a pod that is not UTF-8, as far as containerd lets it through."""

from typing import Any

import pytest
from google.protobuf.message import Message

from tests.cri.client import CallFailed, Client
from tests.integration import configuration, rich_images, specs
from tests.integration.ctr import Ctr
from tests.integration.pods import Pods
from tests.integration.rich_images import System
from tests.integration.rich_pods import HANDLER, RichPods, configure
from tests.integration.test_rich_application import in_one_place
from tests.integration.test_rich_policy import rich_ctr
from tests.integration.test_rich_systemd import failed_start

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

BUSYBOX = System("busybox")
MARK, BROKEN = b"MARK", b"a\xff\xfeb"


def broken(text: bytes) -> bytes:
    assert MARK in text
    return text.replace(MARK, BROKEN)


@pytest.mark.parametrize("name", ["pouchrich.io/init-script", "example.org/anything"])
def test_a_spec_that_is_not_utf8_is_refused_and_the_annotation_named(ctr: Ctr, name: str) -> None:
    """ctr would replace what is not UTF-8, so the spec is changed behind its back."""

    def annotate(spec: dict[str, Any]) -> None:
        spec.setdefault("annotations", {})[name] = "echo MARK"

    image = rich_images.import_system(ctr.node, BUSYBOX, namespace="default")
    configure(ctr.node, 'mode = "dumb-init"')
    container = ctr.new_id()
    runtime = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", configuration.TEST_FILE)
    place = ("--snapshotter", ctr.node.settings.snapshotter)
    ctr.check("containers", "create", *runtime, *place, image, container, "true")
    specs.edit(ctr.node, container, annotate, namespace="default")
    specs.edit_text(ctr.node, container, broken, namespace="default")
    result = ctr.call("tasks", "start", "--detach", container)
    assert f"config.json: annotations.{name}: found byte 0xff, allowed UTF-8: invalid argument" in result.stderr
    ctr.check("containers", "rm", container)


def test_in_a_pod_it_is_refused_before_a_server_is_asked(rich_pods: RichPods) -> None:
    pod = rich_pods.pod("dumb-init", annotations={"pouchrich.io/init-script": "echo MARK"})
    container = rich_pods.create(pod, BUSYBOX, "true")
    specs.edit_text(rich_pods.node, container.id, broken)
    message = failed_start(container)
    assert all(word in message for word in ("config.json", "0xff")), message
    assert rich_pods.create(pod, BUSYBOX, "true", name="other").start().wait().exit_code == 0


def test_what_ctr_made_of_an_argument_that_is_not_utf8_is_refused_where_it_is_ours(ctr: Ctr) -> None:
    for annotation in ("pouchrich.io/mode=\udcff", "pouchrich.io/\udcff=x"):
        with pytest.raises(AssertionError, match=r"annotation pouchrich.io/.*: found .*, allowed .*: invalid argument"):
            rich_ctr(ctr, BUSYBOX, "true", flags=("--annotation", annotation))
    container = rich_ctr(ctr, BUSYBOX, "true", mode="dumb-init", flags=("--annotation", "example.org/\udcff=\udcff"))
    ctr.wait_stopped(container)
    assert ctr.delete(container) == 0


class BrokenClient(Client):
    """A client of the CRI that does not keep to protobuf's rule for strings."""

    def serialize(self, request: Message) -> bytes:
        return request.SerializeToString().replace(MARK, BROKEN)


def test_through_the_cri_it_is_refused_by_containerd_or_by_us(rich_pods: RichPods, pods: Pods) -> None:
    """1.6 takes such strings and replaces what is wrong in them; later ones take none."""
    configure(rich_pods.node, 'mode = "dumb-init"')
    pods.client.close()
    pods.client = BrokenClient(rich_pods.node.socket)
    annotations = {"pouchrich.io/mode": "MARK"}
    pod = None
    try:
        pod = pods.run(handler=HANDLER, annotations=annotations)
    except CallFailed as failure:
        refusal = failure.message
    pods.reconnect()
    if pod is not None:
        refusal = failed_start(rich_pods.create(pod, BUSYBOX, "true"))
    assert "annotation pouchrich.io/mode: found" in refusal if pod is not None else "UTF-8" in refusal, refusal

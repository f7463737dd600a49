"""The first pod of README.md, with an image of the tests' own, does what is said of it there."""

import time
from typing import Any

import pytest

from tests.integration.pods import Pods
from tests.unit.docs import manifests, markdown

pytestmark = pytest.mark.only(runtime="pouchrich")

GRACE_S = 30
"""What Kubernetes gives a pod that says nothing of it."""


def first_pod() -> dict[str, Any]:
    (block,) = (one for one in markdown.blocks("yaml") if one.page.name == "README.md")
    (pod,) = (one for one in manifests.load(block.text) if one["kind"] == "Pod")
    return dict(pod)


@pytest.mark.smoke
def test_the_first_pod_of_the_readme_is_what_it_says(pods: Pods) -> None:
    pod = first_pod()
    (told,) = pod["spec"]["containers"]
    sandbox = pods.run(handler="pouchrich-rich", annotations=pod["metadata"]["annotations"])
    container = sandbox.run(*told["command"], name=told["name"])
    container.wait_output(b"PID 1 is\ndumb-init\n")
    assert container.shell("cat /proc/1/comm") == "dumb-init\n"
    began = time.monotonic()
    container.stop(GRACE_S)
    assert time.monotonic() - began < GRACE_S / 2
    assert container.status().exit_code == 128 + 15

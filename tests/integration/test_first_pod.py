"""The first pod of README.md does what is said of it there: its Containerfile, its Job, and what is printed."""

from pathlib import Path

import pytest

from tests.integration import containerfiles, first_pod, rich_pods
from tests.integration.kubelet import ManifestPod
from tests.integration.pods import Pods
from tests.unit.docs import manifests

pytestmark = [pytest.mark.only(runtime="pouchrich"), pytest.mark.usually("2.1-crun-pouchrich")]


def does_what_it_says(pods: Pods, of: str) -> None:
    """The Job's pod, with the image `of`, on a node that has it; the configuration is one that says nothing."""
    rich_pods.configure(pods.node)
    documents = manifests.load(first_pod.block("yaml").replace(first_pod.image(), of))
    job = ManifestPod(pods, documents, handler=rich_pods.HANDLER)
    container = job.run()
    status = container.wait()
    assert f"{status.exit_code} {job.message('app').strip()}" == first_pod.printed()
    first, second, line = container.output().decode().splitlines()
    assert (first, second) == ("systemd", "prepared")
    assert line.endswith("root: hello")


def test_the_first_pod_of_the_readme_is_what_it_says(pods: Pods) -> None:
    """In the tests' own image of the packages that the Containerfile has, with its command."""
    does_what_it_says(pods, first_pod.own_image(pods.node))


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_first_pod_of_the_readme_is_what_it_says_with_the_image_of_its_containerfile(
    pods: Pods, tmp_path: Path
) -> None:
    (tmp_path / "Containerfile").write_text(first_pod.block("dockerfile"))
    does_what_it_says(pods, containerfiles.import_built(pods.node, tmp_path, first_pod.image()))

"""The first pod of README.md does what is said of it there: its Containerfile, its Job, and what is printed."""

import re
from pathlib import Path

import pytest

from tests.integration import containerfiles, rich_images, rich_pods
from tests.integration.kubelet import ManifestPod
from tests.integration.pods import Pods
from tests.integration.rich_images import System
from tests.unit.docs import manifests, markdown

pytestmark = [pytest.mark.only(runtime="pouchrich"), pytest.mark.usually("2.1-crun-pouchrich")]


def block(language: str) -> str:
    (found,) = (one.text for one in markdown.blocks(language) if one.page.name == "README.md")
    return found


def image() -> str:
    (found,) = re.findall(r"image: (.*)$", block("yaml"), re.MULTILINE)
    return str(found)


def printed() -> str:
    """What the last command of the page prints, by the page."""
    (found,) = re.findall(r"The last line prints `(.*?)`", (markdown.ROOT / "README.md").read_text())
    return str(found)


def does_what_it_says(pods: Pods, of: str) -> None:
    """The Job's pod, with the image `of`, on a node that has it; the configuration is one that says nothing."""
    rich_pods.configure(pods.node)
    documents = manifests.load(block("yaml").replace(image(), of))
    job = ManifestPod(pods, documents, handler=rich_pods.HANDLER)
    container = job.run()
    status = container.wait()
    assert f"{status.exit_code} {job.message('app').strip()}" == printed()
    first, second, line = container.output().decode().splitlines()
    assert (first, second) == ("systemd", "prepared")
    assert line.endswith("root: hello")


def test_the_first_pod_of_the_readme_is_what_it_says(pods: Pods) -> None:
    """In the tests' own image of the packages that the Containerfile has, with its command."""
    (command,) = re.findall(r"^CMD (.*)$", block("dockerfile"), re.MULTILINE)
    (packages,) = re.findall(r"--no-install-recommends (.*) \\$", block("dockerfile"), re.MULTILINE)
    system = System("systemd")
    assert set(packages.split()) <= set(rich_images.rootfs_images.PACKAGES[system.kind])
    own = rich_images.import_variant(pods.node, system, "first", [], Cmd=manifests.scalar(command))
    does_what_it_says(pods, own)


@pytest.mark.full
@pytest.mark.timeout(600)
def test_the_first_pod_of_the_readme_is_what_it_says_with_the_image_of_its_containerfile(
    pods: Pods, tmp_path: Path
) -> None:
    (tmp_path / "Containerfile").write_text(block("dockerfile"))
    does_what_it_says(pods, containerfiles.import_built(pods.node, tmp_path, image()))

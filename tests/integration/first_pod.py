"""The first pod of README.md: its files and its commands, as they stand there, and what is said of it."""

import re

from tests.integration import rich_images
from tests.integration.node import Node
from tests.integration.rich_images import System
from tests.unit.docs import manifests, markdown


def block(language: str, having: str = "") -> str:
    """The page's only block in a language, that has some words."""
    (found,) = (one.text for one in markdown.blocks(language) if one.page.name == "README.md" and having in one.text)
    return found


def image() -> str:
    (found,) = re.findall(r"image: (.*)$", block("yaml"), re.MULTILINE)
    return str(found)


def printed() -> str:
    """What the last command of the page prints, by the page."""
    (found,) = re.findall(r"The last line prints `(.*?)`", (markdown.ROOT / "README.md").read_text())
    return str(found)


def own_image(node: Node) -> str:
    """Have the node hold the tests' own image of what the Containerfile has, with its command: its name."""
    (command,) = re.findall(r"^CMD (.*)$", block("dockerfile"), re.MULTILINE)
    (packages,) = re.findall(r"--no-install-recommends (.*) \\$", block("dockerfile"), re.MULTILINE)
    system = System("systemd")
    assert set(packages.split()) <= set(rich_images.rootfs_images.PACKAGES[system.kind])
    return rich_images.import_variant(node, system, "first", [], Cmd=manifests.scalar(command))

"""The labels of a node: the version that is current there, and the modes in which a probe pod has run."""

from collections.abc import Iterable, Mapping

from pouchrich.cluster.probe import INITS
from runtime.config.annotations import PREFIX

VERSION = f"{PREFIX}version"


def of_mode(mode: str) -> str:
    """The node's label that says that pods of `mode` run there."""
    return f"{PREFIX}mode.{mode}"


NONE: dict[str, str | None] = dict.fromkeys([VERSION, *map(of_mode, INITS)])
"""What `Kubectl.label` takes to remove all of them."""


def of_version(version: str) -> dict[str, str]:
    """The label of a version. A label's value cannot have the `+` of a local version."""
    return {VERSION: version.replace("+", "_")}


def missing(found: Mapping[str, str], version: str, modes: Iterable[str]) -> dict[str, str]:
    """The labels of `version` and `modes` that a node with the labels `found` does not have, whatever their value."""
    wanted = {**of_version(version), **{of_mode(mode): "true" for mode in modes}}
    return {name: value for name, value in wanted.items() if name not in found}

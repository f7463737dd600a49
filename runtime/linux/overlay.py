"""The `lowerdir` option of overlayfs: split, joined, shortened. Pure.

A colon in a path is written `\\:`, and two colons in a row begin the data-only layers (kernel:
Documentation/filesystems/overlayfs.rst).
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

_KEY = "lowerdir="
_TOKEN = re.compile(r":|\\.?|[^:\\]+")
_ESCAPED = re.compile(r"\\(.)")


def lowerdirs(options: Sequence[str]) -> tuple[str, ...]:
    """The layers of the (last) `lowerdir=` option, still escaped; empty if there is none."""
    values = [option[len(_KEY) :] for option in options if option.startswith(_KEY)]
    if not values:
        return ()
    layers = [""]
    for token in _TOKEN.findall(values[-1]):
        if token == ":":
            layers.append("")
        else:
            layers[-1] += token
    return tuple(layers)


def with_lowerdirs(options: Sequence[str], layers: Sequence[str]) -> tuple[str, ...]:
    """`options` with `layers` instead of their lower directories."""
    return (*(option for option in options if not option.startswith(_KEY)), _KEY + ":".join(layers))


def unescape(layer: str) -> str:
    """The path that a layer stands for."""
    return _ESCAPED.sub(r"\1", layer)


def escape(path: str) -> str:
    """`path` as a layer."""
    return re.sub(r"([\\:,])", r"\\\1", path)


def relative(options: Sequence[str]) -> tuple[str, tuple[str, ...]]:
    """A directory, and `options` with the lower directories relative to it.

    If the layers have no directory in common but the root, the directory is "" and the options are unchanged.
    """
    layers = lowerdirs(options)
    parents = [os.path.dirname(layer) for layer in layers if layer]
    if not parents or not all(parent.startswith("/") for parent in parents):
        return "", tuple(options)
    common = os.path.commonpath(parents)
    prefix = common + "/"
    if common == "/" or not all(layer.startswith(prefix) for layer in layers if layer):
        return "", tuple(options)
    return unescape(common), with_lowerdirs(options, [layer.removeprefix(prefix) for layer in layers])

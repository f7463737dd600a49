"""Volumes of an image (VOLUME): containerd's CRI makes a directory for each, for this one container only."""

import re
from collections.abc import Mapping
from typing import Any

_PATH = re.compile(r"/io\.containerd\.grpc\.v1\.cri/containers/[^/]+/volumes/[^/]+/?$")
"""The end of such a directory's path (containerd, internal/cri/server/container_create.go, WithMounts)."""


def is_image_volume(mount: Mapping[str, Any]) -> bool:
    """Whether an OCI mount is that of an image's volume."""
    return _PATH.search(str(mount.get("source", ""))) is not None

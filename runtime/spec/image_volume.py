"""Volumes of an image (VOLUME): the client makes a directory for each, for this one container only."""

import re
from collections.abc import Mapping
from typing import Any

_PATH = re.compile(r"/(?:io\.containerd\.grpc\.v1\.cri/containers/[^/]+/volumes/[^/]+|volumes/[0-9a-f]{64}/_data)/?$")
"""The end of such a directory's path: that of containerd's CRI (internal/cri/server/container_create.go, WithMounts),
and of an anonymous volume of Docker's (moby, daemon/create_unix.go)."""


def is_image_volume(mount: Mapping[str, Any]) -> bool:
    """Whether an OCI mount is that of an image's volume."""
    return _PATH.search(str(mount.get("source", ""))) is not None

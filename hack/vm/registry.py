"""Turn an OCI image layout into docker-registry's storage format, so that a registry in a pod starts with an image.

    registry.py LAYOUT NAME STORAGE

STORAGE is the registry's root directory; the layout's one image becomes NAME:latest.
"""

import json
import shutil
import sys
from pathlib import Path


def store(layout: Path, name: str, storage: Path) -> None:
    """Copy the blobs, and write the links of a repository (the registry's path spec, version 2)."""
    blobs, repository = storage / "docker/registry/v2/blobs", storage / "docker/registry/v2/repositories" / name
    (manifest,) = json.loads((layout / "index.json").read_text())["manifests"]
    found = json.loads((layout / "blobs/sha256" / manifest["digest"].partition(":")[2]).read_text())
    for digest in (manifest["digest"], found["config"]["digest"], *(layer["digest"] for layer in found["layers"])):
        hexadecimal = digest.partition(":")[2]
        data = blobs / "sha256" / hexadecimal[:2] / hexadecimal / "data"
        data.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(layout / "blobs/sha256" / hexadecimal, data)
        if digest != manifest["digest"]:
            link(repository / "_layers/sha256" / hexadecimal, digest)
    hexadecimal = manifest["digest"].partition(":")[2]
    link(repository / "_manifests/revisions/sha256" / hexadecimal, manifest["digest"])
    link(repository / "_manifests/tags/latest/current", manifest["digest"])
    link(repository / "_manifests/tags/latest/index/sha256" / hexadecimal, manifest["digest"])


def link(directory: Path, digest: str) -> None:
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "link").write_text(digest)


if __name__ == "__main__":
    store(Path(sys.argv[1]), sys.argv[2], Path(sys.argv[3]))

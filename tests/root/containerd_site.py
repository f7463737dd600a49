"""The configuration that a site gives its containerd, in each format, and the containerds that there are."""

import shutil

import pytest

from tests.integration import binaries

OLD, NEW = "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"
"""The CRI plugin's section in formats 2 and 3."""

SITE = {
    2: f'[plugins."{OLD}"]\n  sandbox_image = "site/pause:1"\n[plugins."{OLD}".containerd.runtimes.runc]\n'
    '  runtime_type = "io.containerd.runc.v2"\n',
    3: '[plugins."io.containerd.cri.v1.images".pinned_images]\n  sandbox = "site/pause:1"\n'
    f'[plugins."{NEW}".containerd.runtimes.runc]\n  runtime_type = "io.containerd.runc.v2"\n',
}
SITE[4] = SITE[3]
"""By format version: what a handler of ours must not take away."""


def program(release):
    """The containerd of a release; skips the test where it is not there."""
    try:
        found = binaries.containerd(release)
    except FileNotFoundError as err:
        pytest.skip(str(err))
    if not shutil.which(found):
        pytest.skip(f"{found}: not there")
    return str(found)

"""A boot by the shim is hardly slower than one by the OCI runtime alone: the measurement of hack/bench-boot.py."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import binaries
from tests.root import rootfs_images

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

PROGRAM = Path(__file__).resolve().parents[2] / "hack" / "bench-boot.py"
MOST = 1.3


def test_an_application_under_systemd_starts_within_a_third_more_than_by_the_oci_runtime_alone():
    rootfs = rootfs_images.debian("systemd")
    argv = [sys.executable, PROGRAM, "--rootfs", rootfs, "--prefix", binaries.prefix(), "--rounds", "15"]
    done = subprocess.run(list(map(str, argv)), capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    (ratio,) = re.findall(r"ratio of the medians: +([0-9.]+)", done.stdout)
    assert float(ratio) <= MOST, done.stdout

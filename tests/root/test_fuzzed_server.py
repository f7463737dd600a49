"""The real pod server over its socket, with valid frames and hostile payloads: hack/fuzz.py says what is wrong."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.integration import binaries

PROGRAM = Path(__file__).resolve().parents[2] / "hack" / "fuzz.py"


@pytest.mark.parametrize(
    "requests", [20_000, pytest.param(1_000_000, marks=[pytest.mark.full, pytest.mark.timeout(3600)])]
)
def test_a_pod_server_outlives_hostile_requests_as_it_was(requests: int) -> None:
    if not binaries.shim().exists():
        pytest.skip(f"{binaries.shim()}: not there; hack/install.sh --prefix {binaries.prefix()} installs it")
    done = subprocess.run(
        [sys.executable, PROGRAM, "--requests", str(requests), "--prefix", str(binaries.prefix())],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    print(done.stdout)

"""The committed modules of the messages are current."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]


def test_the_committed_modules_are_what_the_generator_makes() -> None:
    done = subprocess.run(
        [ROOT / "hack" / "gen-protos.sh", "--check"],
        env={**os.environ, "PYTHON": sys.executable},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr

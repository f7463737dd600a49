"""What the operator's command loads, and what it does not."""

import subprocess
import sys

from tests.sources import ROOT


def test_plain_output_does_not_load_it():
    script = "import sys; sys.path.insert(0, sys.argv[1]); from pouchrich.__main__ import main; main(['version'])"
    done = subprocess.run(
        [sys.executable, "-c", f"{script}; assert 'rich' not in sys.modules", str(ROOT)],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 0, done.stderr


def test_one_verb_loads_no_other():
    """The command's start-up is quick: `ps` does not load what decides, nor the library for terminals."""
    script = "import sys; from pouchrich.__main__ import main; main(['ps', '-q']); print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=30, check=True
    )
    loaded = set(ran.stdout.split())
    assert "pouchrich.commands.ps" in loaded
    assert not loaded & {
        "rich",
        "asyncio",
        "tomlkit",
        "prometheus_client",
        "google.protobuf",
        "subprocess",
        "runtime.config",
    }
    assert {one for one in loaded if one.startswith("pouchrich.commands.")} == {"pouchrich.commands.ps"}

"""The environment of these tools: root, and the Python environment of the tests, which has grpc."""

import os
import sys
from pathlib import Path


def use_tests_python(program: str) -> None:
    """Re-execute in the environment that hack/test.sh makes. `program` is the name for an error message."""
    if os.geteuid() != 0:
        sys.exit(f"{program}: needs root")
    cache = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich")
    if Path(sys.prefix) != cache / "venv":
        python = cache / "venv" / "bin" / "python"
        if not python.exists():
            sys.exit(f"{program}: {python}: not there, run: hack/test.sh prepare")
        os.execv(python, [str(python), *sys.argv])

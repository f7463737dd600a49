"""As much of this checkout as hack/install.sh installs from, elsewhere."""

import shutil
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
PARTS = (
    "pyproject.toml",
    "README.md",
    "LICENSE",
    "shim",
    "runtime",
    "protos",
    "pouchrich",
    "hack",
    "dumb-init",
    "launcher",
    "native",
    "heap",
    "share",
)


def copy(directory: Path) -> None:
    """Make `directory`, with a copy of everything that an installation is made from."""
    directory.mkdir()
    for part in PARTS:
        of_its_kind = shutil.copytree if (ROOT / part).is_dir() else shutil.copy
        of_its_kind(ROOT / part, directory / part)

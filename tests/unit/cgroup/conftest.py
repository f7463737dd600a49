"""Cgroup directories in a temporary place, filled with what real kernels print."""

import pytest


@pytest.fixture
def tree(tmp_path):
    """Write {relative path: text} and return the directory as a string."""

    def write(files):
        for name, text in files.items():
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
        return str(tmp_path)

    return write

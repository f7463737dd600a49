"""runtime.libexec: helpers beside the package."""

import pytest

from runtime import libexec
from runtime.errors import FailedPrecondition


def test_an_executable_helper_is_found(tmp_path):
    (tmp_path / "dumb-init").touch(mode=0o755)
    assert libexec.path("dumb-init", directory=str(tmp_path)) == f"{tmp_path}/dumb-init"


def test_a_missing_helper_says_what_to_run(tmp_path):
    with pytest.raises(FailedPrecondition) as caught:
        libexec.path("dumb-init", directory=str(tmp_path))
    path = f"{tmp_path}/dumb-init"
    assert str(caught.value) == (
        f"{path}: no such file: run hack/install.sh, or in a checkout hack/build-dumb-init.sh {path}"
    )


def test_a_directory_or_a_file_without_execute_bits_is_no_helper(tmp_path):
    (tmp_path / "dumb-init").touch(mode=0o644)
    with pytest.raises(FailedPrecondition, match="not executable"):
        libexec.path("dumb-init", directory=str(tmp_path))

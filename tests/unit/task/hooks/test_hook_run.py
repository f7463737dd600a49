import pytest

from runtime.linux import selinux
from shim.task.hooks import hook_run
from tests.fakes.loop import open_fds


def test_a_label_that_cannot_be_given_leaves_no_file_open(monkeypatch):
    def refuse(file, label):
        raise OSError(22, f"no label {label} for {file}")

    monkeypatch.setattr(selinux, "label_file", refuse)
    before = open_fds()
    with pytest.raises(OSError, match="no label x"), hook_run._input("state", b"{}", label="x"):
        pytest.fail("it took the label")
    assert open_fds() == before

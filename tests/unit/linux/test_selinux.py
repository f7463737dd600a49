"""What can be said of SELinux labels where it is not in force; hack/test-vm.sh selinux is where it is."""

import os

import pytest

from runtime.linux import selinux

LABEL = "system_u:object_r:container_file_t:s0:c1,c2"


def test_without_a_label_nothing_is_touched(tmp_path):
    selinux.label_file(str(tmp_path), "")
    assert os.listxattr(tmp_path) == []
    with selinux.sockets(""):
        pass


@pytest.mark.skipif(os.path.exists("/sys/fs/selinux/enforce"), reason="SELinux takes the label")
def test_a_label_for_sockets_that_the_kernel_does_not_take_is_an_error():
    with pytest.raises(OSError, match=r"\[Errno \d+\]"), selinux.sockets(LABEL):
        pytest.fail("it took the label")

"""Rich containers in mode systemd, through the CRI."""

import pytest

from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods

EVERYWHERE = ("1.6-runc-pouchrich", "2.1-crun-pouchrich")
pytestmark = [pytest.mark.only(runtime="pouchrich"), pytest.mark.usually(*EVERYWHERE)]

SYSTEMD = System("systemd")


def test_pid_1_is_systemd_and_the_command_is_its_child(rich_pods: RichPods) -> None:
    container = rich_pods.run(SYSTEMD, "sh", "-c", "echo $PPID; exec sleep 300")
    assert container.shell("cat /proc/1/comm") == "systemd\n"
    container.wait_output(b"1\n")


@pytest.mark.parametrize("code", [0, 7])
def test_the_exit_code_is_the_commands(rich_pods: RichPods, code: int) -> None:
    assert rich_pods.run(SYSTEMD, "sh", "-c", f"exit {code}").wait().exit_code == code

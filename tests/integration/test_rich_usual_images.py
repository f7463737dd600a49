"""What common images for systemd, and migrated machines, have, and what stood in the way of an init."""

import pytest

from tests.integration import rich_images
from tests.integration.images import Entry
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import FOREVER, everywhere, running

pytestmark = pytest.mark.only(runtime="pouchrich")

LIMITS = b"[Manager]\nDefaultLimitNPROC=100\nDefaultLimitCORE=0\n"
RESOLVED = "../run/systemd/resolve/stub-resolv.conf"


@everywhere
def test_an_image_with_volumes_limits_and_systemd_resolveds_link_boots(rich_pods: RichPods) -> None:
    image = rich_images.import_variant(
        rich_pods.node,
        System("systemd"),
        "usual",
        [Entry("etc/systemd/system.conf.d/limits.conf", LIMITS), Entry("etc/resolv.conf", link=RESOLVED)],
        Volumes={"/sys/fs/cgroup": {}, "/run": {}},
    )
    container = running(rich_pods.create(rich_pods.pod("systemd"), image, "sh", "-c", FOREVER).start())
    assert container.shell("cat /proc/1/comm") == "systemd\n"
    assert container.shell("systemctl is-active pouchrich-app") == "active\n"
    container.stop(grace_s=20)
    container.remove()

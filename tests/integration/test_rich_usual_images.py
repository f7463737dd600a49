"""What common images for systemd, and migrated machines, have, and what stood in the way of an init."""

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import rich_images
from tests.integration.images import Entry
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, mode_of
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


@everywhere
@pytest.mark.parametrize("system", [System("systemd"), System("sysvinit")], ids=["systemd", "sysvinit"])
@pytest.mark.parametrize("read_only", [False, True])
def test_what_the_image_has_where_an_init_needs_a_file_system_in_memory_is_there(
    rich_pods: RichPods, system: System, read_only: bool
) -> None:
    """Such as sshd's /run/sshd, or a directory of a daemon's user, which a Containerfile makes."""
    entries = [
        Entry("run/app", mode=0o750, owner=1000),
        Entry("run/app/defaults", b"kept", mode=0o640, owner=1000),
        Entry("run/lock/app", mode=0o755),
        Entry("run/app.link", link="app/defaults"),
        Entry("var/log/app", mode=0o750, owner=1000),
    ]
    image = rich_images.import_variant(rich_pods.node, system, f"{system}-run", entries)
    context = pb.LinuxContainerSecurityContext(readonly_rootfs=read_only)
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(security_context=context))
    script = "stat -c '%a %u %g %n' /run /run/app /run/app/defaults /run/lock/app /var/log/app; cat /run/app.link"
    container = rich_pods.create(rich_pods.pod(mode_of(system)), image, "sh", "-c", script, config=config).start()
    assert container.wait(timeout_s=60).exit_code == 0
    container.wait_output(
        b"755 0 0 /run\n750 1000 1000 /run/app\n640 1000 1000 /run/app/defaults\n755 0 0 /run/lock/app\n"
        b"750 1000 1000 /var/log/app\nkept"
    )


@everywhere
def test_an_image_with_what_no_runtime_copies_boots_without_it(rich_pods: RichPods) -> None:
    entries = [Entry("run/app/directory"), Entry("run/app/initctl", fifo=True)]
    image = rich_images.import_variant(rich_pods.node, System("systemd"), "run-fifo", entries)
    container = rich_pods.create(rich_pods.pod("systemd"), image, "test", "!", "-e", "/run/app").start()
    assert container.wait(timeout_s=60).exit_code == 0
    assert "found '/run/app/initctl', which is no file, directory or symbolic link" in rich_pods.node.log.read_text()

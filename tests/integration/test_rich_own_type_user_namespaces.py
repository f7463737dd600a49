"""Rich containers with `hostUsers: false` by our own type, which containerd asks for features since 2.2.7 and 2.3.4.

What test_rich_user_namespaces.py asserts of the drop-in, of a handler without an options table; and what else a pod
that feels like a machine asks for.
"""

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration.node import Node
from tests.integration.pods import Pods
from tests.integration.rich_pods import security
from tests.integration.test_rich_application import FOREVER, running
from tests.integration.test_rich_hooks import hook
from tests.integration.test_rich_user_namespaces import (  # noqa: F401  # run here too
    CONFIGURATION,
    SYSTEMD,
    Mapped,
    fresh,
    test_another_user_has_its_streams_and_its_environment_for_shells,
    test_hooks_and_agents_are_in_the_user_namespace_too,
    test_root_in_the_container_may_make_cgroups_and_change_no_limit,
    test_the_application_runs_and_ends_as_it_would_without,
    test_the_terminal_is_the_applications,
)
from tests.integration.test_user_namespaces import FIRST_ID, NO_TABLE, user_namespace
from tests.integration.waiting import until

pytestmark = pytest.mark.only(containerd=("2.3", "2.4"), runtime="pouchrich")


@pytest.fixture
def mapped(node: Node, pods: Pods, fresh: None) -> Mapped:  # noqa: F811
    """By the handler that has no options table."""
    return Mapped(pods, handler=NO_TABLE)


def test_a_pod_that_feels_like_a_machine_is_up_whole(mapped: Mapped) -> None:
    """`hostUsers: false`, `readOnlyRootFilesystem`, `setHostnameAsFQDN`, `dnsPolicy: None`, and a real init."""
    config = security()
    config.linux.security_context.readonly_rootfs = True
    name = "machine.tests.svc.cluster.local"
    container = running(mapped.run("systemd", SYSTEMD, "sh", "-c", FOREVER, config=config, hostname=name))
    until(lambda: container.exec("systemctl", "is-system-running").stdout == b"running\n", "the system to be up")
    assert container.exec("systemctl", "list-units", "--failed", "--no-legend").stdout == b""
    assert container.exec("systemctl", "is-active", "cron", "rsyslog").stdout == b"active\nactive\n"
    assert container.shell("cat /etc/resolv.conf").strip() == "nameserver 192.0.2.1"
    assert container.shell("uname -n; cat /proc/sys/kernel/hostname").split() == [name, name]
    assert container.exec("touch", "/etc/x").exit_code != 0
    assert container.shell("cat /proc/self/uid_map").split()[1] == str(FIRST_ID)


@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_the_hosts_network_goes_with_a_user_namespace_and_no_route_is_set_in_it(mapped: Mapped, mode: str) -> None:
    """Kubernetes' feature UserNamespacesHostNetworkSupport, containerd's `user_namespaces_host_network`."""
    namespaces = user_namespace()
    namespaces.network = pb.NamespaceMode.NODE
    routes = '[[routes]]\nto = "198.51.100.0/24"\nvia = "192.0.2.1"\n'
    script = "echo ready; grep -c . /proc/net/route; exec sleep 300"
    container = running(mapped.run(mode, SYSTEMD, "sh", "-c", script, more=routes, namespaces=namespaces))
    assert container.shell("cat /proc/self/uid_map").split()[1] == str(FIRST_ID)
    assert "006433C6" not in container.shell("cat /proc/net/route")
    container.stop(grace_s=20)


def test_a_service_is_up_and_a_poststop_hook_sees_the_exit_status(mapped: Mapped) -> None:
    shared = mapped.pods.node.base / "mapped-service"
    shared.mkdir(exist_ok=True)
    shared.chmod(0o777)
    more = '[services]\nenable = ["cron"]\n' + hook(
        "poststop", "container", "cat >/dev/null; echo $POUCHRICH_EXIT_CODE $(id -u) >/shared/poststop"
    )
    config = pb.ContainerConfig(mounts=[pb.Mount(container_path="/shared", host_path=str(shared))])
    script = "systemctl is-active cron >/dev/stdout && exit 7"
    container = mapped.run("systemd", SYSTEMD, "sh", "-c", script, config=config, more=more)
    assert container.wait().exit_code == 7
    container.wait_output(b"active\n")
    assert (shared / "poststop").read_text() == "7 0\n"
    assert (shared / "poststop").stat().st_uid == FIRST_ID

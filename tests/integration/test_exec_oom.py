"""How likely the kernel is to kill, for want of memory, what was executed in a container."""

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration.pods import Pods
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.waiting import until

SCORE = 321


@pytest.mark.defect("crun leaves it at the shim's", oci="crun", runtime="runc.v2")
def test_an_exec_is_as_likely_to_be_killed_for_memory_as_the_container(pods: Pods) -> None:
    """Else the kernel kills the container's init for what an exec takes: a burstable pod has nearly 1000."""
    resources = pb.LinuxContainerResources(oom_score_adj=SCORE)
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(resources=resources))
    container = pods.run().run("sleep", "1000", config=config)
    for _ in range(20):
        assert container.shell("cat /proc/1/oom_score_adj /proc/self/oom_score_adj") == f"{SCORE}\n" * 2


@pytest.mark.only(runtime="pouchrich")
def test_so_are_the_nodes_hooks_and_agents_in_it(rich_pods: RichPods) -> None:
    look = "cat /proc/self/oom_score_adj >"
    hook = f'[[hooks.prestart]]\nname = "h"\nwhere = "container"\ncommand = ["/bin/sh", "-c", "{look}/hook"]\n'
    agent = f'[[agents]]\nname = "a"\ncommand = ["/bin/sh", "-c", "{look}/agent; exec sleep 1000"]\n'
    resources = pb.LinuxContainerResources(oom_score_adj=SCORE)
    config = pb.ContainerConfig(linux=pb.LinuxContainerConfig(resources=resources))
    pod = rich_pods.pod("dumb-init", more=hook + agent)
    container = rich_pods.create(pod, System("systemd"), "sleep", "1000", config=config).start()
    until(lambda: container.exec("test", "-s", "/agent").exit_code == 0, "the agent")
    assert container.shell("cat /hook /agent") == f"{SCORE}\n" * 2

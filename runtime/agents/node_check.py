"""Whether this node has what the agents of a configuration need. Create looks again, for the selected agents only."""

from runtime.agents.cgroup import has_v2_memory
from runtime.agents.mounts import check_sources
from runtime.agents.select import ROOT, Selected, require_memory
from runtime.config.model import Config


def check(config: Config) -> None:
    """Raise InvalidArgument for the first agent whose containers Create would refuse, whatever their image.

    That is an agent with a host path that is missing or that others than root can change, or with a `memory` limit that
    this node cannot set. Needs root, and a file system that a path is on may not answer (NFS, FUSE, autofs).
    """
    has_memory = has_v2_memory()
    chosen = [Selected(agent, f"agents[{index}]", ROOT) for index, agent in enumerate(config.agents)]
    for one in chosen:
        require_memory(one.agent, one.key, source=config.source, has_v2_memory=has_memory)
    check_sources(chosen, source=config.source)

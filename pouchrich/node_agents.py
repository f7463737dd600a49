"""The check of `pouchrich doctor` on what agents need of this node."""

import os
from collections.abc import Iterator

from pouchrich import node_files
from pouchrich.checks import FAIL, OK, Check
from runtime.config import Config
from runtime.errors import PouchrichError


def checks(config: Config) -> Iterator[Check]:
    """Whether the host paths and memory limits of the agents of `config` can be had; nothing where it has none."""
    if not config.agents or os.geteuid() != 0:
        return
    try:
        node_files.check_agents(config)
    except PouchrichError as err:
        advice = "correct it; until then Create fails for the containers that the agent is for"
        yield Check(FAIL, "agents of the configuration", str(err), advice)
    else:
        yield Check(OK, "agents of the configuration", f"{len(config.agents)}, this node has what they need")

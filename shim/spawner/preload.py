"""Imports all modules of a pod server, and fills their caches, once before the memory is shared.

A module that is missing here costs every pod its own copy. A module with a fork hook (`random` draws a new state) costs
every pod time and pages; `tests/process/spawner/test_preload.py` keeps such modules out.
"""

import asyncio
import importlib
import json
import logging
import time

MODULES = (
    "shim.pod.daemon",
    "shim.pod.server",
    "shim.pod.cleanup",
    "shim.spawner.info",
    "shim.task.hooks.poststop",
    "shim.installed.replaced",
)


def load() -> None:
    """Import everything, and use once whatever fills a cache on first use."""
    for name in MODULES:
        importlib.import_module(name)
    asyncio.run(_nothing())
    json.loads('{"a": [1, 2.5, true, null, "\\u00e9"]}')
    json.dumps({"a": [1, 2.5, True, None]})
    time.strftime("%Y", time.gmtime())
    from shim.pod import log

    log.format_record(logging.LogRecord("", logging.INFO, "", 0, "", (), None))


async def _nothing() -> None:
    pass

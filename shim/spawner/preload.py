"""Everything that a pod server imports and fills on first use, done once before it is shared.

What is missing here costs every pod its own copy. What is here and has a hook for forks (`random` draws a new state)
costs every pod the time and the pages; `tests/unit/test_preload.py` keeps it out.
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
    """Import, and use once what fills a cache when it is used."""
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

"""The entry point of the process that `shim.spawner.launch` executes. Any failure, even of an import, is recorded."""

import gc
import os
from typing import NoReturn

from shim.spawner import launch


def main(args: list[str]) -> NoReturn:
    """Run the spawner: see `shim.spawner.server.main`."""
    gc.disable()  # imports leave hardly any garbage, and each collection would visit everything imported so far
    try:
        from shim.spawner import server  # here, so that a broken installation is recorded too

        server.main(args)
    except BaseException as err:
        launch.record_refusal(args[0], f"it ended: {type(err).__name__}: {err}")
    finally:
        os._exit(1)

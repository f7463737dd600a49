"""Where the process that `shim.spawner.launch` executes begins: whatever ends it, also an import, it leaves a word."""

import os
from typing import NoReturn

from shim.spawner import launch


def main(args: list[str]) -> NoReturn:
    """Be the spawner: see `shim.spawner.server.main`."""
    try:
        from shim.spawner import server  # here, as half an installation is a reason too

        server.main(args)
    except BaseException as err:
        launch.refuse(args[0], f"it ended: {type(err).__name__}: {err}")
    finally:
        os._exit(1)

"""The executable. `start` and `delete` run for each container and have fast paths; else `shim.manager.command` acts.

The executable that hack/install.sh makes imports this module and calls `main`. A test limits what `start` and `delete`
import (`tests/process/test_import_budget.py`).
"""

import sys


def main() -> None:
    """Execute the command line and exit: 0 done, 1 failed with the reason on standard error, 2 bad usage."""
    if sys.argv[-1] == "start":
        from shim.manager import start

        start.main()
    if sys.argv[-1] == "delete":
        from shim.manager import delete_fast

        delete_fast.main()  # returns if there is something to clean up
    from shim.manager import command

    command.main()


if __name__ == "__main__":
    main()

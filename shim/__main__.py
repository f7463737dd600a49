"""The executable. `start` and `delete` run for each container and have short ways; else `shim.manager.command` acts.

The executable that hack/install.sh makes imports this module and calls `main`. What is imported on the way to
`start` and `delete` is counted (`tests/process/test_import_budget.py`).
"""

import sys


def main() -> None:
    """Do what the command line says and exit: 0 done, 1 failed with the reason on standard error, 2 bad usage."""
    if sys.argv[-1] == "start":
        from shim.manager import start

        start.main()
    if sys.argv[-1] == "delete":
        from shim.manager import delete_fast

        delete_fast.main()  # comes back where there is something to clean up
    from shim.manager import command

    command.main()


if __name__ == "__main__":
    main()

"""The script that the native program executes for what it does not do itself.

The script that hack/install.sh makes imports this module and calls `main`. `start` runs for each pod and has a fast
path; else `shim.manager.command` acts. A test limits what `start` and `delete` import
(`tests/process/test_import_budget.py`).
"""

import sys


def main() -> None:
    """Execute the command line and exit: 0 done, 1 failed with the reason on standard error, 2 bad usage."""
    if sys.argv[-1] == "start":
        from shim.manager import start

        start.main()
    from shim.manager import command

    command.main()


if __name__ == "__main__":
    main()

"""The executable. `start` runs for every container, so it goes its own short way; all else is `shim.command`'s.

The executable that hack/install.sh makes imports this module and calls `main`. What is imported on the way to
`start` and `delete` is counted (`tests/unit/test_import_budget.py`).
"""

import sys


def main() -> None:
    """Do what the command line says and exit: 0 done, 1 failed with the reason on standard error, 2 bad usage."""
    if sys.argv[-1] == "start":
        from shim import starter

        starter.main()
    from shim import command

    command.main()


if __name__ == "__main__":
    main()

"""Which processes mean by a path what this one does. What a container runs may name any path, and have files there."""

import os


def is_seen(pid: str, directory: str, *, proc: str = "/proc") -> bool:
    """Whether `directory`, an absolute path, is for the process `pid` the directory that it is here.

    True as well where that cannot be told, as of another user's process; False where the process has ended.
    """
    try:
        return os.path.samestat(os.stat(f"{proc}/{pid}/root{directory}"), os.stat(directory))
    except (FileNotFoundError, NotADirectoryError, ProcessLookupError):
        return False
    except OSError:
        return True

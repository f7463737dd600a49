"""Whether a path that a process names is the file that this process knows: a container may have another one there."""

import os

from runtime.linux import statx


def is_seen(pid: str, directory: str, *, proc: str = "/proc") -> bool:
    """Whether `directory`, an absolute path, is for the process `pid` the directory that it is here.

    Never for one with another root directory, of whose file systems nothing is asked: an absolute symbolic link there
    would lead on here, and a FUSE file system need not answer. True where the root cannot be told, as of another user's
    process; False where the process has ended.
    """
    try:
        root = os.open(f"{proc}/{pid}/root", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except (FileNotFoundError, ProcessLookupError):
        return False
    except OSError:
        return True
    try:
        if statx.identity(f"/proc/self/fd/{root}") != statx.identity("/"):
            return False
        return os.path.samestat(os.stat(directory.lstrip("/") or ".", dir_fd=root), os.stat(directory))
    except OSError:
        return False
    finally:
        os.close(root)

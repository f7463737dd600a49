"""Whether a path that a process names is the same file as here: in a container it may be another one."""

import os

from runtime.linux import statx


def is_seen(pid: str, directory: str, *, proc: str = "/proc") -> bool:
    """Whether `directory`, an absolute path, is the same directory for process `pid` as for this process.

    False for a process with another root directory, without a look at its file systems: an absolute symbolic link there
    would be followed here, and a FUSE file system need not answer. True where the root cannot be read, as for another
    user's process; False where the process has ended.
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

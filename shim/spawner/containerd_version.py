"""Whether this node's containerd accepts version 3 of the start protocol: 2.0 and later do; for 1.7 it is an error.

From 2.3 on the input of `start` shows the release (shim.contract.bootstrap). Before that, nothing tells 2.0 from 1.7:
MAX_SHIM_VERSION is 2 in both. So the spawner runs containerd's executable with `--version`, once, during its own
imports.
"""

import os
from _signal import SIGKILL

PATIENCE_S = 2.0
_NAME = "containerd"

_takes_3 = False


def accepts_version_3() -> bool:
    """Whether containerd is known to accept version 3."""
    return _takes_3


class VersionQuery:
    """A running `containerd --version`, with the executable of the process `containerd`."""

    def __init__(self, containerd: int) -> None:
        """Start the command."""
        self._said = os.memfd_create("release", os.MFD_CLOEXEC)
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, self._said, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        # argv[0] is the name, because one executable may be several programs (k3s).
        words = [_NAME, "--version"]
        try:
            self._pid = os.posix_spawn(f"/proc/{containerd}/exe", words, os.environ, file_actions=actions)
        except OSError:  # it has ended, or may not be executed: no answer
            self._pid = 0

    def finish(self) -> None:
        """Note the answer for `accepts_version_3`, if it comes in time."""
        global _takes_3
        if self._pid:
            from runtime.linux import readable  # here, as `delete` without a spawner imports this module

            ended = os.pidfd_open(self._pid)
            in_time = readable.within(ended, PATIENCE_S)
            if not in_time:
                os.kill(self._pid, SIGKILL)
            os.close(ended)
            os.waitpid(self._pid, 0)
            _takes_3 = in_time and major_of(os.pread(self._said, 4096, 0)) >= 2
        os.close(self._said)


def major_of(said: bytes) -> int:
    """The major version in the output of `containerd --version`, 0 if it cannot be found.

    `containerd github.com/containerd/containerd/v2 v2.1.9 COMMIT`; distributions write 2.1.9~ds1 and the like.
    """
    words = said.decode(errors="replace").split()
    if len(words) < 3 or words[0] != _NAME:
        return 0
    number = words[2].removeprefix("v").partition(".")[0]
    return int(number) if number.isascii() and number.isdigit() else 0

"""What `ps` shows for this process: a command line written over its own, in place.

A forked child keeps its parent's command line. PR_SET_MM could point the kernel at new memory but needs
CAP_SYS_RESOURCE, so the new words overwrite the old ones. A process whose children need long titles must itself be
started with a command line at least as long.
"""

from __future__ import annotations

import ctypes
import os
from typing import TYPE_CHECKING

from runtime.linux import syscalls

if TYPE_CHECKING:
    from collections.abc import Sequence

# proc_pid_stat(5) numbers the fields from 1; the text after the parenthesised comm starts with field 3.
_ARG_START, _ARG_END = 48 - 3, 49 - 3


def _argument_area() -> tuple[int, int]:
    """Address and size in bytes of the memory behind /proc/self/cmdline; size 0 where they are unknown.

    The kernel hides them from some processes. Where programs of another architecture are emulated (qemu's user mode)
    the file is the emulator's, and shorter.
    """
    fd = os.open("/proc/self/stat", os.O_RDONLY | os.O_CLOEXEC)
    try:
        stat = os.read(fd, 4096)
    finally:
        os.close(fd)
    fields = stat[stat.rindex(b")") + 2 :].split()
    if len(fields) <= _ARG_END:
        return 0, 0
    start, end = int(fields[_ARG_START]), int(fields[_ARG_END])
    return start, end - start


def set_title(words: Sequence[str]) -> bool:
    """Make `words` this process's command line, and the base name of the first its `comm` (15 bytes).

    The words end in NULs like those of an executed command line. False if something had to be cut off. Call this from
    the main thread: `comm` is a thread's.
    """
    encoded = b"".join(os.fsencode(word).replace(b"\0", b" ") + b"\0" for word in words)
    start, size = _argument_area()
    if size > 0:
        # The last byte stays NUL: otherwise the kernel also reads the environment (fs/proc/base.c, get_mm_cmdline), for
        # sendmail's old way of setting a title.
        ctypes.memmove(start, encoded[: size - 1].ljust(size, b"\0"), size)
    syscalls.set_name(os.path.basename(words[0]))
    return len(encoded) <= size

"""A regular file as a block device while it is mounted. Source: loop(4), <linux/loop.h>."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_LOOP_CONFIGURE = 0x4C0A  # Linux 5.8
_LOOP_CTL_GET_FREE = 0x4C82
_LO_FLAGS_READ_ONLY = 1
_LO_FLAGS_AUTOCLEAR = 4
_LO_FLAGS_DIRECT_IO = 16

# struct loop_config: fd, block size, struct loop_info64 (five u64, three u32, the flags, file name, cipher
# name, key, two u64), eight reserved u64.
_CONFIG = struct.Struct("=II 5Q 3I I 64s 64s 32s 2Q 64x")
_NAME_SIZE = 64

# Another process may take the device between GET_FREE and CONFIGURE, at each attempt.
_ATTEMPTS = 100


def _configure(device: int, backing: int, path: str, flags: int) -> bool:
    """Bind `backing` to `device`; False where another process was faster."""
    name = os.fsencode(path)[: _NAME_SIZE - 1]
    config = _CONFIG.pack(backing, 0, *(0,) * 5, *(0,) * 3, flags, name, b"", b"", 0, 0)
    try:
        fcntl.ioctl(device, _LOOP_CONFIGURE, config)
    except OSError as err:
        if err.errno == errno.EBUSY:
            return False
        raise OSError(err.errno, os.strerror(err.errno or 0), f"loop: {path}") from err
    return True


def _attach(backing: int, path: str, mode: int, flags: int) -> tuple[int, str]:
    control = os.open("/dev/loop-control", os.O_RDWR | os.O_CLOEXEC)
    try:
        for _ in range(_ATTEMPTS):
            name = f"/dev/loop{fcntl.ioctl(control, _LOOP_CTL_GET_FREE)}"
            device = os.open(name, mode | os.O_CLOEXEC)
            attached = False
            try:
                attached = _configure(device, backing, path, flags)
            finally:
                if not attached:
                    os.close(device)
            if attached:
                return device, name
    finally:
        os.close(control)
    raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), f"loop: {path}")


@contextmanager
def attached(path: str, *, read_only: bool, direct_io: bool) -> Iterator[str]:
    """The name of a loop device for `path`, to be mounted inside the `with`.

    The device frees itself with its last user (autoclear): at the end of the `with` or, once mounted, at the unmount.
    Raises OSError.
    """
    mode = os.O_RDONLY if read_only else os.O_RDWR
    flags = _LO_FLAGS_AUTOCLEAR
    flags |= _LO_FLAGS_READ_ONLY if read_only else 0
    flags |= _LO_FLAGS_DIRECT_IO if direct_io else 0
    backing = os.open(path, mode | os.O_CLOEXEC)
    try:
        device, name = _attach(backing, path, mode, flags)
    finally:
        os.close(backing)
    try:
        yield name
    finally:
        os.close(device)

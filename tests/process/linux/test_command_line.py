"""runtime.linux.command_line: no process has anybody read more than LIMIT bytes, whatever it has the kernel show."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime.linux import command_line

ROOT = Path(__file__).parents[3]

HOSTILE = """
import ctypes, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
size = 1 << 40
PROT_READ, MAP_PRIVATE, MAP_ANONYMOUS, MAP_NORESERVE = 1, 2, 0x20, 0x4000
start = libc.mmap(None, size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
fields = [0, 0, 0, *open("/proc/self/stat").read().rpartition(")")[2].split()]
code, stack, data, brk = fields[26:28], fields[28:29], fields[45:47], fields[47:48]
environment = fields[50:52]
words = map(int, [*code, *data, *brk, *brk, *stack, start, start + size, *environment])
room = struct.pack("=11QQIi", *words, 0, 0, -1)
PR_SET_MM, PR_SET_MM_MAP = 35, 14
done = libc.prctl(PR_SET_MM, PR_SET_MM_MAP, ctypes.c_char_p(room), ctypes.c_ulong(len(room)), ctypes.c_ulong(0))
print(ctypes.get_errno() if done else 0, flush=True)
sys.stdin.read()
"""
"""A program that shows a terabyte; it says first what errno the kernel gave it."""

LOOK = """
import resource
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from runtime.oci import interrupted
interrupted.kill_creates("/nowhere/of/nobody")
"""


@pytest.fixture
def hostile():
    with subprocess.Popen([sys.executable, "-c", HOSTILE], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        errno = int(process.stdout.readline())
        if errno:
            process.communicate(b"")
            pytest.skip(f"PR_SET_MM_MAP: errno {errno}")  # CONFIG_CHECKPOINT_RESTORE is not set, or an older kernel
        yield process
        process.communicate(b"")


def test_no_more_is_read_than_the_limit(hostile):
    assert len(command_line.read(hostile.pid)) == command_line.LIMIT


def test_who_looks_for_creates_takes_no_memory_for_it(hostile):
    subprocess.run([sys.executable, "-c", LOOK], cwd=ROOT, check=True)
    assert hostile.poll() is None

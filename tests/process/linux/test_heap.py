"""Memory shared with forked processes, in interpreters of its own: what it must never do is change a byte."""

import subprocess
import sys
from pathlib import Path

import pytest

from runtime import libexec
from runtime.errors import FailedPrecondition
from runtime.linux import heap

ROOT = Path(__file__).resolve().parents[3]
PAGE = 4096

BEGIN = """
import sys
sys.path[:] = sys.argv[1].split(":")
LIBRARY = sys.argv[2]
import gc, json, os, random, threading, time
from runtime.linux import heap, threads

def private(kind="Private"):
    with open("/proc/self/smaps_rollup") as file:
        return sum(int(line.split()[1]) for line in file if line.startswith(kind))  # KiB

def in_child(play):
    pid = os.fork()
    if pid == 0:
        try:
            play()
        except BaseException as err:
            sys.excepthook(type(err), err, err.__traceback__)
            os._exit(1)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
"""


@pytest.fixture
def library() -> str:
    try:
        return libexec.path("heap.so")
    except FailedPrecondition as err:
        pytest.skip(str(err))


def run(program: str, library: str) -> None:
    paths = ":".join([str(ROOT), *filter(None, sys.path)])
    done = subprocess.run([sys.executable, "-ISc", BEGIN + program, paths, library], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_pages_that_hold_what_they_held_are_given_back_and_no_other(library: str):
    run(
        """
kept = [bytes([65 + number % 26]) * 400 for number in range(20000)]  # 8 MB of small objects
there_and_back = [bytearray(400) for _ in range(10000)]
changed = [bytearray(400) for _ in range(1000)]
heap.share(LIBRARY, heap.ranges())

def play():
    before = private()
    for buffer in there_and_back:
        buffer[200] = 1
    for buffer in changed:
        buffer[200] = 1
    copied = private()
    assert copied - before > 3900, (before, copied)
    for buffer in there_and_back:
        buffer[200] = 0
    dropped = heap.give_back()
    assert dropped * 4 > 3500, dropped
    assert copied - private() > 3500, (copied, private())
    assert all(buffer[200] == 1 and buffer.count(1) == 1 for buffer in changed)
    assert all(not any(buffer) for buffer in there_and_back)
    assert all(set(piece) == {65 + number % 26} for number, piece in enumerate(kept))
    heap.give_back()  # the objects looked at meanwhile
    assert heap.give_back() * 4 < 1600

in_child(play)
in_child(play)  # nothing of the first child's is in the second
assert all(not any(buffer) for buffer in changed)
""",
        library,
    )


def test_an_interpreter_that_gives_back_at_any_moment_computes_the_same(library: str):
    run(
        """
class Node:
    def __init__(self, number, following):
        self.number, self.following = number, following

def compute(look):
    source = random.Random(7)
    table, chain, text = {}, None, ""
    for step in range(80):
        key = f"key-{source.randrange(400)}"
        table[key] = [source.random() for _ in range(source.randrange(60))]
        chain = Node(step, chain) if step % 50 else None
        text = json.dumps(table)[: source.randrange(1, 5000)]
        if step % 40 == 0:
            gc.collect()
        look()
    return sorted((key, sum(values)) for key, values in table.items()), text

expected = compute(lambda: None)
gc.collect()
gc.freeze()
heap.share(LIBRARY, heap.ranges())
assert compute(heap.give_back) == expected  # in the process itself

def play():
    assert compute(heap.give_back) == expected
    grown = [object() for _ in range(200000)]  # memory made after the sharing is nobody else's
    heap.give_back()
    assert len({id(one) for one in grown}) == 200000

for _ in range(3):
    in_child(play)
""",
        library,
    )


def test_nothing_is_given_back_while_a_thread_runs_or_where_nothing_is_shared(library: str):
    run(
        """
assert heap.give_back() is None and not heap.is_shared()
end = threading.Event()
thread = threading.Thread(target=end.wait)
thread.start()
patience_s, threads.ENDED_TIMEOUT_S = threads.ENDED_TIMEOUT_S, 0.01
try:
    heap.share(LIBRARY, heap.ranges())
    raise AssertionError("shared beside a thread")
except TimeoutError as err:
    assert str(err) == "other threads still run"
threads.ENDED_TIMEOUT_S = patience_s
end.set()
thread.join()
heap.share(LIBRARY, heap.ranges())

def play():
    end = threading.Event()
    thread = threading.Thread(target=end.wait)
    thread.start()
    assert heap.is_shared() and heap.give_back() is None
    end.set()
    thread.join()
    while len(os.listdir("/proc/self/task")) > 1:  # Python forgets it a little earlier than the kernel
        time.sleep(0.001)
    assert heap.give_back() is not None

in_child(play)
try:
    heap.share(LIBRARY, heap.ranges())
    raise AssertionError("shared twice")
except OSError as err:
    assert str(err) == "[Errno 22] heap_share: Invalid argument" or err.errno == 22, err
""",
        library,
    )


def test_what_is_made_after_filling_is_made_on_pages_of_its_own(library: str):
    """Of small objects, and of those that the C library finds room for: there are holes here and there among both."""
    run(
        """
def with_holes(size):
    pieces = [bytes(size) for _ in range(8_000_000 // size)]
    del pieces[::10]
    return pieces

kept = [with_holes(size) for size in (400, 2000)]
heap.fill(LIBRARY)
heap.share(LIBRARY, heap.ranges())

def play():
    before = private("Anonymous")
    made = [bytes(size) for size in (400, 2000) for _ in range(400_000 // size)]
    copied = private("Anonymous") - before
    assert copied < 2400, copied  # 800 KB, and what counting references copies

in_child(play)
""",
        library,
    )


def test_what_is_shared_can_be_mapped_without_copying_it(library: str):
    run(
        """
kept = [bytes(400) for _ in range(20000)]
heap.share(LIBRARY, heap.ranges())

def play():
    copied, resident = private("Anonymous"), private("Rss")
    heap.map_shared()
    assert private("Anonymous") - copied < 400
    assert private("Rss") - resident > 4000

in_child(play)
""",
        library,
    )


def test_a_stack_that_a_thread_has_left_is_none_of_the_mappings(library: str):
    """Its pages, which nobody has touched, would be made to take memory."""
    run(
        """
before = set(heap._writable())
thread = threading.Thread(target=time.sleep, args=(0,))
thread.start()
thread.join()
stacks = [(begin, end) for begin, end in set(heap._writable()) - before if end - begin >= 1 << 23]
assert stacks  # the C library keeps it for the next
assert not set(stacks) & set(heap.ranges())
""",
        library,
    )


def test_where_nothing_is_shared_there_is_nothing_to_map_and_nothing_to_give_back():
    assert not heap.is_shared()
    heap.map_shared()
    assert heap.give_back() is None


def test_a_missing_library_is_an_oserror(tmp_path: Path):
    run(
        """
try:
    heap.share(LIBRARY, [])
except OSError as err:
    assert LIBRARY in str(err), err
else:
    raise AssertionError("no error")
assert not heap.is_shared()
""",
        f"{tmp_path}/heap.so",
    )

"""The spawner: a process that has imported everything a pod server uses, and forks pod servers.

The spawner has no threads, no event loop and no open files except its socket, its lock, a pidfd of its containerd, the
OCI runtimes, the lock that keeps its installed version (`shim.installed.version`), and the channel to a child that is
ready for the next request. It keeps no state: a child reads and carries out each request (`shim.spawner.child`) and
becomes the pod server, so no request can block or change the spawner. The spawner ends when its containerd ends, when
no request has come for the configured time, when the configuration or an OCI runtime has changed, and when another
spawner has taken its place.

The spawner warms up before it serves, which takes half as long as its imports. Where objects can be immortal, its pod
servers are small even without that (0.6 MiB more). There it serves at once, so that a node boots fast, and warms up in
a fork that takes its place, at the first moment without a request after the first seconds.

The spawner ignores SIGCHLD, so its children leave no zombies, and init adopts them when the spawner ends. A double fork
would have no advantage.
"""

import gc
import os
import select
import shutil
import time
from _signal import SIG_DFL, SIG_IGN, SIG_SETMASK, SIGCHLD, SIGKILL, pthread_sigmask, signal
from _socket import socket
from collections.abc import Callable
from contextlib import suppress
from typing import NoReturn

import shim
from runtime import config, libexec
from runtime.config.location import NODE_FILE
from runtime.default_path import DEFAULT_PATH
from runtime.errors import PouchrichError, text_of
from runtime.linux import heap, proctitle, stamp, syscalls
from runtime.oci import readonly_exec
from shim.installed import replaced, version
from shim.spawner import adaptive, child, containerd_version, immortal, launch, preload, receive, specializing, warmup
from shim.spawner.prefork import Prefork
from shim.spawner.request import LOCK_SUFFIX, containerd_of

PREFORK_AFTER_S = 0.05
"""After this long without a request the spawner forks a child for the next one."""

WARM_UP_AFTER_S = 0.1
"""After this much longer without a request it forks a successor that warms up. On a node where pods start all the time
there may be no longer pause."""

WARM_UP_AGE_S = 2.0
"""It does so at this age at the earliest: the first pods of a node that boots go first."""

_CODE = shim.__path__[0]
"""The directory of this code. Another one may take its place."""


def main(args: list[str]) -> NoReturn:
    """Run the spawner that `shim.spawner.launch` began.

    `args`: path, key, the descriptors lock, pidfd and listener, idle time in seconds, room for the title.
    """
    path, key, lock, pidfd, listener, idle_s, _ = args
    version.lock_in_use()  # until here its command line has kept the version
    proctitle.set_title([launch.TITLE])
    for fd in (lock, pidfd, listener):
        os.set_inheritable(int(fd), False)
    pthread_sigmask(SIG_SETMASK, ())  # containerd may have been started with signals blocked
    configured = stamp.of_file(NODE_FILE)
    heap.use_one_arena()
    asked = containerd_version.VersionQuery(containerd_of(key))
    preload.load()
    gc.enable()  # `shim.spawner.entry` has disabled it
    asked.finish()
    _hold_runtimes()
    is_warm = not immortal.is_possible()
    if is_warm:
        _warm_up(path)
    signal(SIGCHLD, SIG_IGN)
    with suppress(OSError):
        child.raise_oom_score(above=containerd_of(key))
    spawner = Spawner(path, key, int(lock), int(pidfd), int(listener), configured, is_warm=is_warm)
    try:
        if is_warm:  # otherwise nothing but the imports has run
            gc.collect()
        _share()
        launch.clear_refusal(path)
        launch.mark_ready(int(lock))
        spawner.serve(float(idle_s))
    except BaseException as err:
        launch.record_refusal(path, f"it ended: {type(err).__name__}: {text_of(err)}")
    finally:
        spawner.close()
        os._exit(0)


class Spawner:
    """Listens at `path` for starters with the same `key`.

    `lock` is the lock file's descriptor, `pidfd` a pidfd of its containerd, `listener` the socket's descriptor. A
    spawner that is not warm is replaced, when there is time, by a fork of itself that has warmed up.
    """

    def __init__(
        self,
        path: str,
        key: str,
        lock: int,
        pidfd: int,
        listener: int,
        configured: tuple[int, ...],
        *,
        is_warm: bool,
    ) -> None:
        self._path = path
        self._key = key
        self._lock = lock
        self._pidfd = pidfd
        self._configured = configured
        self._code = stamp.of_file(_CODE)[:2]
        self._listener = socket(fileno=listener)
        self._listener.setblocking(False)  # a successor may accept a connection first that both have seen
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(pidfd, select.POLLIN)
        self._prefork: Prefork | None = None
        self._is_warm = is_warm
        self._warm_up_at = time.monotonic() + WARM_UP_AGE_S
        self._is_owner = True
        self._successor = -1

    def serve(self, idle_s: float) -> None:
        """Serve until it is time to end."""
        todo = self._todo()
        while self._is_wanted():
            rest_s, act = todo[0] if todo else (idle_s, None)
            ready = [fd for fd, _ in self._poll.poll(rest_s * 1000)]
            if not ready and act is not None:
                todo = todo[1:]
                with suppress(OSError):  # no process or descriptor is free now; there may be later
                    act()
                continue
            if not ready:
                self._end_prefork()  # which is a child, too
                if self._is_of_use():
                    continue
                return
            if self._successor in ready:
                if self._has_succeeded():
                    return
                continue
            if self._pidfd in ready:  # containerd has ended
                return
            try:
                fd = self._listener._accept()[0]  # type: ignore[attr-defined]
            except OSError:  # the starter is gone, or no descriptor is free: it does the work itself
                continue
            prefork, self._prefork, todo = self._prefork, None, self._todo()
            if not (prefork and prefork.take(fd)) and os.fork() == 0:
                receive.serve_connection(fd, self._key)
            os.close(fd)

    def _is_wanted(self) -> bool:
        is_here = launch.is_file(self._lock, self._path + LOCK_SUFFIX)
        return is_here and stamp.of_file(NODE_FILE) == self._configured and readonly_exec.are_unchanged()

    def _is_of_use(self) -> bool:
        """Whether to stay without requests: pod servers share memory only with those of the same spawner.

        A spawner whose pod servers live has little memory of its own. The next one would have all of it once more.
        """
        return replaced.is_current() and stamp.of_file(_CODE)[:2] == self._code and _has_children()

    def _end_prefork(self) -> None:
        if self._prefork is not None:
            self._prefork.end()
            self._prefork = None

    def _todo(self) -> list[tuple[float, Callable[[], None]]]:
        """What to do in quiet times, in order: (seconds without a request, action)."""
        warm_up_s = max(WARM_UP_AFTER_S, self._warm_up_at - time.monotonic())
        return [
            (PREFORK_AFTER_S, self._make_ready),
            *([] if self._is_warm else [(warm_up_s, self._begin_successor)]),
        ]

    def _make_ready(self) -> None:
        self._prefork = Prefork(self._key)

    def _begin_successor(self) -> None:
        """Fork a spawner that takes this one's place once it has warmed up. Raises OSError."""
        self._is_warm = True  # if it fails, this one goes on as it is
        ours, theirs = os.pipe()
        predecessor = os.getpid()
        if os.fork() != 0:
            os.close(theirs)
            self._successor = ours
            self._poll.register(ours, select.POLLIN)
            return
        try:
            os.close(ours)
            syscalls.set_pdeathsig(SIGKILL)  # another spawner may begin, and warm up in the same directory
            if os.getppid() != predecessor:
                os._exit(1)
            if self._prefork is not None:
                self._prefork.forget()
            self._prefork, self._is_owner = None, False
            signal(SIGCHLD, SIG_DFL)
            specializing.turn(on=True)
            _warm_up(self._path)
            signal(SIGCHLD, SIG_IGN)
            gc.collect()
            _share()
            syscalls.set_pdeathsig(0)
            launch.mark_ready(self._lock)
            os.write(theirs, b"\0")
            os.close(theirs)
            self._is_owner = True
            with suppress(OSError):
                self._make_ready()
        except BaseException:
            os._exit(1)

    def _has_succeeded(self) -> bool:
        """Whether the successor serves. If not, it has ended, and is forgotten."""
        self._is_owner = not os.read(self._successor, 1)
        self._poll.unregister(self._successor)
        os.close(self._successor)
        self._successor = -1
        return not self._is_owner

    def close(self) -> None:
        """Remove the socket and the lock, unless they belong to another spawner by now."""
        if self._is_owner and launch.is_file(self._lock, self._path + LOCK_SUFFIX):
            os.unlink(self._path)
            os.unlink(self._path + LOCK_SUFFIX)


def _warm_up(path: str) -> None:
    """Keep Python from writing into code or, if that is impossible, have it do so now, before the forks."""
    with suppress(Exception):  # pod servers then just need more memory and time
        rounds = 1 if adaptive.turn_off() else warmup.ADAPTING_ROUNDS
        warmup.run(path + launch.WARMUP_SUFFIX, rounds=rounds)


def _share() -> None:
    """Keep the memory's present contents shared with the processes that are forked from now on."""
    specializing.turn(on=False)
    ranges = None if immortal.turn_on() else heap.ranges()
    with suppress(OSError, PouchrichError):  # pod servers then just need more memory
        heap.fill(libexec.path("heap.so"))
    gc.freeze()  # the garbage collector must not write to shared pages
    if ranges is not None:
        with suppress(OSError, PouchrichError):
            heap.share(libexec.path("heap.so"), ranges)


def _has_children() -> bool:
    """Whether a child lives. None that has ended is left, because SIGCHLD is ignored (waitid(2))."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return False
    return True


def _hold_runtimes() -> None:
    """Open OCI runtimes for the pod servers: the node's, and those that a handler is likely to name."""
    named = None
    with suppress(PouchrichError):  # each Create will report it
        named = config.load_node(programs=False).runtime.binary
    search = os.environ.get("PATH", DEFAULT_PATH)
    for name in dict.fromkeys([named or readonly_exec.NAMES[0], *readonly_exec.NAMES]):
        found = shutil.which(name, path=search)
        if found and os.path.basename(found) in readonly_exec.NAMES:
            with suppress(OSError):  # pod servers then run the installed file
                readonly_exec.mount_readonly(os.path.abspath(found))

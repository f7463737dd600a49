"""The spawner: a process with everything imported that a pod server uses, and a pod server for a fork.

It has no thread, no event loop and no file but its socket, its lock, a pidfd of its containerd, the OCI runtimes, the
lock that keeps the version it runs (`shim.installed.version`), and the channel to a child that is ready for the next
request. It remembers nothing: each request is read and carried out by the child that becomes the pod server
(`shim.spawner.child`), so nothing that a request does or meets can hold up or change the spawner. It ends when its
containerd has, when nobody has asked for the configured time, when the configuration or an OCI runtime has changed, and
when another has taken its place.

Its children are children of a process that ignores SIGCHLD, so they leave no zombies, and get init for a parent when
it ends. That is one fork, where two would buy nothing.
"""

import gc
import os
import select
import shutil
import sys
from _signal import SIG_IGN, SIG_SETMASK, SIGCHLD, pthread_sigmask, signal
from _socket import AF_UNIX, CMSG_LEN, SCM_RIGHTS, SO_PEERCRED, SOCK_SEQPACKET, SOL_SOCKET, socket, socketpair
from contextlib import suppress
from typing import NoReturn

from runtime import config, libexec
from runtime.config.location import NODE_FILE
from runtime.default_path import DEFAULT_PATH
from runtime.errors import PouchrichError, text_of
from runtime.linux import heap, mountinfo, proctitle, stamp
from runtime.oci import program
from shim.installed import version
from shim.spawner import adaptive, child, immortal, launch, preload, warmup
from shim.spawner.request import LOCK_SUFFIX, REFUSED, Request, containerd_of

REQUEST_LIMIT = 1 << 18
"""More than a unix socket's default buffer takes (net.core.wmem_default); longer requests are the starter's own."""

REFUSAL_LIMIT = 1024
RECEIVE_TIMEOUT_S = 1.0
REST_S = 0.05
"""Without a request for so long, there is time to fork for the next one."""


def main(args: list[str]) -> NoReturn:
    """Be the spawner that `shim.spawner.launch` began.

    `args`: path, key, the descriptors lock, pidfd and listener, idle time in seconds, room for the title.
    """
    path, key, lock, pidfd, listener, idle_s, _ = args
    version.hold()  # its command line has named the version until now
    proctitle.set_title([launch.TITLE])
    for fd in (lock, pidfd, listener):
        os.set_inheritable(int(fd), False)
    pthread_sigmask(SIG_SETMASK, ())  # whatever containerd was started with
    configured = stamp.of(NODE_FILE)
    heap.use_one_arena()
    preload.load()
    _hold_runtimes()
    with suppress(Exception):  # pod servers then only take more memory, and time
        _warm_up(f"{path}.warmup")
    signal(SIGCHLD, SIG_IGN)
    with suppress(OSError):
        child.raise_oom_score(above=containerd_of(key))
    spawner = Spawner(path, key, int(lock), int(pidfd), int(listener), configured)
    try:
        gc.collect()
        _share()
        launch.accept(path)
        launch.mark_ready(int(lock))
        spawner.serve(float(idle_s))
    except BaseException as err:
        launch.refuse(path, f"it ended: {type(err).__name__}: {text_of(err)}")
    finally:
        spawner.close()
        os._exit(0)


class Spawner:
    """Listens at `path` for starters with the same `key`.

    `lock` is the lock file's descriptor, `pidfd` that of the containerd served, `listener` the socket's.
    """

    def __init__(self, path: str, key: str, lock: int, pidfd: int, listener: int, configured: tuple[int, ...]) -> None:
        self._path = path
        self._key = key
        self._lock = lock
        self._configured = configured
        self._listener = socket(fileno=listener)
        self._poll = select.poll()
        self._poll.register(self._listener, select.POLLIN)
        self._poll.register(pidfd, select.POLLIN)
        self._prefork: _Prefork | None = None

    def serve(self, idle_s: float) -> None:
        """Serve until it is time to go."""
        rest_s = REST_S
        while self._is_wanted():
            ready = [fd for fd, _ in self._poll.poll((rest_s or idle_s) * 1000)]
            if not ready and rest_s:
                rest_s = 0.0
                with suppress(OSError):  # no process or descriptor is left; there may be when one is asked for
                    self._prefork = _Prefork(self._key)
                continue
            if ready != [self._listener.fileno()]:
                return
            try:
                fd = self._listener._accept()[0]  # type: ignore[attr-defined]
            except OSError:  # the starter has gone, or no descriptor is left; it helps itself
                continue
            prefork, self._prefork, rest_s = self._prefork, None, REST_S
            if not (prefork and prefork.take(fd)) and os.fork() == 0:
                _carry_out(fd, self._key)
            os.close(fd)

    def _is_wanted(self) -> bool:
        is_here = launch.is_file(self._lock, self._path + LOCK_SUFFIX)
        return is_here and stamp.of(NODE_FILE) == self._configured and program.are_current()

    def close(self) -> None:
        """Remove the socket and the lock, unless they are another's by now."""
        if launch.is_file(self._lock, self._path + LOCK_SUFFIX):
            os.unlink(self._path)
            os.unlink(self._path + LOCK_SUFFIX)


def _warm_up(directory: str) -> None:
    """Keep Python from writing into code or, where it will, have it write now what it will."""
    rounds = 1 if adaptive.turn_off() else warmup.ADAPTING_ROUNDS
    warmup.run(directory, rounds=rounds)


def _share() -> None:
    """Have what is in memory now stay shared with the processes that are forked from now on."""
    ranges = None if immortal.turn_on() else heap.ranges()
    with suppress(OSError, PouchrichError):  # pod servers then only take more memory
        heap.fill(libexec.path("heap.so"))
    gc.freeze()  # the collector must not write into pages that are shared
    if ranges is not None:
        with suppress(OSError, PouchrichError):
            heap.share(libexec.path("heap.so"), ranges)


class _Prefork:
    """A child that waits for a request: to fork takes longer than all the rest of a `start`.

    It knows no more than one that is forked for the request, and ends with the spawner.
    """

    TITLE = "prefork"

    def __init__(self, key: str) -> None:
        self._channel, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
        try:
            if os.fork() == 0:
                _wait(self._channel, theirs, key)
        finally:
            theirs.close()

    def take(self, fd: int) -> bool:
        """Hand the connection `fd` over; return whether it is still there to take it. To be called once."""
        try:
            self._channel.sendmsg([b"\0"], [(SOL_SOCKET, SCM_RIGHTS, fd.to_bytes(4, sys.byteorder))])
        except OSError:
            return False
        finally:
            self._channel.close()
        return True


def _wait(spawners: socket, channel: socket, key: str) -> NoReturn:
    """In the prefork child: wait for the connection, and carry out what comes by it. `spawners` is the other's end."""
    try:
        spawners.close()
        proctitle.set_title([launch.TITLE, _Prefork.TITLE])
        heap.map_shared()
        _, ancillary, _, _ = channel.recvmsg(1, CMSG_LEN(4))
        ((_, _, data),) = ancillary  # nothing: the spawner has ended
        channel.close()
    except BaseException:
        os._exit(1)
    _carry_out(int.from_bytes(data[:4], sys.byteorder), key)


def _hold_runtimes() -> None:
    """Have OCI runtimes ready for the pod servers: the node's, and those that a handler is likely to name."""
    named = None
    with suppress(PouchrichError):  # each Create will say so
        named = config.load_node().runtime.binary
    search = os.environ.get("PATH", DEFAULT_PATH)
    for name in dict.fromkeys([named or program.NAMES[0], *program.NAMES]):
        found = shutil.which(name, path=search)
        if found and os.path.basename(found) in program.NAMES:
            with suppress(OSError):  # it is then run as it is installed
                program.hold(os.path.abspath(found))


def _carry_out(fd: int, key: str) -> NoReturn:
    """In the child: read one request and become its pod server. Whatever is wrong with it, the starter helps itself."""
    starter = socket(fileno=fd)
    try:
        request, pid = _receive(starter, key)
        _follow(pid)
    except BaseException as err:
        with suppress(OSError):  # it has gone
            starter.send(REFUSED + text_of(err).encode(errors="replace")[:REFUSAL_LIMIT])
        os._exit(1)
    if os.environb != request.environment:
        os.environb.clear()
        os.environb.update(request.environment)
    child.serve(request, starter.fileno(), kept=tuple(sorted((*program.descriptors(), *version.hold()))))


def _receive(starter: socket, key: str) -> tuple[Request, int]:
    """The request, and the pid of who sent it; its directory is the working directory then."""
    starter.settimeout(RECEIVE_TIMEOUT_S)
    credentials = starter.getsockopt(SOL_SOCKET, SO_PEERCRED, 12)
    pid, uid = (int.from_bytes(credentials[at : at + 4], sys.byteorder) for at in (0, 4))
    if uid != os.geteuid():
        raise PermissionError(f"request: found uid {uid}, allowed uid {os.geteuid()}")
    message, ancillary, _, _ = starter.recvmsg(REQUEST_LIMIT, 32)
    ((level, kind, data),) = ancillary
    if (level, kind) != (SOL_SOCKET, SCM_RIGHTS):
        raise ValueError("request: found no descriptor")
    request = Request(message)
    if request.key != key:
        raise ValueError(f"request: found key {request.key!r}, allowed {key!r}")
    os.fchdir(int.from_bytes(data[:4], sys.byteorder))
    starter.settimeout(None)
    return request, pid


def _follow(pid: int) -> None:
    """Go into the cgroups of process `pid`, where they are not this one's. Raises OSError."""
    texts = child.read(f"/proc/{pid}/cgroup"), child.read("/proc/self/cgroup")
    if texts[0] == texts[1]:
        return
    theirs, ours = map(_cgroups, texts)
    mounts = mountinfo.read(fstypes=mountinfo.CGROUPS)
    for controllers, path in theirs.items():
        if ours.get(controllers) == path:
            continue
        for mount in mounts:
            kind = "cgroup2" if not controllers else "cgroup"
            is_it = mount.fstype == kind and set(filter(None, controllers.split(","))) <= set(mount.options)
            if is_it and (path + "/").startswith(mount.root.rstrip("/") + "/"):
                child.enter_cgroup(mount.mount_point + path.removeprefix(mount.root.rstrip("/")))
                break
        else:
            raise FileNotFoundError(f"cgroup {controllers}:{path}: not mounted")


def _cgroups(text: bytes) -> dict[str, str]:
    """Controllers ("" for the unified hierarchy) to path, from the text of /proc/PID/cgroup."""
    lines = [line.split(":", 2) for line in os.fsdecode(text).splitlines()]
    return {controllers: path for _, controllers, path in lines}

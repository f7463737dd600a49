"""A process that carries out a request: `start`, after which it goes on as the pod server, `delete`, or `-info`.

The same code runs in a child of the spawner, which has imported everything, and in a child of the starter itself, which
imports the server's modules after it has answered. The socket listens before the answer, so only the first request
waits for those imports. A `start` that fails leaves nothing behind, because containerd does not call `delete` for it. A
`delete` goes on when the command is killed, which containerd does after five seconds.
"""

import os
import time
from _signal import (  # importing `signal` takes longer than all of this
    SIG_DFL,
    SIG_SETMASK,
    SIGCHLD,
    SIGKILL,
    SIGPIPE,
    SIGSTOP,
    SIGXFSZ,
    pthread_sigmask,
    signal,
    valid_signals,
)
from _socket import AF_UNIX, SOCK_SEQPACKET, socket, socketpair

from runtime import paths
from runtime.errors import text_of
from shim.contract import address, bootstrap, flags, group, identifiers
from shim.installed import version
from shim.spawner import cgroup, containerd_version
from shim.spawner.request import ANSWER_LIMIT, DONE, FAILED, TAKEN, WARNED, Request

if False:  # typing.TYPE_CHECKING, without the import
    from typing import NoReturn

OOM_SCORE_ADJ_MAX = 1000
POSTSTOP_SWEEP_S = 60.0
WARNINGS_LIMIT = 4096

CHANNEL = 3
"""The descriptor of the connection to the starter, in the process that serves its request."""


def run_without_spawner(message: bytes, *, note: str) -> bytes:
    """Carry out a request in a child of this process; return DONE or FAILED and the text.

    `note` is the reason for the pod server's log.
    """
    try:
        kept = version.lock_in_use()
    except OSError as err:
        return FAILED + text_of(err).encode(errors="replace")
    ours, theirs = socketpair(AF_UNIX, SOCK_SEQPACKET)
    pid = os.fork()
    if pid == 0:
        reset_signal_dispositions()
        run_request(Request(message), theirs.fileno(), kept=kept, note=note)
    theirs.close()
    if ours.recv(1) == TAKEN and (answer := ours.recv(ANSWER_LIMIT)):
        return answer
    _, status = os.waitpid(pid, 0)
    _remove_dead_socket(Request(message))
    return FAILED + f"the pod server ended before it listened, wait status {status}".encode()


def _remove_dead_socket(request: Request) -> None:
    """Remove the socket that a child killed midway may have left. Raises nothing."""
    try:
        given = flags.parse(request.args)
        stdin = bootstrap.parse(request.stdin, id=given.id, namespace=given.namespace)
        shared = "" if given.socket else group.group_of(os.getcwd())
        address.remove_dead(_path_of(given, stdin, shared))
    except (OSError, ValueError, flags.UsageError):
        pass


def run_request(request: Request, channel: int, *, kept: tuple[int, ...] = (), note: str = "") -> "NoReturn":
    """Carry out `request` in a process that was just forked, in the bundle: answer on `channel`, and go on.

    `kept` are the parent's descriptors that this process keeps, in ascending order.
    """
    status = 1
    try:
        _let_go(channel, kept)
        starter = socket(fileno=CHANNEL)
        starter.send(TAKEN)  # fails if the starter has given up
        match request.args[-1:]:
            case ["delete"]:
                status = _delete(request, starter)
            case ["-info"]:
                status = _info(request, starter)
            case _:
                status = _serve(request, starter, note)
    except BaseException:  # nothing may unwind into the parent's code below fork()
        import sys

        _write_to_log()
        sys.excepthook(*sys.exc_info())
    finally:
        os._exit(status)


def open_log() -> int:
    """Open the FIFO `log` in this directory, the bundle, which containerd reads; -1 if nobody reads it."""
    try:
        return os.open("log", os.O_WRONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
    except OSError:
        return -1


def _write_to_log() -> None:
    """Make the FIFO `log` standard error, so that containerd reads the last message."""
    log = open_log()
    if log >= 0:  # else the server has left the bundle and opened its own log
        os.dup2(log, 2)


def _serve(request: Request, starter: socket, note: str) -> int:
    path, listener = "", None
    try:
        try:
            bundle = os.getcwd()
            given = flags.parse(request.args)
            stdin = bootstrap.parse(request.stdin, id=given.id, namespace=given.namespace)
            identifiers.check("-namespace", given.namespace)
            identifiers.check("-id", given.id)
            shared = "" if given.socket else group.group_of(bundle)
            path = _path_of(given, stdin, shared)
            listener = address.listen(path)
            if listener is not None:
                raise_oom_score(above=request.containerd)
                if stdin.shim_cgroup:
                    cgroup.join(stdin.shim_cgroup)
            address.write_address_file(bundle, address.SCHEME + path)
        except Exception as err:  # the starter prints it, and containerd shows it to the pod's owner
            starter.send(FAILED + text_of(err).encode(errors="replace")[: ANSWER_LIMIT - 1])
            raise
        # Version 3 only for a sandbox: all that it changes is that containerd connects the members by itself.
        takes_3 = shared == given.id and (stdin.is_params or containerd_version.accepts_version_3())
        answer = bootstrap.start_answer(address.SCHEME + path, version=3 if takes_3 else 2)
        starter.send(DONE + answer.encode())
        # From here on the bundle may be gone: containerd removes it if the starter was killed.
        starter.close()
        if listener is None:
            return 0
        from shim.pod import daemon

        if is_sweep_due():
            from shim.installed import replaced
            from shim.pod import sandbox_cleanup
            from shim.task.hooks import poststop

            sandbox_cleanup.start_member_cleanup()
            poststop.start_sweeper()
            replaced.start_version_removal()
    except BaseException:
        if listener is not None:
            os.unlink(path)
        raise
    return daemon.serve(given, stdin, bundle=bundle, path=path, listener=listener.detach(), note=note)


def _delete(request: Request, starter: socket) -> int:
    """See answer_delete. Without an answer, the command that asked does the work, if it lives."""
    from runtime.linux import proctitle
    from shim.pod import daemon

    given = flags.parse(request.args)
    bundle = os.getcwd()
    if given.bundle and not os.path.samefile(given.bundle, bundle):  # the command was killed, and the name reused
        return 1
    proctitle.set_title([daemon.PROGRAM, "-id", given.id, "-bundle", bundle, "delete"])
    return answer_delete(given, starter)


def answer_delete(given: flags.Flags, channel: socket) -> int:
    """Clean up, send the result on `channel`, and go on until everything is gone. Return the exit status.

    What is written to standard error meanwhile is sent as well. The receiver may be gone.
    """
    import sys

    from shim.pod import cleanup, sandbox_cleanup

    warnings = os.memfd_create("warnings", os.MFD_CLOEXEC)
    os.dup2(warnings, 2)
    left = members = None
    try:
        identifiers.check("-namespace", given.namespace)
        identifiers.check("-id", given.id)
        answer, left, members = sandbox_cleanup.clean_up(given, channel=channel.fileno())
        said = DONE + answer
    except Exception as err:  # the border: containerd logs it
        said = FAILED + text_of(err).encode(errors="replace")[: ANSWER_LIMIT - 1]
    sys.stderr.flush()
    try:
        if text := os.pread(warnings, WARNINGS_LIMIT, 0):
            channel.send(WARNED + text)
        channel.send(said)
    except OSError:  # the command that asked was killed
        pass
    channel.close()
    if members is not None:
        members.go_on()
    if left is not None:
        cleanup.retry_cgroup_removal(left, given.id)
    return 0


def _info(request: Request, starter: socket) -> int:
    """See shim.spawner.info. Without an answer, for example one too long for a message, the command does the work."""
    from shim.spawner import info

    try:
        said = DONE + info.answer(request.stdin)
    except Exception as err:  # the border: containerd logs it
        said = FAILED + text_of(err).encode(errors="replace")[: ANSWER_LIMIT - 1]
    if len(said) > ANSWER_LIMIT:
        return 1
    starter.send(said)
    return 0


def is_sweep_due(marker: str = paths.POSTSTOP_SWEPT) -> bool:
    """Whether the last sweep was some time ago (`paths.POSTSTOP_SWEPT`). One system call."""
    try:
        return not 0 <= time.time() - os.stat(marker).st_mtime < POSTSTOP_SWEEP_S
    except OSError:
        return True


def _path_of(given: flags.Flags, stdin: bootstrap.StartInput, shared: str) -> str:
    """The socket of the pod server of group `shared`, or of this container."""
    return given.socket or address.socket_path(
        given.address or stdin.grpc_address,
        given.namespace,
        shared or given.id,
        directory=stdin.socket_dir or address.SOCKET_DIR,
    )


def raise_oom_score(*, above: int) -> None:
    """Set this process's OOM score one above that of process `above`, so that containerd is killed after it.

    Where that is forbidden (in a user namespace) the inherited value stays. Raises OSError without /proc.
    """
    score = min(int(read(f"/proc/{above}/oom_score_adj")) + 1, OOM_SCORE_ADJ_MAX)
    fd = os.open("/proc/self/oom_score_adj", os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.write(fd, str(score).encode())
    except PermissionError:
        pass
    finally:
        os.close(fd)


def read(path: str) -> bytes:
    """Read a whole file. Python's own file objects cost four more system calls. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return b"".join(iter(lambda: os.read(fd, 1 << 16), b""))
    finally:
        os.close(fd)


def reset_signal_dispositions() -> None:
    """Reset the signals that were ignored when this process was started, except those that Python ignores."""
    for number in valid_signals() - {SIGKILL, SIGSTOP, SIGPIPE, SIGXFSZ}:
        signal(number, SIG_DFL)


def _let_go(channel: int, kept: tuple[int, ...]) -> None:
    """Drop what belongs to the parent: its session, its pipe to containerd, other descriptors and signal handling."""
    os.setsid()
    null = os.open("/dev/null", os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if channel != CHANNEL:
        os.dup2(channel, CHANNEL, inheritable=False)
    begin = CHANNEL + 1
    for fd in (*kept, os.sysconf("SC_OPEN_MAX")):
        os.closerange(begin, fd)
        begin = fd + 1
    signal(SIGCHLD, SIG_DFL)  # the spawner ignores it
    pthread_sigmask(SIG_SETMASK, ())
    os.umask(0o022)

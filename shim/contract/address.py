"""Where a pod server listens: the socket's path, listening on it, and whether a server answers there.

The path is the one containerd's runc shim would use: a hash of containerd's address, the namespace and the grouping
id, in a directory that does not depend on containerd's own `state` setting. `start` imports this, so it uses the
built-in socket type instead of the `socket` module, whose import costs as much as the whole command.
"""

import _socket
import fcntl
import os

try:
    from _sha2 import sha256
except ImportError:  # Python 3.11
    from _sha256 import sha256  # type: ignore[import-not-found, no-redef, unused-ignore]

from shim.contract import peer

SOCKET_DIR = "/run/containerd/s"
SCHEME = "unix://"
PROBE_TIMEOUT_S = 0.1
BACKLOG = 128


def socket_path(grpc_address: str, namespace: str, group: str, *, directory: str = SOCKET_DIR) -> str:
    """The socket of the pod server that serves `group`. `group` may be any text: it is only hashed.

    The hashed path is joined as Go's filepath.Join does, except that `group` is not cleaned: one with dots and slashes
    must not lead into another namespace.
    """
    above = os.path.normpath("/".join(part for part in (grpc_address, namespace) if part))
    joined = f"{above}/{group}"
    return f"{directory}/{sha256(joined.encode()).hexdigest()}"


def listen(path: str) -> "_socket.socket | None":
    """Listen on `path`, or return None where a server already answers there.

    The directory is made 0700 and the socket 0600. A socket file on which nobody answers is replaced. Raises OSError.
    """
    directory = os.path.dirname(path)
    os.makedirs(directory, mode=0o700, exist_ok=True)
    lock = _lock(directory)
    try:
        if os.path.lexists(path):
            if answers(path):
                return None
            os.unlink(path)
        return _bind(path)
    finally:
        os.close(lock)


def _bind(path: str) -> "_socket.socket":
    listener = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    mask = os.umask(0o177)  # the file must never exist with a wider mode
    try:
        listener.bind(path)
        listener.listen(BACKLOG)
    except BaseException:
        listener.close()
        raise
    finally:
        os.umask(mask)
    return listener


def remove_dead(path: str) -> None:
    """Unlink a socket that a killed pod server left behind. Does nothing if a server answers, or without a socket."""
    if not os.path.lexists(path):
        return
    lock = _lock(os.path.dirname(path))
    try:
        if not answers(path):
            os.unlink(path)
    except FileNotFoundError:
        pass
    finally:
        os.close(lock)


def _lock(directory: str) -> int:
    """Serialise processes that check an address and then change it. Closing the descriptor releases the lock."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
    except BaseException:
        os.close(fd)
        raise
    return fd


def answers(path: str) -> bool:
    """Whether a process that has not been killed accepts connections at `path`."""
    probe = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
    try:
        probe.settimeout(PROBE_TIMEOUT_S)
        probe.connect(path)
        return not peer.is_ending(probe)
    except BlockingIOError:
        return True  # the backlog is full: somebody listens
    except OSError:
        return False
    finally:
        probe.close()


def write_address_file(bundle: str, address: str) -> None:
    """Write `address` to the bundle, where containerd 1.6 and 1.7 find a running shim when they restart.

    Raises OSError; no file is left in the bundle then.
    """
    temporary = f"{bundle}/.address"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        try:
            os.write(fd, address.encode())
        finally:
            os.close(fd)
        os.rename(temporary, f"{bundle}/address")
    except OSError:
        os.unlink(temporary)
        raise

"""Reads one request to the spawner, in the child that carries it out."""

import os
import sys
from _socket import SCM_RIGHTS, SO_PEERCRED, SOL_SOCKET, socket
from contextlib import suppress
from typing import NoReturn

from runtime.cgroup.locate import directories_of, hierarchies, memberships_of
from runtime.errors import text_of
from runtime.oci import readonly_exec
from shim.installed import version
from shim.spawner import cgroup, child
from shim.spawner.request import REFUSED, Request

REQUEST_LIMIT = 1 << 18
"""More than a unix socket's default buffer holds (net.core.wmem_default). A starter does longer requests itself."""

REFUSAL_LIMIT = 1024
RECEIVE_TIMEOUT_S = 1.0


def serve_connection(fd: int, key: str) -> NoReturn:
    """Read one request from the connection `fd` of a spawner with this key, and carry it out.

    If anything is wrong with the request, it is refused, and the starter does the work itself.
    """
    starter = socket(fileno=fd)
    try:
        request, pid = _receive(starter, key)
        _follow(pid)
    except BaseException as err:
        with suppress(OSError):  # the starter is gone
            starter.send(REFUSED + text_of(err).encode(errors="replace")[:REFUSAL_LIMIT])
        os._exit(1)
    if os.environb != request.environment:
        os.environb.clear()
        os.environb.update(request.environment)
    child.run_request(
        request, starter.fileno(), kept=tuple(sorted((*readonly_exec.descriptors(), *version.lock_in_use())))
    )


def _receive(starter: socket, key: str) -> tuple[Request, int]:
    """The request, and the sender's PID. Changes to the request's directory."""
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
    """Move this process into the cgroups of process `pid`, where they differ. Raises OSError."""
    texts = child.read(f"/proc/{pid}/cgroup"), child.read("/proc/self/cgroup")
    if texts[0] == texts[1]:
        return
    theirs, ours = map(memberships_of, texts)
    others = {controller: path for controller, path in theirs.items() if ours.get(controller) != path}
    found = directories_of(others, hierarchies())
    for controller in others.keys() - found.keys():
        raise FileNotFoundError(f"cgroup {controller}:{others[controller]}: not mounted")
    for directory in set(found.values()):
        cgroup.enter(directory)

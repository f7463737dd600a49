"""`start`: leave a pod server behind that serves the container in the working directory, and say where.

The pod server is a fork of this process that has dropped containerd's pipe and goes on to import what serving takes,
while this process answers. The socket listens before the answer, so nobody waits for those imports but the first
request. What can fail and must be reported (options, cgroup, address) happens here; a `start` that fails leaves
nothing behind, because containerd will not call `delete` for it.
"""

import os
from _signal import SIGKILL  # `signal` imports enum, which takes longer than all of this

from shim import address, bootstrap, identifiers
from shim.flags import Flags

GROUP_ANNOTATIONS = ("io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id")
OOM_SCORE_ADJ_MAX = 1000
CGROUP_ROOT = "/sys/fs/cgroup"


def start(flags: Flags, stdin: bytes) -> str:
    """Return the address of the pod server, `unix:///…`. Raises OSError, ValueError or PouchrichError."""
    identifiers.check("-namespace", flags.namespace)
    identifiers.check("-id", flags.id)
    bundle = os.getcwd()
    given = bootstrap.parse(stdin, id=flags.id, namespace=flags.namespace)
    grpc_address = flags.address or given.grpc_address
    path = flags.socket or address.socket_path(
        grpc_address,
        flags.namespace,
        group_of(bundle) or flags.id,
        directory=given.socket_dir or address.SOCKET_DIR,
    )
    listener = address.listen(path)
    if listener is not None:
        try:
            _leave_server(flags, given, bundle, path, listener.fileno())
        except BaseException:
            os.unlink(path)
            raise
        finally:
            listener.close()
    address.write_address_file(bundle, address.SCHEME + path)
    return address.SCHEME + path


def group_of(bundle: str) -> str:
    """The id that this container shares its pod server with, or "".

    Only a file that holds an annotation's name at all is parsed; most of a configuration is of no interest here.
    """
    with open(f"{bundle}/config.json", "rb") as file:
        text = file.read()
    if not any(name.encode() in text for name in GROUP_ANNOTATIONS):
        return ""
    import json

    try:
        annotations = json.loads(text).get("annotations") or {}
        return next((str(annotations[name]) for name in GROUP_ANNOTATIONS if annotations.get(name)), "")
    except (ValueError, AttributeError) as err:
        raise ValueError(f"{bundle}/config.json: {err}") from err


def _leave_server(flags: Flags, given: bootstrap.StartInput, bundle: str, path: str, listener: int) -> None:
    containerd = os.getppid()
    pid = os.fork()
    if pid == 0:
        from shim import daemon

        daemon.become_server(flags, given, bundle=bundle, path=path, listener=listener)
    try:
        if given.shim_cgroup:
            join_cgroup(pid, given.shim_cgroup)
        raise_oom_score(pid, above=containerd)
    except BaseException:
        os.kill(pid, SIGKILL)
        os.waitpid(pid, 0)
        raise


def join_cgroup(pid: int, path: str, *, root: str = CGROUP_ROOT) -> None:
    """Move `pid` into the cgroup `path`, in the unified tree or in each v1 hierarchy. It must exist. Raises OSError."""
    below = os.path.normpath("/" + path)
    if os.path.exists(f"{root}/cgroup.controllers"):
        hierarchies = [root]
    else:
        hierarchies = [entry.path for entry in os.scandir(root) if entry.is_dir(follow_symlinks=False)]
    joined = False
    for hierarchy in hierarchies:
        if os.path.isdir(hierarchy + below):
            with open(f"{hierarchy}{below}/cgroup.procs", "w") as file:
                file.write(str(pid))
            joined = True
    if not joined:
        raise FileNotFoundError(f"shim_cgroup: found {path!r}, which is no cgroup below {root}")


def raise_oom_score(pid: int, *, above: int) -> None:
    """Make `pid` one step more likely than process `above` to be killed for memory, so that containerd goes last.

    A node that forbids it (a user namespace) keeps the inherited value. Raises OSError where /proc is not there.
    """
    with open(f"/proc/{above}/oom_score_adj") as file:
        score = min(int(file.read()) + 1, OOM_SCORE_ADJ_MAX)
    try:
        with open(f"/proc/{pid}/oom_score_adj", "w") as file:
            file.write(str(score))
    except PermissionError:
        pass

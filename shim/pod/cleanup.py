"""`delete`: cleans up after one container, from its bundle alone, when its pod server is gone.

If the pod server has done its work, no record is left in the bundle and nothing is mounted; then only containerd is
answered. Only this container is touched: the pod's server may be alive and serve others.
"""

import os
import sys
import time
from _signal import SIGKILL  # `signal` imports enum, which takes longer than all of this

from shim.contract import address, bootstrap, identifiers
from shim.contract.flags import Flags

if False:  # typing.TYPE_CHECKING, without the import
    from collections.abc import Callable  # noqa: TC003 (this is such a block)

KILLED = 128 + SIGKILL
RUNTIME_TIMEOUT_S = 3.5
CREATE_PATIENCE_S = 1.0  # part of RUNTIME_TIMEOUT_S, for a create under way to end
DYING_S = 1.5  # for processes that the OCI runtime has killed
SWEEPS_S = 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0  # pauses while they die after the answer: a busy machine takes long
OTHERS_PATIENCE_S = 3.0  # for another `delete` of the same container
HOOKS_DEADLINE_S = 4.3  # of the five seconds that containerd gives the whole command


def clean_up(flags: Flags) -> "tuple[bytes, BundleState | None]":
    """Return the serialised DeleteResponse, and what may be left because processes have not died yet, or None.

    The exit status is 137 and the time is now, as in containerd's own shim. May be repeated. Raises OSError.
    """
    from runtime import members

    began = time.monotonic()
    given = flags.bundle or os.getcwd()
    sandbox = members.sandbox_of(given)
    if sandbox:
        identifiers.check(f"{given}/{members.SANDBOX_FILE}", sandbox)
    bundle = members.path_of(flags.namespace, sandbox, flags.id) if sandbox else given
    is_ours = bundle != given or members.containerd_bundle(bundle) != ""
    held = BundleDirectory(bundle)
    left = BundleState(held) if os.path.exists(f"{bundle}/pouchrich.json") else None
    _wait_for_others(held)
    finish_hooks = _hand_over_hooks(flags, bundle)
    if left and not os.path.exists(f"{bundle}/pouchrich.json") and (is_ours or os.path.exists(bundle)):
        left = None  # another `delete` has done it
    if left:
        from shim.pod import killed

        killed.tell(flags.namespace, flags.id, left, pid_of(bundle))
        # A member's record is removed with its bundle, last of all, so that what fails before can be tried again.
        _delete_container(left, flags.id, keeps_record=is_ours)
    if finish_hooks is not None:
        finish_hooks(HOOKS_DEADLINE_S - (time.monotonic() - began))
    pid = pid_of(bundle)
    if not held.is_replaced():
        _remove_traces(flags)
        _unmount(bundle)
        _remove_dead_socket(flags, bundle)
        if is_ours:
            members.remove(bundle)
    held.let_go()
    seconds, nanos = divmod(time.time_ns(), 1_000_000_000)
    return bootstrap.delete_response(pid, KILLED, seconds, nanos), left


class BundleDirectory:
    """A bundle's directory, kept open, because another container may have its name before the cleanup is done.

    containerd removes the bundle when it has killed a `delete`; then a new container may get the same name.
    """

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        try:
            self.fd = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.fd = -1

    def is_replaced(self) -> bool:
        """Whether another directory has the path now: the container's name then belongs to another container."""
        try:
            found = os.stat(self.bundle)
        except FileNotFoundError:
            return False
        return self.fd < 0 or not os.path.samestat(found, os.fstat(self.fd))

    def let_go(self) -> None:
        """Unlock the bundle for another `delete`, even if a forked process still has the descriptor."""
        import fcntl

        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)


def retry_cgroup_removal(left: "BundleState", container_id: str) -> None:
    """Remove cgroups that could not be removed before, with pauses. Another `delete` need not wait for this."""
    for pause in SWEEPS_S:
        if left.remove_cgroups(container_id, patience_s=0.0):
            return
        time.sleep(pause)


def _wait_for_others(held: BundleDirectory) -> None:
    """Wait for another `delete` of the same bundle, begun by a containerd that was killed since.

    The other `delete` may be about to keep the root file system mounted for a hook. It locks the bundle's directory
    until it has done everything but the sweep.
    """
    import fcntl

    if held.fd < 0:
        return
    until = time.monotonic() + OTHERS_PATIENCE_S
    while time.monotonic() < until:
        try:
            return fcntl.flock(held.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)


def _hand_over_hooks(flags: Flags, bundle: str) -> "Callable[[float], object] | None":
    """Hand the owed poststop hooks over to a runner, which starts when the returned function is called.

    None if no hooks are owed, or a live pod server runs them. A failure must not stop the rest of the cleanup.
    """
    from runtime import paths

    if not os.path.exists(f"{paths.RECORDS}/{flags.namespace}/{flags.id}.jsonl"):
        return None
    from shim.task.hooks import poststop

    try:
        handover = poststop.hand_over(flags.namespace, flags.id, bundle)
    except OSError as err:
        from runtime.errors import text_of

        sys.stderr.write(f"poststop hooks: {text_of(err)}\n")
        return None
    if handover is None:
        return None
    return lambda left: handover.finish(max(0.0, min(poststop.PATIENCE_S, left)))


def _unmount(bundle: str) -> None:
    """Unmount the root file system: in the bundle, and for a member in containerd's bundle too."""
    from runtime import members

    given = members.containerd_bundle(bundle)
    if given or os.path.ismount(f"{bundle}/rootfs"):
        from runtime import rootfs

        if given:
            rootfs.hide(f"{given}/rootfs")
        rootfs.unmount_all(f"{bundle}/rootfs")


def _remove_traces(flags: Flags) -> None:
    """Remove what a killed pod server left of this container below paths.RUN, a tmpfs."""
    from runtime import paths

    if os.path.lexists(f"{paths.BUNDLES}/{flags.namespace}/{flags.id}"):
        from runtime import index, rundir

        rundir.remove(rundir.path_of(flags.namespace, flags.id))
        index.unregister(flags.namespace, flags.id)  # last: it tells a further `delete` that something is left


class BundleState:
    """What the bundle says about a container, read first: when a `delete` is killed, containerd removes the bundle.

    `is_whole`: the OCI runtime completed its create, which ends with the pid file. `spec` is None if config.json cannot
    be read. `agents` are cgroups that agents may have beside the container's.
    """

    def __init__(self, held: BundleDirectory) -> None:
        from contextlib import suppress

        from runtime.bundle import Bundle
        from runtime.errors import PouchrichError

        self.held, bundle = held, held.bundle
        self.record = Bundle(bundle).load_record()
        self.is_whole = os.path.exists(f"{bundle}/init.pid")
        self.spec = None
        with suppress(PouchrichError, OSError):
            self.spec = Bundle(bundle).load_spec()
        self.agents: list[str] = []
        if os.path.exists(f"{bundle}/agent-cgroups.json"):
            from runtime.agents import cgroup

            self.agents = cgroup.noted(bundle)

    def remove_cgroups(self, container_id: str, *, patience_s: float) -> bool:
        """Remove the container's cgroup, and its own cgroups above and beside it. Processes get `patience_s` to die.

        Return whether all of them are gone, or another container has the name now.
        """
        from contextlib import suppress

        from runtime.errors import PouchrichError
        from runtime.oci import interrupted

        if self.held.is_replaced():
            return True
        gone = []
        if self.record and self.spec is not None:
            with suppress(PouchrichError, OSError):
                gone.append(interrupted.remove_cgroups(self.spec, container_id, patience_s=patience_s))
        if above := ((self.record or {}).get("plan") or {}).get("cgroup"):
            from runtime.bundle import from_fields
            from runtime.cgroup import delegation
            from runtime.init.cgroup import Delegation

            gone.append(delegation.remove(from_fields(Delegation, above), patience_s=patience_s))
        if self.record and self.agents:
            from runtime.agents import cgroup

            gone.append(cgroup.remove_all(self.agents, patience_s=patience_s))
        return all(gone)


def _delete_container(left: BundleState, container_id: str, *, keeps_record: bool = False) -> None:
    """Have the OCI runtime kill and delete the container. A failure must not stop the rest of the cleanup."""
    from runtime.bundle import Bundle, from_fields
    from runtime.oci import argv, interrupted
    from shim.pod import oci_delete

    until, bundle = time.monotonic() + RUNTIME_TIMEOUT_S, left.held.bundle
    if left.record is None:
        return
    binary = from_fields(argv.OCIBinary, left.record["oci"])
    interrupted.wait_for_creates(bundle, patience_s=CREATE_PATIENCE_S)
    if not oci_delete.force(binary, container_id, until=until, is_moot=left.held.is_replaced):
        return
    if not left.is_whole:
        _kill_creates(bundle, until)
    left.remove_cgroups(container_id, patience_s=DYING_S)
    if left.held.is_replaced():
        return
    if left.agents:
        from runtime.agents import cgroup

        cgroup.remove_noted(bundle)
    if not keeps_record:
        Bundle(bundle).remove_record()


def _kill_creates(bundle: str, until: float) -> None:
    """See `interrupted.kill_creates`. After `until` a thread goes on alone, while this process lasts.

    The command lines of other pods' processes are read, which these can delay by forking (shim/task/leftovers.py).
    """
    import threading
    from contextlib import suppress

    from runtime.oci import interrupted

    def kill() -> None:
        with suppress(OSError):
            interrupted.kill_creates(bundle)

    with suppress(RuntimeError):  # "can't start new thread"
        thread = threading.Thread(target=kill, daemon=True)
        thread.start()
        thread.join(max(0.0, until - time.monotonic()))


def _remove_dead_socket(flags: Flags, bundle: str) -> None:
    """Remove the socket of a killed pod server. Without the file `address`, its path is computed as `start` does.

    The file may be missing because containerd has begun to remove the bundle of a task that was never created, or
    because the disk was full when the address was written.
    """
    try:
        with open(f"{bundle}/address") as file:
            path = file.read().removeprefix(address.SCHEME)
    except OSError:
        path = ""
    if not path:
        from shim.contract import group

        try:
            shared = group.group_of(bundle)
        except (OSError, ValueError):
            shared = ""
        path = flags.socket or address.socket_path(flags.address, flags.namespace, shared or flags.id)
    if path.startswith("/"):
        address.remove_dead(path)


def pid_of(bundle: str) -> int:
    """Init's PID from the OCI runtime's pid file, or 0."""
    try:
        with open(f"{bundle}/init.pid") as file:
            return max(0, int(file.read(32)))
    except (OSError, ValueError):
        return 0

"""Clean up after one container, from its bundle alone, when no pod server can be asked any more: `delete`.

Where the pod server has done its work there is no record left in the bundle and nothing mounted, and there is only
containerd's question to answer. It touches this container only: the pod's server may be alive and serve others.
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
CREATE_PATIENCE_S = 1.0  # out of that
DYING_S = 1.5  # for processes that the runtime has killed
SWEEPS_S = 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0  # for the same after the answer: a busy machine may take long
OTHERS_PATIENCE_S = 3.0  # for another `delete`
HOOKS_DEADLINE_S = 4.3  # of the five seconds that containerd gives the whole command


def clean_up(flags: Flags) -> "tuple[bytes, Left | None]":
    """Return the serialised DeleteResponse, and what may not be all gone yet, as its processes were not, or None.

    The status is 137, and the time is now, as containerd's own shim says. May be repeated. Raises OSError.
    """
    from runtime import members

    began = time.monotonic()
    given = flags.bundle or os.getcwd()
    sandbox = members.sandbox_of(given)
    if sandbox:
        identifiers.check(f"{given}/{members.MARK}", sandbox)
    bundle = members.path_of(flags.namespace, sandbox, flags.id) if sandbox else given
    is_ours = bundle != given or members.given_of(bundle) != ""
    held = Held(bundle)
    left = Left(held) if os.path.exists(f"{bundle}/pouchrich.json") else None
    _wait_for_others(held)
    finish_hooks = _hand_over_hooks(flags, bundle)
    if left and not os.path.exists(f"{bundle}/pouchrich.json") and (is_ours or os.path.exists(bundle)):
        left = None  # another one has done it
    if left:
        # A member's record goes with its bundle, last of all: what comes before may fail, and be tried again.
        _forget(left, flags.id, keeps_record=is_ours)
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


class Held:
    """A bundle's directory, kept open: the name may be another's before all is done.

    containerd removes the bundle of a `delete` that it has killed, and then there may be a new container of the name.
    """

    def __init__(self, bundle: str) -> None:
        self.bundle = bundle
        try:
            self.fd = os.open(bundle, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            self.fd = -1

    def is_replaced(self) -> bool:
        """Whether there is another directory by now: what is found by the container's name is not this one's."""
        try:
            found = os.stat(self.bundle)
        except FileNotFoundError:
            return False
        return self.fd < 0 or not os.path.samestat(found, os.fstat(self.fd))

    def let_go(self) -> None:
        """Let another `delete` of it begin, also where a process that was forked has the descriptor."""
        import fcntl

        if self.fd >= 0:
            fcntl.flock(self.fd, fcntl.LOCK_UN)


def sweep(left: "Left", container_id: str) -> None:
    """Remove what could not be, as long as there is something. Another `delete` need not wait for this."""
    for pause in SWEEPS_S:
        if left.remove_cgroups(container_id, patience_s=0.0):
            return
        time.sleep(pause)


def _wait_for_others(held: Held) -> None:
    """Let another `delete` of the same bundle come to its end, which a containerd that was killed has begun.

    It may be about to save the root file system for a hook. The lock is on the bundle's directory, until all is done
    but sweeping up.
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
    """Give the poststop hooks that are still owed to a runner of its own, which starts when the result is called.

    None where there are none, or a living pod server sees to them. That they cannot be run must not keep the rest.
    """
    from runtime import paths

    if not os.path.exists(f"{paths.RECORDS}/{flags.namespace}/{flags.id}.jsonl"):
        return None
    from shim.task.hooks import poststop

    try:
        handover = poststop.hand_over(flags.namespace, flags.id, bundle)
    except OSError as err:
        sys.stderr.write(f"poststop hooks: {err}\n")
        return None
    if handover is None:
        return None
    return lambda left: handover.finish(max(0.0, min(poststop.PATIENCE_S, left)))


def _unmount(bundle: str) -> None:
    """Unmount the root file system, in a member's bundle and in containerd's."""
    from runtime import members

    given = members.given_of(bundle)
    if given or os.path.ismount(f"{bundle}/rootfs"):
        from runtime import rootfs

        if given:
            rootfs.hide(f"{given}/rootfs")
        rootfs.unmount_all(f"{bundle}/rootfs")


def _remove_traces(flags: Flags) -> None:
    """Remove what a killed pod server left of this container in memory (paths.RUN)."""
    from runtime import paths

    if os.path.lexists(f"{paths.BUNDLES}/{flags.namespace}/{flags.id}"):
        from runtime import index, rundir

        rundir.remove(rundir.path_of(flags.namespace, flags.id))
        index.forget(flags.namespace, flags.id)  # last: by it a further `delete` knows that there is something


class Left:
    """What the bundle says of a container, read first of all: containerd removes that of a `delete` that is killed.

    `is_whole` is whether the OCI runtime came to the end of its create, where it writes the pid file. `spec` is None
    where config.json cannot be read. `agents` are the cgroups that agents may have beside the container's.
    """

    def __init__(self, held: Held) -> None:
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
        """Remove the container's, those above and beside it that are its own; processes have so long to be gone.

        Whether all that are its own are gone, or there is another container of the name.
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
            from runtime.cgroup import delegation
            from runtime.init.cgroup import Delegation

            gone.append(delegation.remove(Delegation(**above), patience_s=patience_s))
        if self.record and self.agents:
            from runtime.agents import cgroup

            gone.append(cgroup.remove_all(self.agents, patience_s=patience_s))
        return all(gone)


def _forget(left: Left, container_id: str, *, keeps_record: bool = False) -> None:
    """Have the OCI runtime kill and forget the container. What it says against that is no reason to keep the rest."""
    from contextlib import suppress

    from runtime.bundle import Bundle
    from runtime.oci import argv, interrupted
    from shim.pod import oci_delete

    until, bundle = time.monotonic() + RUNTIME_TIMEOUT_S, left.held.bundle
    if left.record is None:
        return
    binary = argv.OCIBinary(**left.record["oci"])
    interrupted.let_end(bundle, patience_s=CREATE_PATIENCE_S)
    if not oci_delete.force(binary, container_id, until=until, is_moot=left.held.is_replaced):
        return
    if not left.is_whole:
        with suppress(OSError):
            interrupted.end_creates(bundle)
    left.remove_cgroups(container_id, patience_s=DYING_S)
    if left.held.is_replaced():
        return
    if left.agents:
        from runtime.agents import cgroup

        cgroup.remove_noted(bundle)
    if not keeps_record:
        Bundle(bundle).remove_record()


def _remove_dead_socket(flags: Flags, bundle: str) -> None:
    """Remove that of a killed pod server, which is where `start` has put it also when the bundle says nothing of it.

    containerd may have begun to remove the bundle of a task that was never created, or found the disk full when it
    wrote the address down.
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
    """Init's pid as the OCI runtime has written it down, or 0."""
    try:
        with open(f"{bundle}/init.pid") as file:
            return max(0, int(file.read(32)))
    except (OSError, ValueError):
        return 0

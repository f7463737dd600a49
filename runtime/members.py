"""The bundle of our own that a pod's further container has, where containerd calls the shim for the sandbox alone.

To a server that has said version 3 of the start protocol containerd 2.0 and later only connects for the pod's further
containers, its members: no `start` is run for one, no `delete`, and when the server dies containerd unmounts the root
file system and removes the bundle of each member at once (core/runtime/v2/shim_manager.go, ShimManager.Start, whose
onClose does nothing; internal/cri/server/events.go). It is the sandbox's `delete` that has to end them.

So what that takes is out of containerd's reach: PODS/NAMESPACE/SANDBOX/ID is the bundle that the OCI runtime is given
and that everything of ours is kept in, the root file system is mounted there, and containerd's own bundle only shows
it, for whoever looks for it in the usual place.
"""

import os
import shutil
from contextlib import suppress

from runtime import passage, paths

MARK = "sandbox"
"""What containerd writes to a member's bundle: the sandbox's id."""

_GIVEN = "given"
_ADDRESS = "address"
_SPEC = "config.json"
_ROOT = "rootfs"


def sandbox_of(given: str) -> str:
    """The id of the sandbox that the container with the bundle `given` of containerd's is a member of, or "".

    Raises OSError, ValueError.
    """
    try:
        with open(f"{given}/{MARK}", encoding="utf-8") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def path_of(namespace: str, sandbox: str, member: str) -> str:
    """Where the bundle of a member is; all three are checked identifiers."""
    return f"{paths.PODS}/{namespace}/{sandbox}/{member}"


def make(path: str, given: str) -> None:
    """Make the bundle of the member that containerd has made the bundle `given` for. Raises OSError.

    Its owner and mode are those of containerd's, which lets the root of a user namespace pass. Its `address` is the
    sandbox's.
    """
    found = os.stat(given)
    remove(path)
    passage.make(path, mode=0o700)
    try:
        os.chown(path, found.st_uid, found.st_gid)
        os.chmod(path, found.st_mode & 0o7777)
        os.mkdir(f"{path}/{_ROOT}", 0o711)
        os.symlink(given, f"{path}/{_GIVEN}")
        sandbox = os.path.basename(os.path.dirname(path))
        os.symlink(f"{os.path.dirname(given)}/{sandbox}/{_ADDRESS}", f"{path}/{_ADDRESS}")
        try:
            os.link(f"{given}/{_SPEC}", f"{path}/{_SPEC}")
        except OSError:  # most often another file system
            with suppress(FileNotFoundError):  # whoever reads it says so
                shutil.copyfile(f"{given}/{_SPEC}", f"{path}/{_SPEC}")
    except BaseException:
        remove(path)
        raise


def given_of(path: str) -> str:
    """The bundle of containerd's, which may be gone, of the member whose own is `path`; "" where that is no member's.

    Raises OSError.
    """
    try:
        return os.readlink(f"{path}/{_GIVEN}")
    except FileNotFoundError:
        return ""


def remove(path: str) -> None:
    """Remove the bundle, and the directory of its pod with the last of them. May be repeated.

    Raises OSError, also where its root file system is still mounted: then nothing is removed.
    """
    with suppress(FileNotFoundError):
        os.rmdir(f"{path}/{_ROOT}")
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
    with suppress(OSError):  # there are others, or it is gone
        os.rmdir(os.path.dirname(path))


def of_sandbox(namespace: str, sandbox: str) -> list[str]:
    """The ids of the members that are left of a pod. Raises OSError."""
    try:
        return sorted(os.listdir(f"{paths.PODS}/{namespace}/{sandbox}"))
    except FileNotFoundError:
        return []

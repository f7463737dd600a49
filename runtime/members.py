"""The shim's own bundle for a further container of a pod, where containerd calls the shim only for the sandbox.

If a pod server speaks version 3 of the start protocol, containerd 2.0 and later only connects to it for the pod's
further containers, its members. containerd runs no `start` for a member, and no `delete` either unless containerd has
been restarted since. When the server dies, containerd unmounts each member's root filesystem and removes its bundle at
once (core/runtime/v2/shim_manager.go, ShimManager.Start, whose onClose does nothing; internal/cri/server/events.go).
The sandbox's `delete` has to end the members.

So what that needs is kept out of containerd's reach. PODS/NAMESPACE/SANDBOX/ID is the bundle that the OCI runtime gets
and that everything of ours is kept in. The root filesystem is mounted there, and containerd's own bundle only shows
it, for whoever looks in the usual place.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress

from runtime import directories, paths
from runtime.errors import AlreadyExists
from runtime.linux import process_identity

SANDBOX_FILE = "sandbox"
"""The file in which containerd writes the sandbox's ID to a member's bundle."""

_SHIM = "shim-binary-path"
_GIVEN = "given"
_ADDRESS = "address"
_SERVER = "server"
_SPEC = "config.json"
_ROOT = "rootfs"
_WORK = "work"


def sandbox_of(given: str) -> str:
    """The ID of the sandbox that a container is a member of, by containerd's bundle `given`, or "".

    The ID is not checked. Raises OSError.
    """
    try:
        with open(f"{given}/{SANDBOX_FILE}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def path_of(namespace: str, sandbox: str, member: str) -> str:
    """The path of a member's bundle. All three arguments are checked identifiers."""
    return f"{paths.PODS}/{namespace}/{sandbox}/{member}"


def make(path: str, given: str) -> None:
    """Make the bundle of the member with containerd's bundle `given`. This process is the pod's server.

    It gets the owner and mode of containerd's bundle, so that the root of a user namespace may pass. `address` and
    `work` are links to the sandbox's and to containerd's. The shim's path and address, which containerd has written to
    the sandbox's bundle, are also put into `given`: without the path a restarted containerd would look for the shim on
    its PATH (core/runtime/v2/shim_load.go), and by the address a containerd before 2.0 finds the server of a member
    that a later one has made.

    Raises OSError; AlreadyExists where there is a bundle of a container that has not been deleted.
    """
    found = os.stat(given)
    if os.path.lexists(path):
        if os.path.exists(f"{path}/pouchrich.json"):
            raise AlreadyExists(f"{path}: the bundle of a container that has not been deleted")
        remove(path)
    directories.make(path, mode=0o700)
    sandbox = f"{os.path.dirname(given)}/{os.path.basename(os.path.dirname(path))}"
    try:
        with open(f"{path}/{_SERVER}", "x", encoding="ascii") as file:
            file.write(process_identity.identity_of(os.getpid()))
        os.chown(path, found.st_uid, found.st_gid)
        os.chmod(path, found.st_mode & 0o7777)
        os.mkdir(f"{path}/{_ROOT}", 0o711)
        os.symlink(given, f"{path}/{_GIVEN}")
        os.symlink(f"{sandbox}/{_ADDRESS}", f"{path}/{_ADDRESS}")
        with suppress(FileNotFoundError):
            os.symlink(os.readlink(f"{given}/{_WORK}"), f"{path}/{_WORK}")
        with suppress(FileNotFoundError):  # containerd writes this file; other clients of the Task API do not
            _put(f"{sandbox}/{_SHIM}", f"{given}/{_SHIM}")
        with suppress(FileNotFoundError):
            _put(f"{sandbox}/{_ADDRESS}", f"{given}/{_ADDRESS}")
        with suppress(FileNotFoundError):  # whoever reads it later reports that it is missing
            _put(f"{given}/{_SPEC}", f"{path}/{_SPEC}")
    except BaseException:
        remove(path)
        raise


def _put(source: str, target: str) -> None:
    """Hard-link `source` at `target`, or copy it where `target` is on another file system."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        shutil.copyfile(source, target)


def is_member_bundle(path: str) -> bool:
    """Whether `path` is the bundle of a member."""
    return path.startswith(f"{paths.PODS}/")


def containerd_bundle(path: str) -> str:
    """containerd's bundle, which may be gone, for the member with the bundle `path`; "" where that is no member's.

    Raises OSError.
    """
    try:
        return os.readlink(f"{path}/{_GIVEN}")
    except FileNotFoundError:
        return ""


def has_live_server(path: str) -> bool:
    """Whether the pod server that made the bundle lives. Raises OSError."""
    try:
        with open(f"{path}/{_SERVER}", encoding="ascii") as file:
            return process_identity.is_alive(file.read())
    except (FileNotFoundError, ValueError):  # the server was killed when it had just begun
        return False


def is_abandoned(path: str) -> bool:
    """Whether containerd has no bundle any more for the container with the bundle `path`, so calls no `delete`.

    For a member, containerd's bundle of the sandbox counts. Raises OSError.
    """
    if given := containerd_bundle(path):
        path = f"{os.path.dirname(given)}/{os.path.basename(os.path.dirname(path))}"
    return not os.path.isdir(path)


def remove(path: str) -> None:
    """Remove the bundle, and the pod's directory with the last bundle in it. May be repeated.

    Raises OSError, also if its root filesystem is still mounted: then nothing is removed.
    """
    with suppress(FileNotFoundError):
        os.rmdir(f"{path}/{_ROOT}")
    with suppress(FileNotFoundError):
        shutil.rmtree(path)
    with suppress(OSError):  # there are other members, or the directory is gone
        os.rmdir(os.path.dirname(path))


def list_members(namespace: str, sandbox: str) -> list[str]:
    """The IDs of the members that a pod still has. Raises OSError."""
    return _names(f"{paths.PODS}/{namespace}/{sandbox}")


def sandboxes() -> Iterator[tuple[str, str]]:
    """(containerd namespace, ID) of each sandbox that has members. Raises OSError."""
    for namespace in _names(paths.PODS):
        for sandbox in _names(f"{paths.PODS}/{namespace}"):
            yield namespace, sandbox


def bundles() -> Iterator[tuple[str, str, str]]:
    """(containerd namespace, container ID, bundle) of every member. Raises OSError."""
    for namespace, sandbox in sandboxes():
        for member in list_members(namespace, sandbox):
            yield namespace, member, path_of(namespace, sandbox, member)


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []

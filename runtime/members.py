"""The bundle of our own that a pod's further container has, where containerd calls the shim for the sandbox alone.

To a server that has said version 3 of the start protocol containerd 2.0 and later only connects for the pod's further
containers, its members: it runs no `start` for one, and no `delete` either unless it has been started again since; and
when the server dies it unmounts the root file system and removes the bundle of each member at once
(core/runtime/v2/shim_manager.go, ShimManager.Start, whose onClose does nothing; internal/cri/server/events.go). It is
the sandbox's `delete` that has to end them.

So what that takes is out of containerd's reach: PODS/NAMESPACE/SANDBOX/ID is the bundle that the OCI runtime is given
and that everything of ours is kept in, the root file system is mounted there, and containerd's own bundle only shows
it, for whoever looks for it in the usual place.
"""

import os
import shutil
from collections.abc import Iterator
from contextlib import suppress

from runtime import passage, paths
from runtime.errors import AlreadyExists
from runtime.linux import living

MARK = "sandbox"
"""What containerd writes to a member's bundle: the sandbox's id."""

_SHIM = "shim-binary-path"
_GIVEN = "given"
_ADDRESS = "address"
_SERVER = "server"
_SPEC = "config.json"
_ROOT = "rootfs"
_WORK = "work"


def sandbox_of(given: str) -> str:
    """The id of the sandbox that the container with the bundle `given` of containerd's is a member of, or "".

    It is not checked. Raises OSError.
    """
    try:
        with open(f"{given}/{MARK}", encoding="utf-8", errors="replace") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def path_of(namespace: str, sandbox: str, member: str) -> str:
    """Where the bundle of a member is; all three are checked identifiers."""
    return f"{paths.PODS}/{namespace}/{sandbox}/{member}"


def make(path: str, given: str) -> None:
    """Make the bundle of the member that containerd has made the bundle `given` for; this process is its pod's server.

    Its owner and mode are those of containerd's, which lets the root of a user namespace pass. `address` and `work` are
    the sandbox's and containerd's. What containerd has written down of the shim with the sandbox is written down with
    the member too: a containerd that is started again would look for it on its PATH (core/runtime/v2/shim_load.go). So
    is the address, by which one before 2.0 finds the server of what a later one has made.

    Raises OSError; AlreadyExists where there is one of a container that nobody has ended.
    """
    found = os.stat(given)
    if os.path.lexists(path):
        if os.path.exists(f"{path}/pouchrich.json"):
            raise AlreadyExists(f"{path}: the bundle of a container that has not been deleted")
        remove(path)
    passage.make(path, mode=0o700)
    sandbox = f"{os.path.dirname(given)}/{os.path.basename(os.path.dirname(path))}"
    try:
        with open(f"{path}/{_SERVER}", "x", encoding="ascii") as file:
            file.write(living.mark(os.getpid()))
        os.chown(path, found.st_uid, found.st_gid)
        os.chmod(path, found.st_mode & 0o7777)
        os.mkdir(f"{path}/{_ROOT}", 0o711)
        os.symlink(given, f"{path}/{_GIVEN}")
        os.symlink(f"{sandbox}/{_ADDRESS}", f"{path}/{_ADDRESS}")
        with suppress(FileNotFoundError):
            os.symlink(os.readlink(f"{given}/{_WORK}"), f"{path}/{_WORK}")
        with suppress(FileNotFoundError):  # containerd has written it down; another client of the Task API does not
            _put(f"{sandbox}/{_SHIM}", f"{given}/{_SHIM}")
        with suppress(FileNotFoundError):
            _put(f"{sandbox}/{_ADDRESS}", f"{given}/{_ADDRESS}")
        with suppress(FileNotFoundError):  # whoever reads it says so
            _put(f"{given}/{_SPEC}", f"{path}/{_SPEC}")
    except BaseException:
        remove(path)
        raise


def _put(source: str, target: str) -> None:
    """The same file by another name, or where that is on another file system a copy."""
    try:
        os.link(source, target)
    except FileExistsError:
        pass
    except OSError:
        shutil.copyfile(source, target)


def is_own(path: str) -> bool:
    """Whether `path`, of a container's bundle, is a member's."""
    return path.startswith(f"{paths.PODS}/")


def given_of(path: str) -> str:
    """The bundle of containerd's, which may be gone, of the member whose own is `path`; "" where that is no member's.

    Raises OSError.
    """
    try:
        return os.readlink(f"{path}/{_GIVEN}")
    except FileNotFoundError:
        return ""


def is_served(path: str) -> bool:
    """Whether the pod server that has made the bundle lives. Raises OSError."""
    try:
        with open(f"{path}/{_SERVER}", encoding="ascii") as file:
            return living.lives(file.read())
    except (FileNotFoundError, ValueError):  # killed when it had just begun
        return False


def is_given_up(path: str) -> bool:
    """Whether containerd has no bundle any more of the container with the bundle `path`, so will call no `delete`.

    For a member that is the sandbox's. Raises OSError.
    """
    if given := given_of(path):
        path = f"{os.path.dirname(given)}/{os.path.basename(os.path.dirname(path))}"
    return not os.path.isdir(path)


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
    return _names(f"{paths.PODS}/{namespace}/{sandbox}")


def sandboxes() -> Iterator[tuple[str, str]]:
    """(containerd namespace, id) of each sandbox that has members. Raises OSError."""
    for namespace in _names(paths.PODS):
        for sandbox in _names(f"{paths.PODS}/{namespace}"):
            yield namespace, sandbox


def _names(directory: str) -> list[str]:
    try:
        return sorted(os.listdir(directory))
    except FileNotFoundError:
        return []

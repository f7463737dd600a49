"""A root filesystem: mounts what a Create request lists on the bundle's `rootfs`, and unmounts it.

Follows containerd's core/mount, whose snapshotters write the requests. Everything here blocks, and `mount_all` may
change the calling thread's working directory for good: call it in a thread that ends afterwards.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, NamedTuple

from runtime.default_path import DEFAULT_PATH
from runtime.errors import InvalidArgument, PouchrichError, text_of
from runtime.linux import idmap, loop, mount_options, mounts, overlay, syscalls

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from runtime.linux.mount_options import MountOptions

    Run = Callable[[list[str]], int]

_PAGE_SIZE = os.sysconf("SC_PAGESIZE")
# From this length on containerd writes the layers relative to a common directory (core/mount/mount_linux.go).
_LONG = _PAGE_SIZE - 512

_FUSE_HELPERS = {"fuse.": "mount.fuse", "fuse3.": "mount.fuse3"}


class Mount(NamedTuple):
    """One entry of a Create request. `target` is a path inside the rootfs; "" is the rootfs itself."""

    type: str
    source: str
    target: str
    options: tuple[str, ...]


def mount_all(entries: Sequence[Mount], rootfs: str, *, run: Run) -> None:
    """Mount all `entries`, in order, on and inside the directory `rootfs` (made if it is missing), or none.

    `run` executes an argument list, waits for it and returns its exit status; only FUSE types need it.

    An overlay whose options do not fit into one page is mounted from its layers' common parent. The calling thread then
    leaves the process's shared working directory and umask for good (unshare(CLONE_FS)), so it should be a short-lived
    thread.

    Raises InvalidArgument for a bad request, PouchrichError where the kernel or a helper refuses. What was mounted by
    then is unmounted in reverse order.
    """
    if not entries:
        return
    with contextlib.suppress(FileExistsError):
        os.mkdir(rootfs, 0o711)
    with ExitStack() as undo:
        for number, mount in enumerate(entries):
            where = os.path.join(rootfs, mount.target.lstrip("/")) if mount.target else rootfs
            try:
                undo.callback(_undo, _mount(mount, rootfs, run))
            except PouchrichError as err:
                raise type(err)(f"rootfs mount {number}: {err}") from err
            except OSError as err:
                raise PouchrichError(f"rootfs mount {number}: {mount.type} at {where}: {text_of(err)}") from err
        undo.pop_all()


def unmount_all(rootfs: str) -> None:
    """Unmount everything at and below `rootfs`, and what an interrupted `mount_all` left beside it.

    A path that is missing or not mounted is a success. FUSE needs no helper here: root may unmount it like any other.
    Raises PouchrichError where a mount stays busy.
    """
    try:
        mounts.unmount_tree(rootfs)
        mounts.unmount_tree(_layers(rootfs))
    except OSError as err:
        raise PouchrichError(f"unmount rootfs: {text_of(err)}") from err


def show(rootfs: str, at: str) -> None:
    """Show what is mounted at and below `rootfs` at the directory `at`, too. Raises PouchrichError.

    Later mounts and unmounts at one of the two do not appear at the other (mount_namespaces(7), peer groups).
    """
    try:
        syscalls.mount(rootfs, at, None, syscalls.MS_BIND | syscalls.MS_REC)
        syscalls.mount(None, at, None, syscalls.MS_PRIVATE | syscalls.MS_REC)
    except OSError as err:
        raise PouchrichError(f"{rootfs} at {at}: {text_of(err)}") from err


def hide(at: str) -> None:
    """Undo `show`. May be repeated, and `at` may be gone."""
    with contextlib.suppress(OSError):  # EINVAL: nothing is mounted there
        syscalls.umount2(at, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)


def _layers(rootfs: str) -> str:
    # In the bundle, which only root can enter and which containerd removes whatever happens to this process.
    return f"{rootfs}.layers"


def _undo(path: str) -> None:
    # The error that led here matters more than this one.
    with contextlib.suppress(OSError):
        syscalls.umount2(path, syscalls.UMOUNT_NOFOLLOW)


def _mount(mount: Mount, rootfs: str, run: Run) -> str:
    """Mount one entry and return the path to unmount."""
    options = mount_options.parse(mount.options)
    with mounts.resolved(rootfs, mount.target) as target:
        path = os.readlink(target)
        helper = next((name for prefix, name in _FUSE_HELPERS.items() if mount.type.startswith(prefix)), "")
        if helper:
            _mount_fuse(helper, mount, path, run)
            return path
        with ExitStack() as context:
            if options.uidmap and mount.type == "overlay":
                options = context.enter_context(_mapped_layers(options, _layers(rootfs)))
            _mount_kernel(mount, options, target)
    try:
        _adjust(options, rootfs, mount.target)
    except OSError:
        _undo(path)
        raise
    return path


def _mount_fuse(helper: str, mount: Mount, path: str, run: Run) -> None:
    search = os.environ.get("PATH", DEFAULT_PATH)
    program = shutil.which(helper, path=search)
    if program is None:
        raise PouchrichError(f"mount {mount.type} at {path}: {helper} is not in {search}")
    words = (argument for word in mount.options for argument in ("-o", word))
    argv = [program, mount.source, path, *words, "-t", mount.type.partition(".")[2]]
    status = run(argv)
    if status != 0:
        raise PouchrichError(f"mount {mount.type} at {path}: {helper} exited with status {status}")


def _mount_kernel(mount: Mount, options: MountOptions, target: str) -> None:
    with ExitStack() as context:
        source = mount.source
        if options.loop:
            device = loop.attached(
                source, read_only=bool(options.flags & syscalls.MS_RDONLY), direct_io=options.direct_io
            )
            source = context.enter_context(device)
        words = options.data
        if mount.type == "overlay" and sum(map(len, words)) >= _LONG:
            directory, words = overlay.relative(words)
            if directory:
                context.enter_context(_working_directory(directory))
        data = ",".join(words)
        # The kernel copies one page, whose last byte is the NUL, and would silently cut the rest.
        if len(os.fsencode(data)) >= _PAGE_SIZE:
            raise InvalidArgument("mount options is too long")
        syscalls.mount(source, target, mount.type, options.flags, data or None)


@contextmanager
def _working_directory(directory: str) -> Iterator[None]:
    """Give this thread alone another working directory."""
    syscalls.unshare(syscalls.CLONE_FS)
    before = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        yield
    finally:
        os.fchdir(before)
        os.close(before)


def _adjust(options: MountOptions, rootfs: str, target: str) -> None:
    """Apply what mount(2) cannot do in the call that makes the mount."""
    if options.uidmap:
        _map_owners(options, rootfs, target)
    if options.flags & syscalls.MS_BIND and options.flags & mounts.PER_MOUNT:
        with mounts.resolved(rootfs, target) as path:
            mounts.remount_bind(path, options.flags)
    if options.propagation:
        with mounts.resolved(rootfs, target) as path:
            syscalls.mount(None, path, None, options.propagation)


@contextmanager
def _mapped_layers(options: MountOptions, directory: str) -> Iterator[MountOptions]:
    """`options` with each lower directory replaced by an idmapped view of it, mounted while the `with` lasts.

    overlayfs makes its own copies of its layers' mounts, so the views are only needed until mount(2) returns. They are
    read-only because a crash may leave them in a bundle, which containerd then removes file by file.
    """
    mounts.unmount_tree(directory)
    os.makedirs(directory, 0o700, exist_ok=True)
    with ExitStack() as undo:
        undo.callback(_remove, directory)
        userns = undo.enter_context(idmap.user_namespace(options.uidmap, options.gidmap))
        views = []
        for number, layer in enumerate(overlay.lowerdirs(options.data)):
            views.append(overlay.escape(os.path.join(directory, str(number))) if layer else "")
            if layer:
                _mount_view(overlay.unescape(layer), os.path.join(directory, str(number)), userns, undo)
        yield options._replace(data=overlay.with_lowerdirs(options.data, views), uidmap="", gidmap="")


def _mount_view(layer: str, view: str, userns: int, undo: ExitStack) -> None:
    os.makedirs(view, 0o700, exist_ok=True)
    undo.callback(_remove, view)
    tree = idmap.clone_mapped(layer, userns, read_only=True)
    try:
        idmap.attach(tree, view)
    finally:
        os.close(tree)
    undo.callback(syscalls.umount2, view, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)


def _remove(directory: str) -> None:
    # The directory is empty and in the bundle: if this fails it is removed with the bundle.
    with contextlib.suppress(OSError):
        os.rmdir(directory)


def _map_owners(options: MountOptions, rootfs: str, target: str) -> None:
    """Replace the mount just made with an idmapped copy."""
    with (
        mounts.resolved(rootfs, target) as made,
        idmap.user_namespace(options.uidmap, options.gidmap) as userns,
    ):
        path = os.readlink(made)
        tree = idmap.clone_mapped(made, userns, recursive=bool(options.flags & syscalls.MS_REC))
    try:
        syscalls.umount2(path, syscalls.MNT_DETACH | syscalls.UMOUNT_NOFOLLOW)
        with mounts.resolved(rootfs, target) as below:
            idmap.attach(tree, below)
    finally:
        os.close(tree)

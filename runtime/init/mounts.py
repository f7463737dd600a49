"""The mounts that a real init needs, and which mounts of the pod leave room for them."""

import posixpath
from collections.abc import Sequence
from typing import Any

from runtime.errors import InvalidArgument
from runtime.init.base import CONTAINER_RUN_DIR, ModeInput, bind_step, covers
from runtime.spec import edit
from runtime.spec.edit import Edit, Spec, Step

_RUN = {
    "/run": ("mode=755",),
    "/run/lock": ("noexec", "mode=1777", "size=5m"),
}
_READ_ONLY_ROOT = {
    "/tmp": ("mode=1777",),
    "/var/tmp": ("mode=1777",),
    "/var/log": ("mode=755",),
    "/var/lib/systemd": ("mode=755",),
}

_SHARES = {"/run": 5, **dict.fromkeys(_READ_ONLY_ROOT, 2)}
"""A fifth of the memory for /run, as by systemd (src/shared/mount-util.h, TMPFS_LIMITS_RUN), half for others, as by the
kernel. Services fill them with logs, so it has to be a share of the container's memory, not of the node's."""

_LEAST_BYTES, _NO_LIMIT = 32 << 20, 1 << 50
"""The least size of such a tmpfs; and a memory limit that is none."""

_RESOLVED = frozenset(
    ("/etc/resolv.conf", f"/run/systemd/resolve/{name}") for name in ("stub-resolv.conf", "resolv.conf")
)
"""containerd's own mount of /etc/resolv.conf where the image links that into /run/systemd; systemd makes no unit of
it."""

WRITABLE = (*_RUN, *_READ_ONLY_ROOT)
"""Where a tmpfs may be mounted. Where these paths lead in the image has to be known."""

_COPIED_BYTES = {"/run": 8 << 20, "/run/lock": 1 << 20, "/var/log": 16 << 20, "/var/lib/systemd": 4 << 20}
"""How many bytes of the image's files a tmpfs may start with. They take the pod's memory for as long as it lives."""


def has_read_only_root(spec: Spec) -> bool:
    """Whether the root is read-only, as with a pod's readOnlyRootFilesystem."""
    return edit.table(spec, "root").get("readonly") is True


def in_memory(spec: Spec) -> dict[str, int]:
    """The paths at which a tmpfs for `spec` starts with the image's files, each with the most bytes they may have."""
    paths = _COPIED_BYTES if has_read_only_root(spec) else _RUN
    return {path: _COPIED_BYTES[path] for path in paths}


def _tmpfs(destination: str, options: Sequence[str]) -> dict[str, Any]:
    return {
        "destination": destination,
        "type": "tmpfs",
        "source": "tmpfs",
        "options": ["nosuid", "nodev", *options],
    }


def _size(spec: Spec, path: str) -> tuple[str, ...]:
    """The size option of the tmpfs at `path`, by the container's memory limit. Without one it is a share of the
    node's memory."""
    share = _SHARES.get(path)
    if share is None:
        return ()
    limit = edit.table(edit.table(edit.table(spec, "linux"), "resources"), "memory").get("limit")
    if isinstance(limit, int) and 0 < limit < _NO_LIMIT:
        return (f"size={max(limit // share, _LEAST_BYTES)}",)
    return (f"size={100 // share}%",)


def _step(setting: ModeInput, path: str, options: Sequence[str]) -> Step:
    # The pod's mounts at or below the path (a secret below /run) have to be made after the tmpfs.
    below = [one.destination for one in setting.mounts if covers(path, one.resolved)]
    # tmpcopyup keeps, for example, a daemon's directory and its owner, which nothing creates at boot.
    copies = ("tmpcopyup",) if path in _COPIED_BYTES and path not in setting.uncopied else ()
    mount = _tmpfs(path, (*copies, *options, *_size(setting.spec, path)))
    return Step(
        f"mount-{path[1:].replace('/', '-')}",
        f"a tmpfs at {path}, below the pod's own mounts there",
        Edit("with_mount_before", {"mount": mount, "before": below}),
    )


def refuse(setting: ModeInput, *closed: str) -> None:
    """Raise InvalidArgument where the pod mounts at or below one of `closed`, or a volume at /run itself.

    Init would write to a volume at /run, and so would the OCI runtime for its mount points, so only what belongs to the
    pod alone may be there.
    """
    for point in setting.mounts:
        if (point.destination, point.resolved) in _RESOLVED:
            continue
        # Both as written and as the image has it now: an empty tmpfs at /run hides symbolic links that were below it.
        leads = (point.resolved, posixpath.normpath(posixpath.join("/", point.destination)))
        for path in (CONTAINER_RUN_DIR, *closed):
            if any(covers(path, one) for one in leads):
                raise InvalidArgument(
                    f"config.json: mounts[{point.destination}]: found a mount of the pod,"
                    f" allowed none at or below {path} in mode {setting.mode}"
                )
        if point.resolved == "/run" and not point.is_private:
            raise InvalidArgument(
                f"config.json: mounts[{point.destination}]: found a volume, allowed at /run only a writable tmpfs,"
                f" emptyDir or VOLUME of the image in mode {setting.mode}"
            )


def writable(setting: ModeInput) -> tuple[Step, ...]:
    """The tmpfs mounts, parents first, except where the pod already mounts something.

    Raises InvalidArgument where /run is a symbolic link in the image: the mounts would land where the image says.
    """
    for path in ("/run", CONTAINER_RUN_DIR):
        if setting.resolved[path] != path:
            raise InvalidArgument(
                f"image: {path}: found a symbolic link to {setting.resolved[path]}, allowed a directory"
                f" in mode {setting.mode}"
            )
    taken = {point.resolved for point in setting.mounts}
    steps = [_step(setting, path, options) for path, options in _RUN.items() if path not in taken]
    if has_read_only_root(setting.spec):
        steps += [
            _step(setting, path, options)
            for path, options in _READ_ONLY_ROOT.items()
            if setting.resolved[path] == path and not any(covers(one, path) for one in taken - {"/"})
        ]
    return tuple(steps)


def hidden(setting: ModeInput, steps: Sequence[Step]) -> tuple[str, ...]:
    """Warnings about files of the image that the empty tmpfs mounts of `steps` (made by `writable`) hide."""
    paths = [step.edit.operand["mount"]["destination"] for step in steps]
    return tuple(
        f"image: {path}: {setting.uncopied[path]}: the container gets an empty tmpfs there, without the image's files"
        for path in paths
        if path in setting.uncopied
    )


def run_directory(setting: ModeInput) -> tuple[Step, ...]:
    """The mount of the run directory, which has the launcher in it, after every other mount."""
    return (
        bind_step(
            "mount-home",
            f"the container's run directory at {CONTAINER_RUN_DIR}, read-only",
            setting.run_dir,
            CONTAINER_RUN_DIR,
        ),
    )

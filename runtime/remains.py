"""What is left of a container when its OCI runtime has deleted it: its mounts and its record, and at times a cgroup.

A cgroup is busy for a moment after its last process, and the OCI runtimes wait for that for a while only (crun and runc
then report success, or nothing that would be worth a failed Delete).
"""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING

from runtime import members, rootfs
from runtime.errors import PouchrichError
from runtime.oci import interrupted

if TYPE_CHECKING:
    from runtime.bundle import Bundle
    from runtime.cgroup import Cgroup


def remove(bundle: Bundle, cgroup: Cgroup | None) -> None:
    """Unmount the root, and remove the cgroups that are still there; `cgroup` is init's, None where it is not known.

    Raises OSError for a mount that cannot be undone; cgroups that cannot be removed stay.
    """
    if cgroup is None or cgroup.is_left():
        with suppress(PouchrichError, OSError):  # without its config.json there is nothing to go by
            interrupted.remove_cgroups(bundle.load_spec(), patience_s=interrupted.DYING_S)
    if given := members.given_of(bundle.path):
        rootfs.hide(f"{given}/rootfs")
    rootfs.unmount_all(bundle.rootfs)


def forget(bundle: Bundle) -> None:
    """Say that nothing is left: remove the record, and a member's bundle with it. Raises OSError."""
    bundle.remove_record()
    if members.given_of(bundle.path):
        members.remove(bundle.path)

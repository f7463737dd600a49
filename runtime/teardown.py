"""What is left of a container after its OCI runtime has deleted it: its mounts and its record, and sometimes a cgroup.

A cgroup stays busy for a moment after its last process, and the OCI runtimes wait only a while for that (crun and runc
then report success, or nothing that would justify failing a Delete).
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


def remove_mounts_and_cgroups(bundle: Bundle, cgroup: Cgroup | None) -> None:
    """Unmount the root, and remove cgroups that still exist; `cgroup` is init's, None where it is not known.

    Raises OSError for a mount that cannot be undone. Cgroups that cannot be removed are left.
    """
    if cgroup is None or cgroup.is_left():
        with suppress(PouchrichError, OSError):  # without its config.json nothing says where the cgroups are
            interrupted.remove_cgroups(bundle.load_spec(), patience_s=interrupted.DYING_S)
    if given := members.containerd_bundle(bundle.path):
        rootfs.hide(f"{given}/rootfs")
    rootfs.unmount_all(bundle.rootfs)


def remove_record(bundle: Bundle) -> None:
    """Remove the record, and a member's bundle with it: nothing is left of the container. Raises OSError."""
    bundle.remove_record()
    if members.containerd_bundle(bundle.path):
        members.remove(bundle.path)

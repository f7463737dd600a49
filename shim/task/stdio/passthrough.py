"""Whether a container may have the client's FIFO itself as its output, with nothing to copy.

What the container writes is then at once where the client reads: nothing of ours runs, and an end of ours does not
break it. A pipe of our own in between is needed where the FIFO, which is a file of the host, would be more or less to
the container than a pipe is:

- SELinux and AppArmor judge an inherited descriptor when the container's program is executed, a FIFO by its own label
  or path, which a container's policy may refuse; the kernel then puts /dev/null in its place (selinux/hooks.c,
  flush_unauthorized_files). A pipe has its maker's label and no path.
- With CAP_DAC_READ_SEARCH any descriptor on a file system opens all of it by handle (open_by_handle_at(2)).
- CRIU saves a pipe, but no FIFO outside the container's mount namespace; where it is not installed nothing is lost.
"""

from typing import Any

from shim.task import checkpoint

BY_HANDLE = "CAP_DAC_READ_SEARCH"
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def may_pass_through(spec: dict[str, Any]) -> bool:
    """`spec` is what the OCI runtime gets."""
    process = spec.get("process") or {}
    labels = process.get("selinuxLabel"), process.get("apparmorProfile")
    capabilities = process.get("capabilities") or {}
    by_handle = any(BY_HANDLE in (capabilities.get(name) or ()) for name in CAPABILITY_SETS)
    return not any(labels) and not by_handle and not checkpoint.has_criu()

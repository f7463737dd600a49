"""Whether a container may write to the client's FIFO directly, without a copy by the pod server.

The container's output then reaches the client at once, without work for the pod server, and survives the pod server's
death. The FIFO is a file of the host, though. The shim puts a pipe of its own in between where the FIFO would give the
container more or less than a pipe does:

- SELinux and AppArmor check inherited descriptors when the container's program is executed. They judge a FIFO by its
  label or path, which a container's policy may refuse; the kernel then replaces it by /dev/null (selinux/hooks.c,
  flush_unauthorized_files). A pipe has the label of the process that made it, and no path.
- With CAP_DAC_READ_SEARCH, a descriptor on a file system opens every file of it by handle (open_by_handle_at(2)).
- CRIU saves a pipe, but not a FIFO outside the container's mount namespace. This matters only where CRIU is installed.
"""

from typing import Any

from shim.task import checkpoint

BY_HANDLE = "CAP_DAC_READ_SEARCH"
CAPABILITY_SETS = ("bounding", "effective", "inheritable", "permitted", "ambient")


def may_pass_through(spec: dict[str, Any]) -> bool:
    """Whether the process of `spec`, the spec that the OCI runtime gets, may have the client's FIFOs."""
    process = spec.get("process") or {}
    labels = process.get("selinuxLabel"), process.get("apparmorProfile")
    capabilities = process.get("capabilities") or {}
    by_handle = any(BY_HANDLE in (capabilities.get(name) or ()) for name in CAPABILITY_SETS)
    return not any(labels) and not by_handle and not checkpoint.has_criu()

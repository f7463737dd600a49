"""The process of one pod: the pod server.

daemon           from the fork to the event loop
server           puts the pod server together, and ends it
log              writes the log to containerd's FIFO
status           maps errors to ttrpc status codes
cleanup          what `delete` does for one container after a pod server was killed
sandbox_cleanup  the same for a sandbox with its members
killed           counts a container that such a pod server has left
oci_delete       runs the OCI runtime's `delete` for that
trim             returns memory when requests stop
"""

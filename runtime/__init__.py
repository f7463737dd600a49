"""What a rich container is: OCI specs, OCI runtimes and the kernel; no ttrpc, no protobuf, no containerd."""

"""Rich containers: OCI specs, OCI runtimes and the kernel; nothing about ttrpc, protobuf or containerd's API."""

"""The annotations by which Kubernetes tells a container runtime about a pod and its containers.

containerd's CRI plugin writes those of `io.kubernetes.cri` (its package internal/cri/annotations). The kubelet writes
`io.kubernetes.pod.terminationGracePeriod` (pkg/kubelet/kuberuntime/labels.go), which containerd passes on to a handler
that lists it.
"""

CONTAINER_TYPE = "io.kubernetes.cri.container-type"
CONTAINER_NAME = "io.kubernetes.cri.container-name"
IMAGE_NAME = "io.kubernetes.cri.image-name"
SANDBOX_ID = "io.kubernetes.cri.sandbox-id"
SANDBOX_NAME = "io.kubernetes.cri.sandbox-name"
SANDBOX_NAMESPACE = "io.kubernetes.cri.sandbox-namespace"
SANDBOX_UID = "io.kubernetes.cri.sandbox-uid"

GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"
"""The grace period in seconds, as decimal text."""

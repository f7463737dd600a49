"""A node of a cluster: configures its containerd for the shim, labels the node, and undoes both.

host          works with the node's root directory, and runs programs beside its process 1
preflight     checks whether the node can have the shim
hold          what keeps a rollout from the node
block         our lines in a file of somebody else's
unmarked      our lines there, if the marks are gone
place         where the containerds of kubeadm, k3s, rke2 and k0s expect a handler
trial         tries the change with containerd's own `config dump`
handling      adds the handler, and removes it again
restart       restarts containerd, where that is needed and allowed
kubectl       the node's labels and annotations, and pods on the node
probe         runs a pod of each mode
labels        which labels the node has
membership    the steps that install the shim on the node or remove it
rollout       does all of that in order, in a DaemonSet's pod
status        reports the present state

`pouchrich.node` manages the versions on the node's disk.
"""

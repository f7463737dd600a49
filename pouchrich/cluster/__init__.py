"""A node of a cluster: its containerd is told of the shim, Kubernetes of the node, and both are taken back.

host          the node's root as one's own, and programs run where its process 1 is
preflight     whether the node can have the shim
hold          what keeps a rollout from it
block         lines of ours in a file that is another's
place         where the containerds of kubeadm, k3s, rke2 and k0s want a handler
trial         what containerd's own `config dump` would make of it
handling      the handler put there, and taken out again
restart       containerd started anew, where it has to be and may be
kubectl       the node's labels and annotations, and pods on it
probe         a pod of each mode
rollout       all of that in order, as a DaemonSet's pod does it
status        what of it there is

Versions on the node's disk are `pouchrich.node`'s.
"""

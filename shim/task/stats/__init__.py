"""Stats: a container's cgroup as the message that containerd and the CRI decode, cheap enough for each second.

Each file of the cgroup is kept open (`runtime.cgroup.kept`), and encoded anew only where its text has changed.
"""

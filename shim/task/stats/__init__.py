"""Stats: encodes a container's cgroup as the message that containerd and the CRI decode; cheap enough for every second.

Each file of the cgroup is kept open (`runtime.cgroup.kept`), and encoded anew only when its text has changed.
"""

"""Agents: the node's own programs beside the application, in every container that their `when` selects.

    select.py   which agents a container has, and what is refused before anything is made
    mounts.py   their binds of host paths, and where those may not go
    unit.py     as units of a systemd in the container, those that are not mandatory
    process.py  as processes that the shim starts and supervises: in every other mode, and the mandatory ones always
    files.py    what of the node their mounts show in a container, and whether they still do
    cgroup.py   a memory limit of their own, for supervised ones on cgroup v2

They are inside the pod's trust: never more capabilities than the pod's, its seccomp and LSM labels, its limits.
"""

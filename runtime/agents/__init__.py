"""Agents: the node's own programs beside the application, in every container that their `when` selects.

    select   which agents a container has, and what is refused before anything is made
    mounts   their binds of host paths, and where those may not go
    unit     agents as units of a systemd in the container, if they are not mandatory
    process  agents as processes that the shim starts and supervises: the mandatory ones, and all in other modes
    files    which files of the node their mounts show in a container, and whether they still do
    cgroup   a memory limit of their own, for supervised agents on cgroup v2
    change   which changes of the configuration an agent can get in a running container
    node_check  whether the node has what the agents of a configuration need, before any container is made

Agents are inside the pod's trust: never more capabilities than the pod's, its seccomp and LSM labels, its limits.
"""

"""What a rich container has beside its application.

decide            examines image and node, makes the plan, adds agents, routes and lxcfs
rich              the container's life: hooks, routes, init, application, agents
assembly          makes the parts of that life and connects them
subject           identifies the container
times             logs and counts how long each phase took
container_agents  the container's agents of both kinds, and their changes
agents            keeps the supervised ones running
agent_exec        starts such an agent
agent_files       checks that it is started from the node's files
agent_end         ends one that is to be started anew
agent_log         logs what an agent prints
agent_units       changes the agents that are units of the container's systemd
agent_changes     changes agents one by one, as the node's administrator asks
command           looks up a command that lies on a volume
own_cgroups       the cgroups that the container's PID 1 may make
notes             files in the bundle for `pouchrich ps` and `inspect`
post_mortem       keeps the log of a container that has not ended as it should
routes            the routes of the container's network
lxcfs             whether the node's lxcfs is alive
probe             runs a helper program that answers one question
"""

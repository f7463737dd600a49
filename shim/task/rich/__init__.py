"""What a rich container has beside its application.

decide       examines image and node, makes the plan, adds agents, routes and lxcfs
rich         the container's life: hooks, routes, init, application, agents
subject      identifies the container
times        logs and counts how long each phase took
agents       keeps the node's agents in the container running
agent_exec   starts an agent
agent_log    logs what an agent prints
own_cgroups  the cgroups that the container's PID 1 may make
notes        files in the bundle for `pouchrich ps` and `inspect`
routes       the routes of the container's network
lxcfs        whether the node's lxcfs is alive
probe        runs a helper program that answers one question
"""

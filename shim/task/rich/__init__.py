"""What a rich container has beside its application.

decide       what the image and the node are like, then the plan, then what is beside it
rich         the container's life: hooks, routes, init, application, agents
subject      which container it is
times        how long that took, told and counted
agents       the node's agents in it, kept running
agent_exec   how one is started
agent_log    what it prints
own_cgroups  the cgroups that it may make
notes        what of all this is left for other processes to read
routes       its network's routes
lxcfs        whether the node's lxcfs is alive
probe        a program of ours that is asked one question
"""

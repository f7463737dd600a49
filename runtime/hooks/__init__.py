"""Hooks: which ones a container has, what each is given, and the record that makes a poststop hook start at most once.

    select           which hooks, in which order; pure
    environment      what a hook is told: variables, OCI state; pure
    process          the OCI process and spec of a hook in the container; pure
    tail             the end of what a hook wrote
    host_supervisor  the parent process of a hook on the host: its time-out and its whole process tree
    others           the processes of a container other than its init
    pinned           what a poststop hook needs of a container that is gone: its namespaces, its spec
    journal          the durable record
    journal_state    the state that a record's lines add up to, and what may happen to a hook; pure

Nothing here starts a program: `shim.task.hooks.hooks` does.
"""

"""Hooks: which ones a container has, what each finds, and the record that makes every poststop hook start at most once.

    select       which hooks, in which order; pure
    environment  what a hook is told: variables, OCI state; pure
    process      what a hook in the container runs as; pure
    tail         the end of what a hook wrote
    host_supervisor  the program that a hook on the host is a child of: its time-out and its whole process tree
    others       the processes of a container other than its init
    pinned       what a poststop hook needs of a container that is gone: its namespaces, its spec
    journal      the durable record
    account      what its lines amount to, and what may happen to a hook; pure

Nothing here starts a program: `shim.task.hooks.hooks` does.
"""

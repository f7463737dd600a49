"""The process of one pod.

daemon  from the fork to the event loop
server  what it consists of, and when it ends
log     what it says to containerd
status  what it says to `pouchrich ps`
quiet   the memory that it gives back while nothing is asked of it
"""

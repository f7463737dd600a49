"""The process of one pod: the pod server.

daemon  from the fork to the event loop
server  puts the pod server together, and ends it
log     writes the log to containerd's FIFO
status  maps errors to ttrpc status codes
cleanup what `delete` does after a pod server was killed
trim    returns memory when requests stop
"""

"""The process of one pod.

daemon  from the fork to the event loop
server  what it consists of, and when it ends
log     what it says to containerd
status  how our errors are answered
cleanup what `delete` does after one that was killed
trim    giving memory back while nothing is asked of it
"""

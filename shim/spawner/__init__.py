"""One preloaded process for each containerd, and its children: pod servers, and cleaners after killed ones.

request             the form of a request from a starter, and the socket
launch              how a starter begins a spawner
entry               the spawner's entry point
server              the spawner process
prefork             a child that waits for the next request
receive             reads a request, in the child that carries it out
child               carries it out: `start`, then goes on as the pod server; or `delete`
info                answers `-info`: what the runtime offers
cgroup              moves this process into another cgroup
containerd_version  whether containerd accepts version 3 of the start protocol
preload             imports everything before the first fork
warmup              plays a pod's whole life before the first fork
adaptive            keeps Python 3.11 from writing to code, so that its pages stay shared
specializing        the same for the Python of a release, once its code has been specialised
immortal            makes what has been imported immortal, where Python can
"""

"""One preloaded process for each containerd, and its children: pod servers, and cleaners after killed ones.

request    the form of a request from a starter, and the socket
launch     how a starter begins a spawner
entry      the spawner's entry point
server     the spawner process
child      carries out a request: `start`, then goes on as the pod server; or `delete`
preload    imports everything before the first fork
warmup     plays a pod's whole life before the first fork
adaptive   keeps Python 3.11 from writing to code, so that its pages stay shared
specializing  the same for the Python of a release, once its code has been specialised
immortal   makes what has been imported immortal, where Python can
"""

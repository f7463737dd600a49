"""One preloaded process for each containerd, and its children: pod servers, and cleaners after killed ones.

request    the form of a request from a starter, and the socket
launch     how a starter begins a spawner
entry      the spawner's entry point
server     the spawner process
child      carries out a request: `start`, then goes on as the pod server; or `delete`
preload    imports everything before the first fork
warmup     plays a pod's whole life before the first fork
adaptive   keeps Python from writing to code, so that its pages stay shared
"""

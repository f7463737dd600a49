"""One preloaded process for each containerd, and its children: pod servers, and what cleans up after killed ones.

request    what a starter asks of it, and where
launch     how a starter begins it
entry      its first lines
server     the process itself
child      what carries out a request: `start`, and goes on as the pod server, or `delete`
preload    what is imported before the first fork
warmup     a pod's whole life, gone through before the first fork
adaptive   keeps code from being written to, so that it stays shared
"""

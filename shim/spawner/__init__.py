"""One preloaded process for each containerd, and its children, which become pod servers.

request    what a starter asks of it, and where
launch     how a starter begins it
entry      its first lines
server     the process itself
child      what carries out a request, and goes on as the pod server
preload    what is imported before the first fork
warmup     a pod's whole life, gone through before the first fork
adaptive   keeps code from being written to, so that it stays shared
"""

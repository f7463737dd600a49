"""The actions of the command line, which containerd calls a shim's manager.

start    hands the request to the spawner, or does without one
delete   `delete`, where neither the native program nor the spawner does it
command  everything else, and the errors
"""

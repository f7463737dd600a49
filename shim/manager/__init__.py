"""The actions of the command line, which containerd calls a shim's manager.

start        hands the request to the spawner, or does without one
delete_fast  `delete` of a container of which nothing is left
delete       `delete` of any other container
info         `-info`: the features of the runtime
command      everything else, and the errors
"""

"""The actions of the command line, which containerd calls a shim's manager.

start        hand the request to the spawner, or do without
delete_fast  `delete` of a container of which nothing is left
delete       `delete` of any other
info         `-info`: what the runtime offers
command      the rest, and the errors
"""

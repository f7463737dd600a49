"""The installed version of the package that a process runs, and those that have been replaced.

location  where this version is
version   keeping it while a process runs it
replaced  removing the others once nothing runs them
detached  a process that is left behind and keeps its version
"""

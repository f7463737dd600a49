"""The installed version of the package that a process runs, and the versions that have been replaced.

location  where this version is installed
version   keeps a version installed while a process runs it
replaced  removes replaced versions once nothing runs them
detached  leaves a process behind that keeps its version
"""

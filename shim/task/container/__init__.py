"""One container of the pod, from its creation to its Delete.

container   its init: start, signals, exit, the order of its events
sandbox     what the end of the pod's sandbox means for the others
lifecycle   what a rich container adds at which time
execs       its further processes
process     a process of either kind, with its streams
phase       where a process is in its life, and where it may go
freezer     pause and resume
oom         the kernel's OOM kills, each told once
"""

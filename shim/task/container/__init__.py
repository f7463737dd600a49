"""One container of the pod, from its creation to its Delete.

container   the init: start, signals, exit, the order of events
sandbox     calls off the starts in a pod whose sandbox has ended
lifecycle   callbacks by which a rich container adds to its life
execs       the exec processes
process     an init or exec process, with its streams
phase       the phases of a process, and the allowed transitions
freezer     pause and resume
oom         the kernel's OOM kills, each reported once
"""

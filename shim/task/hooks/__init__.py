"""Runs hooks: when, in which order, and by which process where the pod server is gone.

hooks         the hooks of one container, in its pod server
hook_run      runs one hook, in the container or on the host
hook_outcome  how a hook ended, in words
owed          runs the poststop hooks that a record owes
kept          adds their results to what is kept of a container that has ended
poststop      the poststop hooks of a container whose pod server is gone
"""

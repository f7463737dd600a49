"""Hooks, run: when, in which order, and by whom where the pod server is gone.

hooks         those of one container in its pod server
hook_run      one hook, in each of the places that a hook can run
hook_outcome  how it ended, in words
owed          the poststop hooks that a record owes
poststop      those of a container whose pod server is gone
"""

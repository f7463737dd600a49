"""What a pod server tells of itself and its containers.

publisher    events, to containerd
measures     what `pouchrich metrics` counts
log_fields   container and pod in each line of the log
lines        what a container writes, bounded for that log
reading      how much of the event loop's time that may take
"""

"""What a pod server tells of itself and its containers.

publisher    sends events to containerd
measures     the counters and timers for `pouchrich metrics`
reasons      the words in which they say why
log_fields   the container and pod in each line of the log
lines        lines that a container writes, bounded for the log
reading      bounds the event loop's time for reading them
"""

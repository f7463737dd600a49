#!/bin/sh
# Prints the container's number of processes every WATCHER_EVERY seconds. Stands for an agent that is a static program.
while :; do
    set -- /proc/[0-9]*
    echo "$# processes"
    sleep "$WATCHER_EVERY"
done

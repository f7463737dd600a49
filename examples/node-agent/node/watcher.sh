#!/bin/sh
# Says how many processes the container has, again and again. It stands for an agent that is one static program.
while :; do
    set -- /proc/[0-9]*
    echo "$# processes"
    sleep "$WATCHER_EVERY"
done

#!/bin/sh
# Notes the end of a container. It stands for a call to an inventory or a load balancer.
echo "$POUCHRICH_NAMESPACE $POUCHRICH_NAME ended with $POUCHRICH_EXIT_CODE" >>/var/lib/node-agent/ended

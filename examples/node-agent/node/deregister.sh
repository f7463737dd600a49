#!/bin/sh
# Records the end of a container. Stands for a call to an inventory or a load balancer.
echo "$POUCHRICH_NAMESPACE $POUCHRICH_NAME ended with $POUCHRICH_EXIT_CODE" >>/var/lib/node-agent/ended

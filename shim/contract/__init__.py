"""What containerd and a shim agree on. Cheap to import: `start` and `delete` do, for each container.

flags        the command line
bootstrap    what `start` reads and what `delete` answers
wire         the protobuf wire format of these
identifiers  which namespaces and ids are valid
group        which containers share a pod server
address      where a pod server listens
peer         whether the process at the other end of a socket lives
"""

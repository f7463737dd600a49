"""What containerd and a shim agree on. Cheap to import, because `start` and `delete` import it for each container.

flags        the command line
bootstrap    the input and output of `start`, and the answer of `delete`
wire         the protobuf wire format of these messages
identifiers  which namespaces and ids are valid
group        which containers share a pod server
address      where a pod server listens
peer         whether the process at the other end of a socket lives
"""

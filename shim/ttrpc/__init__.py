"""ttrpc: a protocol core without I/O, and its asyncio adapters. Unary calls, both ends, Python and protobuf only.

    frame, envelope, events, errors    bytes to values and back
    connection                         the two ends: bytes in, events and bytes out; no socket, no clock, no log
    service                            a protobuf service descriptor bound to the coroutine methods of an object
    server, client                     asyncio, unix sockets, who may connect

To serve, with a socket that listens and an object whose methods are named like the RPCs, in snake_case:

    server = TtrpcServer([bind(task_pb2.DESCRIPTOR.services_by_name["Task"], handler)], status_of=status_of)
    await server.start(sock)

To call:

    client = await TtrpcClient.connect("/run/x.sock")
    reply = await client.call("containerd.task.v2.Task", "State", StateRequest(id="x"), StateResponse, timeout_s=2)

To use other I/O: feed `ServerConnection.receive_data`, write `data_to_send()`, act on the events, answer with
`send_response` or `send_error`, write again. Streaming calls are refused; ttrpc has no way to cancel a call.
"""

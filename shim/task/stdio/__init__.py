"""The streams of a process: where containerd has them, and what is between.

stdio        the three streams of one process
streams      how they are opened, by what the client asks for
fifo         the client's FIFOs and files
passthrough  whether a process may have those FIFOs itself
endpoints    the client's end of one stream
relay        bytes from one descriptor to another
logger       a program of the node that takes the output (`binary://`)
terminal     a terminal between the client and whoever makes it
console      receiving a terminal from the OCI runtime
app_terminal  a terminal beside that of PID 1
url          the paths of `file://` and `binary://`
"""

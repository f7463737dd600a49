"""The streams of a process: the client's ends, the process's ends, and what is between them.

stdio        the three streams of one process
streams      opens them in the form that the client asks for
fifo         the client's FIFOs and files
passthrough  whether a process may get the client's FIFOs themselves
endpoints    the client's end of one stream
relay        copies bytes from one descriptor to another
logger       a program of the node that takes the output (`binary://`)
terminal     a terminal between the client and the process
console      receives a terminal from the OCI runtime
app_terminal  a terminal of the application, beside that of PID 1
url          the paths of `file://` and `binary://`
"""

"""One descriptor waited for, with a deadline; not for the event loop, which it would hold up.

A pidfd is readable once its process has ended (pidfd_open(2)), a pipe when it has data or no writer is left.
"""

import select


def within(fd: int, seconds: float) -> bool:
    """Whether `fd` is readable now or becomes so within `seconds`; less than none is none. Raises OSError."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def has_hung_up(fd: int) -> bool:
    """Whether nobody holds the other end of a pipe or terminal any more; what they wrote may be there still."""
    poll = select.poll()
    poll.register(fd, 0)  # POLLHUP is always told
    return bool(poll.poll(0))

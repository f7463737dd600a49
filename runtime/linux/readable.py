"""Waits for one descriptor, with a deadline. Not for the event loop, which it would block.

A pidfd is readable once its process has ended (pidfd_open(2)), a pipe when it has data or no writer is left.
"""

import select


def within(fd: int, seconds: float) -> bool:
    """Whether `fd` is readable now or within `seconds`; a negative number counts as 0. Raises OSError."""
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(max(0.0, seconds) * 1000))


def has_hung_up(fd: int) -> bool:
    """Whether nobody holds the other end of a pipe or terminal any more; unread data may still be there."""
    poll = select.poll()
    poll.register(fd, 0)  # POLLHUP is always reported
    return bool(poll.poll(0))

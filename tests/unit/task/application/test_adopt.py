"""shim.task.application.adopt: a peer of which the kernel keeps the number alone (before Linux 6.5)."""

import errno
import os
import socket

import pytest

from shim.task.application import adopt


def test_one_whose_number_is_no_processs_any_more_has_ended(monkeypatch):
    """Up to 6.4 the kernel says so of the number of a thread, or of a session whose leader was reaped."""
    ours, theirs = socket.socketpair()
    monkeypatch.setattr(adopt.pidfd, "peer_pidfd", lambda connection: None)

    def refuse(pid):
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(adopt.pidfd, "open", refuse)
    with ours, theirs, pytest.raises(ProcessLookupError, match=f"pid {os.getpid()} has ended"):
        adopt._open_peer(ours)

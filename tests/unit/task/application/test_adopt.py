"""shim.task.application.adopt: a peer of which the kernel keeps the number alone (before Linux 6.5)."""

import errno
import os
import resource
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


def test_a_hard_limit_that_init_has_lowered_for_itself_is_raised_again_for_the_application(monkeypatch):
    """systemd 239 to 243 lower RLIMIT_MEMLOCK for good, and the launcher may not raise what it gets from it."""
    ours, theirs = socket.socketpair()
    now = {resource.RLIMIT_MEMLOCK: (10, 20), resource.RLIMIT_NOFILE: (10, 20), resource.RLIMIT_CORE: (0, -1)}
    raised = {}

    def prlimit(pid, number, limits=None):
        assert pid == 4242
        if limits is not None:
            raised[number] = limits
        return now[number]

    monkeypatch.setattr(resource, "prlimit", prlimit)
    wanted = ((resource.RLIMIT_MEMLOCK, 5, 2**64 - 1), (resource.RLIMIT_NOFILE, 5, 20), (resource.RLIMIT_CORE, 0, 9))
    with theirs:
        adopt.Adopted(4242, -1, ours).release([0, 1, 2], wanted)
    assert raised == {resource.RLIMIT_MEMLOCK: (10, -1)}

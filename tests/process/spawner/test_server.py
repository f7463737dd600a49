"""shim.spawner.server in this process, with events that the test makes up."""

import os
import socket

import pytest

from shim.spawner import server


@pytest.mark.timeout(10)
def test_a_connection_that_another_spawner_has_accepted_is_not_waited_for(tmp_path, monkeypatch):
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{tmp_path}/socket")
    listener.listen()
    pidfd = os.pidfd_open(os.getpid())
    spawner = server.Spawner("path", "key", -1, pidfd, os.dup(listener.fileno()), (), is_warm=True)
    monkeypatch.setattr(spawner, "_is_wanted", lambda: True)
    seen = iter([[(spawner._listener.fileno(), 1)], [(pidfd, 1)]])  # nobody connects any more; containerd ends
    monkeypatch.setattr(spawner, "_poll", type("Poll", (), {"poll": lambda self, timeout: next(seen)})())
    spawner.serve(1.0)
    assert next(seen, None) is None
    spawner._listener.close()
    listener.close()
    os.close(pidfd)

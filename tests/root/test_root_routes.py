"""Routes in network namespaces made here: a process of ours holds each, and the namespace ends with it."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager

import pytest

from runtime import routes
from runtime.config.model import Route, When
from runtime.errors import RuntimeFailed
from runtime.linux import syscalls
from shim.task.reaper import Reaper
from shim.task.rich.routes import apply
from tests.fakes.loop import open_fds

IP = shutil.which("ip", path="/usr/sbin:/usr/bin:/sbin:/bin")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0 or IP is None, reason="making network namespaces needs root and iproute2"),
]


def sees_pid_1():
    """Whether PID 1's namespace may be looked at, which takes every capability that PID 1 has."""
    try:
        os.stat("/proc/1/ns/net")
    except PermissionError:
        return False
    return True


SEES_PID_1 = pytest.mark.skipif(not sees_pid_1(), reason="needs PID 1's capabilities")


@contextmanager
def namespace(*devices):
    """A namespace with loopback and these veth devices, the first with addresses: the pid of a process in it."""
    ready, gone = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            syscalls.unshare(syscalls.CLONE_NEWNET)
            os.write(ready[1], b".")
            os.close(gone[1])
            os.read(gone[0], 1)  # until the test closes its end, or dies
        finally:
            os._exit(0)
    try:
        os.close(gone[0])
        os.close(ready[1])
        assert os.read(ready[0], 1) == b"."
        for number, name in enumerate(devices):
            run(pid, "link", "add", name, "type", "veth", "peer", "name", f"{name}-peer")
            run(pid, "link", "set", name, "up")
            if number == 0:
                run(pid, "address", "add", "10.1.0.2/24", "dev", name)
                run(pid, "-6", "address", "add", "fd00::2/64", "dev", name, "nodad")
        yield pid
    finally:
        os.close(gone[1])
        os.close(ready[0])
        os.waitpid(pid, 0)


def run(pid, *words):
    """`ip` in the namespace of `pid`; what it prints, as JSON where it is asked for."""
    done = subprocess.run(
        ["/usr/bin/nsenter", f"--net=/proc/{pid}/ns/net", IP, *words], capture_output=True, text=True, check=True
    )
    return done.stdout


_HAND_OVER = f'exec {routes.NETNS_FD}<"$0"; exec "$@"'


def ask(pid, *wanted, within=()):
    """The program's answer about the namespace of `pid`; `within` is a command that runs it elsewhere."""
    done = subprocess.run(
        ["/bin/sh", "-c", _HAND_OVER, f"/proc/{pid}/ns/net", *within, *routes.command(sys.executable)],
        input=routes.question([Route(to, via, When()) for to, via in wanted]),
        capture_output=True,
        env={},
        cwd="/",
        timeout=30,
        check=False,
    )
    assert done.stderr == b""
    return routes.read_answer(done.returncode, done.stdout)


def table(pid, family="-4"):
    """(destination, gateway) of every route with a gateway."""
    found = json.loads(run(pid, "-json", family, "route"))
    return sorted((one["dst"], one["gateway"]) for one in found if "gateway" in one)


def test_routes_are_set_and_set_again_without_a_change():
    wanted = [("10.9.0.0/16", "10.1.0.1"), ("default", "10.1.0.254"), ("fd01::/64", "fd00::1"), ("default", "fd00::9")]
    with namespace("eth0") as pid:
        assert ask(pid, *wanted).applied == 4
        first = run(pid, "route"), run(pid, "-6", "route")
        assert ask(pid, *wanted).applied == 4
        assert (run(pid, "route"), run(pid, "-6", "route")) == first
        assert table(pid) == [("10.9.0.0/16", "10.1.0.1"), ("default", "10.1.0.254")]
        assert table(pid, "-6") == [("default", "fd00::9"), ("fd01::/64", "fd00::1")]


@pytest.mark.parametrize("default", ["default", "0.0.0.0/0"])
def test_a_route_takes_the_place_of_the_networks_own(default):
    with namespace("eth0") as pid:
        run(pid, "route", "add", "default", "via", "10.1.0.1")
        ask(pid, (default, "10.1.0.7"))
        assert table(pid) == [("default", "10.1.0.7")]


def test_another_containers_routes_stay():
    with namespace("eth0") as pid:
        ask(pid, ("10.8.0.0/16", "10.1.0.1"))
        ask(pid, ("10.9.0.0/16", "10.1.0.1"))
        assert len(table(pid)) == 2


def test_a_gateway_that_no_address_is_near_is_named_with_the_reason():
    with namespace("eth0") as pid:
        with pytest.raises(
            RuntimeFailed, match=r"routes: to 10.9.0.0/16 via 99.1.1.1: network is unreachable: no address"
        ):
            ask(pid, ("10.9.0.0/16", "99.1.1.1"))
        assert table(pid) == []


def test_a_namespace_without_devices_is_an_error_and_not_a_hang():
    with namespace() as pid, pytest.raises(RuntimeFailed, match=r"via 10.1.0.1: network is unreachable"):
        ask(pid, ("default", "10.1.0.1"))


def test_a_link_local_gateway_is_behind_the_only_device():
    with namespace("eth0") as pid:
        ask(pid, ("fd02::/64", "fe80::1"))
        assert table(pid, "-6") == [("fd02::/64", "fe80::1")]
    with namespace("eth0", "eth1") as pid, pytest.raises(RuntimeFailed, match=r"found 2 devices, allowed one"):
        ask(pid, ("fd02::/64", "fe80::1"))


@pytest.mark.parametrize("pid", [pytest.param(1, marks=SEES_PID_1), "self"])
def test_the_hosts_own_routes_are_never_touched(pid):
    before = subprocess.run([IP, "route"], capture_output=True, check=True).stdout
    assert "host's" in ask(pid, ("203.0.113.0/24", "203.0.113.1")).skipped
    assert subprocess.run([IP, "route"], capture_output=True, check=True).stdout == before


def test_a_containerd_in_a_namespace_of_its_own_has_two_that_are_off_limits():
    with namespace("eth0") as pid:
        inside = ("/usr/bin/nsenter", f"--net=/proc/{pid}/ns/net")
        for held in (pid, 1) if sees_pid_1() else (pid,):
            assert "host's" in ask(held, ("default", "10.1.0.1"), within=inside).skipped
        assert table(pid) == []


def test_a_pod_server_asks_and_keeps_no_descriptor(isolated):
    def serve(pid):
        async def run():
            reaper = Reaper(asyncio.get_running_loop())
            reaper.install()
            before = open_fds()
            assert await apply(reaper, pid, [Route("10.9.0.0/16", "10.1.0.1", When())]) == ""
            assert "host's, skipped" in await apply(reaper, os.getpid(), [Route("default", "203.0.113.1", When())])
            with pytest.raises(RuntimeFailed, match=r"routes: network namespace of pid 0"):
                await apply(reaper, 0, [Route("default", "203.0.113.1", When())])
            assert await apply(reaper, 0, []) == ""
            assert open_fds() == before

        asyncio.run(run())

    with namespace("eth0") as pid:
        isolated(lambda: serve(pid))
        assert table(pid) == [("10.9.0.0/16", "10.1.0.1")]

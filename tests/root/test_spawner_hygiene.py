"""What a pod server takes from its starter, and what it must not: from a spawner as from the starter itself.

One test for each thing that a fork hands on. Every starter here is set up as no containerd would do it, and so was
the one that left the spawner.
"""

import asyncio
import contextlib
import os
import signal
import time
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any

from protos.gen import runc_options_pb2, task_pb2
from runtime.paths import POSTSTOP_SWEPT
from shim.installed.replaced import CURRENT, LOCK
from shim.installed.version import IN_USE
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.errors import RemoteError
from tests.root import starters
from tests.root.starters import (
    RUNTIMES,
    alive,
    answering,
    cmdline,
    ended,
    links,
    parent,
    status,
    until,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")

IGNORED_BY_PYTHON = (signal.SIGPIPE, signal.SIGXFSZ)


NAMES = ("alone", "forked", "prefork")


def each(node, **how):
    """Pod servers past their set-up, by NAMES.

    One from its starter itself, one from the spawner that another began, one that the spawner had ready.
    """
    asyncio.run(answering(node.start("alone", env={**how.pop("env", {}), "POUCHRICH_SPAWNER": "off"}, **how)))
    node.start("first", **how)
    spawner = node.spawner()
    os.kill(node.prefork(spawner), signal.SIGKILL)
    asyncio.run(answering(node.start("forked", **how)))
    prefork = node.prefork(spawner)
    asyncio.run(answering(node.start("prefork", **how)))
    servers = tuple(node.server(name) for name in NAMES)
    assert [parent(pid) == spawner for pid in servers] == [False, True, True]
    assert [pid == prefork for pid in servers] == [False, False, True]
    return servers


def mask(*numbers):
    """Signals as /proc/PID/status writes them."""
    return f"{sum(1 << number - 1 for number in numbers):016x}"


def sleeps(pid, seconds):
    """Whether nothing wakes a process for so long."""

    def switches():
        return [status(pid, key) for key in ("voluntary_ctxt_switches", "nonvoluntary_ctxt_switches")]

    before = switches()
    time.sleep(seconds)
    return switches() == before


def test_the_session_and_the_process_group_are_its_own(on_node):
    def action(node):
        for pid in each(node, start_new_session=True):
            assert (os.getsid(pid), os.getpgid(pid)) == (pid, pid)
            assert Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[4] == "0", "a terminal"

    on_node(action)


def test_the_bundle_is_its_starters_and_is_let_go(on_node):
    def action(node):
        for name, pid in zip(NAMES, each(node), strict=True):
            address = (node.bundle(name) / "address").read_text()
            assert asyncio.run(answering(address)) == pid
            assert os.readlink(f"/proc/{pid}/cwd") == "/"
        assert os.readlink(f"/proc/{node.spawner()}/cwd") == "/"

    on_node(action)


@pytest.mark.parametrize("umask", [0o077, 0])
def test_the_umask_is_what_containerds_shims_have(on_node, umask):
    def action(node):
        assert [status(pid, "Umask") for pid in each(node, umask=umask)] == ["0022"] * 3

    on_node(action)


def test_no_signal_is_blocked(on_node):
    def block():
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGCHLD, signal.SIGUSR1, signal.SIGRTMAX})

    def action(node):
        assert [status(pid, "SigBlk") for pid in each(node, preexec_fn=block)] == [mask()] * 3

    on_node(action)


def test_no_signal_is_ignored_but_what_python_ignores(on_node):
    def ignore():
        for number in (signal.SIGHUP, signal.SIGUSR2, signal.SIGCHLD, signal.SIGTTOU, signal.SIGRTMAX):
            signal.signal(number, signal.SIG_IGN)

    def action(node):
        assert [status(pid, "SigIgn") for pid in each(node, preexec_fn=ignore)] == [mask(*IGNORED_BY_PYTHON)] * 3

    on_node(action)


def test_no_descriptor_of_the_starters_is_kept_open(on_node):
    """Not by the spawner either: who waits for the end of a pipe would wait for as long as it lives."""

    def action(node):
        reader, writer = os.pipe()
        each(node, pass_fds=[writer])
        os.close(writer)
        os.set_blocking(reader, False)
        assert os.read(reader, 1) == b"", "somebody has the pipe"

    on_node(action)


def test_no_standard_stream_is_the_starters(on_node):
    def action(node):
        streams = [[links(pid)[fd] for fd in (0, 1, 2)] for pid in (*each(node), node.spawner())]
        logs = [f"/run/bundles/{name}/log" for name in NAMES]
        assert streams == [["/dev/null", "/dev/null", last] for last in (*logs, "/dev/null")]

    on_node(action)


def test_the_version_that_is_run_is_held_by_whoever_goes_on_and_by_no_program_that_is_executed(on_node):
    def action(node):
        in_use = str(node.site.parent / IN_USE)

        def holds(pid):
            with contextlib.suppress(FileNotFoundError):  # a prefork child that was used up meanwhile
                return list(links(pid).values()).count(in_use) == 1

        servers = each(node)
        spawner = node.spawner()
        for pid in (*servers, spawner):
            assert holds(pid), links(pid)
        until(lambda: holds(node.prefork(spawner)), "a prefork child that holds it")
        oci = Path("/run/oci")
        oci.write_text("#!/bin/sh\nls -l /proc/self/fd >>/run/fds\nexit 1\n")
        oci.chmod(0o755)
        for name in NAMES:
            asyncio.run(failing_create(node, name))
        found = Path("/run/fds").read_text()
        assert "/dev/null" in found
        assert IN_USE not in found

    on_node(action)


def test_a_version_that_was_replaced_goes_when_its_last_process_has_gone_at_a_start_a_minute_later(on_node):
    def action(node):
        home = node.site.parent.parent
        old, new = node.site, starters.make_version(home / "2.0")
        (home / LOCK).touch(mode=0o600)
        asyncio.run(answering(node.start("alone")))
        spawner = node.spawner()
        asyncio.run(answering(node.start("forked")))
        servers = [node.server("alone"), node.server("forked")]

        def replaced(site):
            node.use(site)
            (home / CURRENT).unlink(missing_ok=True)
            (home / CURRENT).symlink_to(site.parent.name)
            os.utime(home / CURRENT, (0, 0), follow_symlinks=False)

        def look(name):
            Path(POSTSTOP_SWEPT).unlink(missing_ok=True)
            asyncio.run(answering(node.start(name)))

        replaced(new)
        for pid in (servers[0], spawner, servers[1]):
            look(f"new-{pid}")
            assert old.exists()
            os.kill(pid, signal.SIGKILL)
            ended(pid)
        # One that looks gives up where another is at it still.
        until(lambda: look(f"newest-{time.monotonic_ns()}") or not old.parent.exists(), "the old version to go")
        assert sorted(path.name for path in home.iterdir()) == [LOCK, "2.0", CURRENT]

    on_node(action)


def test_oom_score_adj_is_one_above_what_containerd_has_by_now(on_node):
    def action(node):
        own = Path("/proc/self/oom_score_adj")
        own.write_text("5")
        node.start("one")
        spawner = node.spawner()
        own.write_text("2")
        node.start("lower")
        own.write_text("20")
        node.start("higher")
        own.write_text("1000")
        node.start("highest")
        for name, score in (("one", 6), ("lower", 3), ("higher", 21), ("highest", 1000)):
            assert Path(f"/proc/{node.server(name)}/oom_score_adj").read_text() == f"{score}\n"
        assert Path(f"/proc/{spawner}/oom_score_adj").read_text() == "6\n"
        assert status(node.server("highest"), "PPid") == str(spawner)

    on_node(action)


def test_it_is_a_subreaper(on_node):
    """What the OCI runtime leaves behind becomes the pod server's child."""

    def action(node):
        oci = Path("/run/oci")
        oci.write_text("#!/bin/sh\nsleep 1000 </dev/null >/dev/null 2>&1 &\necho $! >>/run/orphans\nexit 1\n")
        oci.chmod(0o755)
        for name, pid in zip(NAMES, each(node), strict=True):
            asyncio.run(failing_create(node, name))
            orphan = int(Path("/run/orphans").read_text().split()[-1])
            until(lambda orphan=orphan, pid=pid: status(orphan, "PPid") == str(pid), f"{name} to adopt what was left")

    on_node(action)


async def failing_create(node, name):
    bundle = node.bundle(name)
    (bundle / "rootfs").mkdir()
    (bundle / "config.json").write_text(
        '{"annotations": {"pouchrich.io/rich": "false"}, "root": {"path": "rootfs"},'
        ' "process": {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}}, "linux": {}}'
    )
    options = runc_options_pb2.Options(binary_name="/run/oci", root="/run/state").SerializeToString()
    packed = Any(type_url="containerd.runc.v1.Options", value=options)
    client = await TtrpcClient.connect((bundle / "address").read_text())
    request = task_pb2.CreateTaskRequest(id=name, bundle=str(bundle), options=packed)
    with pytest.raises(RemoteError):
        await client.call("containerd.task.v2.Task", "Create", request, task_pb2.CreateTaskResponse, timeout_s=20)
    client.close()


def test_the_spawner_has_nothing_but_its_socket_its_locks_and_a_pidfd(on_node):
    """No thread, no event loop, nothing that wakes it."""

    def action(node):
        each(node)
        spawner = node.spawner()
        mounts = ["/"] * len(RUNTIMES)
        files = [f"{node.spawner_socket()}.lock", str(node.site.parent / IN_USE)]
        expected = sorted([*files, "anon_inode:[pidfd]", "socket", "socket", *mounts])

        def kinds():
            found = [target for fd, target in links(spawner).items() if fd > 2]
            return sorted("socket" if target.startswith("socket:") else target for target in found)

        until(lambda: kinds() == expected, f"the last connection to be closed; there are {links(spawner)}")
        assert status(spawner, "Threads") == "1"
        until(lambda: sleeps(spawner, 2.0), "two seconds without a wake-up")
        assert cmdline(spawner).rstrip("\0") == "pouchrich-spawner"
        assert alive(spawner)

    on_node(action)

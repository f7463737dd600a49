"""The spawner, and that `start` succeeds whatever happens to it. Needs root; runs in a mount namespace of its own.

Each failure of it has a test here or in `test_spawner_failures.py`; what a fork hands on, in `test_spawner_hygiene.py`.
"""

import asyncio
import os
import re
import signal
import socket
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any

from protos.gen import runc_options_pb2, task_pb2
from runtime.linux import syscalls
from shim.ttrpc.client import TtrpcClient
from shim.ttrpc.errors import RemoteError
from tests.root.starters import (
    alive,
    answering,
    cmdline,
    configure,
    ended,
    is_below,
    is_prefork,
    is_spawner,
    links,
    no_spawner,
    parent,
    pids,
    serves,
    status,
    until,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def test_the_first_start_begins_a_spawner_that_serves_it_and_the_next(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        assert cmdline(spawner).rstrip("\0") == "pouchrich-spawner"
        node.start("two")
        assert [status(node.server(name), "PPid") for name in ("one", "two")] == [str(spawner)] * 2

    on_node(action)


def test_many_starters_begin_one_spawner_that_serves_them_all(on_node):
    """As on a node that has just booted."""

    def action(node):
        names = [f"pod{number}" for number in range(12)]
        for name in names:
            node.bundle(name)
        with ThreadPoolExecutor(len(names)) as threads:
            list(threads.map(node.start, names))
        spawner = node.spawner()
        assert {status(node.server(name), "PPid") for name in names} == {str(spawner)}
        until(lambda: [pid for pid in pids() if is_below(pid) and is_spawner(pid)] == [spawner], "only one to be left")

    on_node(action)


def test_a_pod_server_is_the_same_from_either_host(on_node):
    def facts(pid):
        kinds = sorted(target.split(":")[0] for target in links(pid).values() if target != "/")
        keys = ("SigBlk", "SigIgn", "Umask", "CapEff", "NoNewPrivs", "Uid", "Gid", "Groups")
        stats = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        return {
            "status": [status(pid, key) for key in keys],
            # Without signals 32 and 33, which the C library takes once a thread has run (nptl(7)).
            "handlers": int(status(pid, "SigCgt"), 16) & ~(0b11 << 31),
            "session and group": [int(stats[at]) - pid for at in (2, 3)],
            "terminal": stats[4],
            "fds": [kind.replace("/one", "").replace("/two", "") for kind in kinds],
            "cwd": os.readlink(f"/proc/{pid}/cwd"),
            "oom_score_adj": Path(f"/proc/{pid}/oom_score_adj").read_text(),
            "cgroup": Path(f"/proc/{pid}/cgroup").read_text(),
            "limits": Path(f"/proc/{pid}/limits").read_text(),
            "comm": Path(f"/proc/{pid}/comm").read_text(),
        }

    def action(node):
        Path("/proc/self/oom_score_adj").write_text("5")
        one = node.start("one")
        node.spawner()
        two = node.start("two")
        asyncio.run(answering(one))
        asyncio.run(answering(two))
        servers = node.server("one"), node.server("two")
        # A server may still have the thread that it begins with (runtime.cgroup.attach), and with it a cgroup's file,
        until(lambda: [status(pid, "Threads") for pid in servers] == ["1", "1"], "both to have one thread")
        # or the connection just closed.
        until(lambda: len({tuple(facts(pid)["fds"]) for pid in servers}) == 1, "both to have the same descriptors")
        alone, forked = map(facts, servers)
        assert {key: (alone[key], forked[key]) for key in alone if alone[key] != forked[key]} == {}
        assert facts(node.server("two"))["oom_score_adj"] == "6\n"
        assert facts(node.server("two"))["session and group"] == [0, 0]

    on_node(action)


def test_a_pod_server_has_the_environment_of_its_starter(on_node):
    def action(node):
        node.start("one", env={"OF": "the first", "ONLY": "there"})
        node.spawner()
        address = node.start("two", env={"OF": "the second"})
        oci = Path("/run/oci")
        oci.write_text("#!/bin/sh\nenv >/run/seen\nexit 1\n")
        oci.chmod(0o755)
        options = runc_options_pb2.Options(binary_name=str(oci), root="/run/state")

        async def create():
            client = await TtrpcClient.connect(address)
            packed = Any(type_url="containerd.runc.v1.Options", value=options.SerializeToString())
            (node.bundle("two") / "rootfs").mkdir()
            (node.bundle("two") / "config.json").write_text(
                '{"annotations": {"pouchrich.io/rich": "false"}, "root": {"path": "rootfs"},'
                ' "process": {"args": ["x"], "cwd": "/", "user": {"uid": 0, "gid": 0}}, "linux": {}}'
            )
            request = task_pb2.CreateTaskRequest(id="two", bundle="/run/bundles/two", options=packed)
            with pytest.raises(RemoteError):
                await client.call(
                    "containerd.task.v2.Task", "Create", request, task_pb2.CreateTaskResponse, timeout_s=20
                )
            client.close()

        asyncio.run(create())
        seen = Path("/run/seen").read_text().splitlines()
        assert "OF=the second" in seen
        assert not any(line.startswith("ONLY=") for line in seen)

    on_node(action)


def test_a_pod_server_is_in_the_cgroup_of_its_starter(on_node):
    hierarchy = next(
        (
            Path(line.split()[1])
            for line in Path("/proc/mounts").read_text().splitlines()
            if line.split()[2] == "cgroup"
        ),
        Path("/sys/fs/cgroup"),
    )
    group = hierarchy / f"pouchrich-test-{os.getpid()}"

    def action(node):
        node.start("one")
        node.spawner()
        enter = ("sh", "-c", f'echo $$ >{group}/cgroup.procs && exec "$@"', "sh")
        node.start("two", prefix=enter)
        until(lambda: status(node.server("two"), "PPid") == str(node.spawner()), "it to be the spawner's")
        assert f"/{group.name}\n" in Path(f"/proc/{node.server('two')}/cgroup").read_text()
        assert f"/{group.name}\n" not in Path(f"/proc/{node.spawner()}/cgroup").read_text()

    group.mkdir()
    try:
        on_node(action)
    finally:
        group.rmdir()


def test_a_killed_spawner_is_missed_by_nobody_and_replaced(on_node):
    def action(node):
        node.start("one")
        first = node.spawner()
        node.start("two")
        os.kill(first, signal.SIGKILL)
        ended(first)
        address = node.start("three")
        assert status(node.server("three"), "PPid") == str(node.spawner(other_than=[first]))
        assert asyncio.run(answering(address)) == node.server("three")
        assert alive(node.server("two"))

    on_node(action)


def test_a_hung_spawner_costs_one_start_a_second_and_is_replaced(on_node):
    def action(node):
        node.start("one")
        first = node.spawner()
        os.kill(first, signal.SIGSTOP)
        began = time.monotonic()
        node.start("two")
        assert time.monotonic() - began < 5
        second = node.spawner(other_than=[first])
        assert status(node.server("two"), "PPid") == str(second)
        began = time.monotonic()
        node.start("three")
        assert time.monotonic() - began < 0.9
        assert status(node.server("three"), "PPid") == str(second)
        server = node.server("two")
        os.kill(server, signal.SIGKILL)
        ended(server)
        os.kill(first, signal.SIGCONT)
        ended(first)
        # What it found in its queue, it must not have carried out: nobody waits for the answer.
        assert not any("-id\0two\0" in cmdline(pid) for pid in pids() if is_below(pid))
        assert alive(second)

    on_node(action)


def test_a_socket_that_is_not_ours_is_not_asked_and_replaced(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        (path,) = Path("/run/pouchrich").glob("spawner-*.sock")
        os.kill(spawner, signal.SIGKILL)
        ended(spawner)
        path.unlink()
        os.chmod("/run/pouchrich", 0o777)
        impostor = os.fork()
        if impostor == 0:
            os.setuid(65534)
            listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            listener.bind(str(path))
            listener.listen()
            signal.pause()
        until(path.exists, "the impostor to listen")
        os.chmod("/run/pouchrich", 0o711)
        node.start("two")
        assert status(node.server("two"), "PPid") == str(node.spawner(other_than=[spawner]))
        assert os.stat(path).st_uid == 0

    on_node(action)


@pytest.mark.parametrize("kind", ["stale socket", "file", "directory"])
def test_something_else_in_the_sockets_place_is_no_obstacle(on_node, kind):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        (path,) = Path("/run/pouchrich").glob("spawner-*.sock")
        os.kill(spawner, signal.SIGKILL)
        ended(spawner)
        if kind != "stale socket":
            path.unlink()
            path.write_text("") if kind == "file" else path.mkdir()
        node.start("two")
        if kind == "directory":
            assert "Is a directory" in node.log("two", "started without a spawner")
        else:
            assert status(node.server("two"), "PPid") == str(node.spawner(other_than=[spawner]))

    on_node(action)


def test_a_full_disk_leaves_no_spawner_and_a_served_container(on_node):
    def action(node):
        os.mkdir("/run/pouchrich")
        syscalls.mount("tmpfs", "/run/pouchrich", "tmpfs", 0, "nr_inodes=1,mode=0711")
        address = node.start("one")
        node.log("one", "started without a spawner")
        assert no_spawner()
        assert asyncio.run(answering(address)) == node.server("one")

    on_node(action)


def test_a_spawner_of_other_code_is_not_asked(on_node):
    def action(node):
        node.start("one")
        old = node.spawner()
        (node.site / "shim" / "upgraded").touch()
        node.start("two")
        assert status(node.server("two"), "PPid") == str(node.spawner(other_than=[old]))
        assert alive(node.server("one"))

    on_node(action)


def test_a_spawner_of_another_mount_namespace_is_not_asked(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        node.start("two", prefix=("unshare", "--mount"))
        assert status(node.server("two"), "PPid") != str(spawner)
        inode = os.stat(f"/proc/{node.server('two')}/ns/mnt").st_ino
        assert inode != os.stat("/proc/self/ns/mnt").st_ino

    on_node(action)


@pytest.mark.parametrize("how", ["configuration", "configuration without its hook's program", "environment"])
def test_it_can_be_turned_off(on_node, how):
    def action(node):
        if how != "environment":
            hook = 'hooks.prestart = [{where = "host", command = ["/none"]}]\n' if "hook" in how else ""
            configure(f"{hook}[spawner]\nenabled = false\n")
        node.start("one", env={"POUCHRICH_SPAWNER": "off"} if how == "environment" else None)
        assert no_spawner()

    on_node(action)


def test_a_spawner_goes_when_the_configuration_changes(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        configure("[spawner]\nenabled = false\n")
        node.start("two")
        ended(spawner)
        node.start("three")
        assert no_spawner()
        assert alive(node.server("two"))

    on_node(action)


def test_an_idle_spawner_stays_with_its_pod_servers_and_goes_after_them(on_node):
    """The pod servers of another spawner would have its whole memory once more."""

    def action(node):
        configure('[spawner]\nidle-timeout = "1s"\n')
        node.start("one")
        spawner = node.spawner()
        node.start("two")
        ended(node.prefork(spawner))  # it is idle
        node.start("three")
        assert parent(node.server("three")) == spawner
        for name in ("one", "two", "three"):
            os.kill(node.server(name), signal.SIGKILL)
        ended(spawner)
        assert no_spawner()

    on_node(action)


def test_a_request_of_another_user_is_not_read(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        (path,) = Path("/run/pouchrich").glob("spawner-*.sock")
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        path.chmod(0o666)
        pid = os.fork()
        if pid == 0:
            os.setuid(65534)
            peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
            peer.connect(str(path))
            peer.send(b"anything")
            os._exit(peer.recv(1) == b"!")
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 1
        node.start("two")
        assert status(node.server("two"), "PPid") == str(spawner)

    on_node(action)


def test_a_server_comes_from_a_child_that_was_ready(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        for name in ("two", "three"):
            prefork = node.prefork(spawner)
            node.start(name)
            assert node.server(name) == prefork

    on_node(action)


def test_requests_that_come_at_once_need_no_child_to_be_ready(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        names = [f"pod{number}" for number in range(6)]
        for name in names:
            node.bundle(name)
        with ThreadPoolExecutor(6) as threads:
            addresses = list(threads.map(node.start, names))
        assert {status(node.server(name), "PPid") for name in names} == {str(spawner)}
        for address in addresses:
            asyncio.run(answering(address))

    on_node(action)


IMMORTAL = "def is_possible():\n    return True\n\n\ndef turn_on():\n    return True\n"
"""A module in place of `shim.spawner.immortal`: as far as the spawner can tell, its pod servers are small at once."""


SPECIALIZING = "def turn(*, on):\n    with open('/run/turned', 'a') as file:\n        file.write(f'{on} ')\n"
"""A module in place of `shim.spawner.specializing` that notes what it is told."""


def warm_up_as(node, body):
    """Have the node's spawners do this in place of a warm-up."""
    warmup = Path(node.site, "shim/spawner/warmup.py")
    noted = f"def run(directory, *, rounds):\n    open('/run/tried', 'w').close()\n    {body}\n"
    warmup.write_text(warmup.read_text().replace("def run(directory", f"{noted}\n\ndef _run(directory"))


def preforks():
    return [pid for pid in pids() if is_prefork(pid) and is_below(pid)]


def serving(*, other_than):
    """The pid in the lock file, of one that serves. Who connects would be a starter, for which a spawner is there."""
    (lock,) = Path("/run/pouchrich").glob("spawner-*.lock")
    pid, _, ready = lock.read_text().partition(" ")
    return pid if ready and pid != str(other_than) else ""


def test_a_spawner_that_need_not_warm_up_serves_first_and_its_fork_that_has_takes_its_place(on_node):
    def action(node):
        Path(node.site, "shim/spawner/immortal.py").write_text(IMMORTAL)
        Path(node.site, "shim/spawner/specializing.py").write_text(SPECIALIZING)
        warmup = Path(node.site, "shim/spawner/warmup.py")
        noted = "    open('/run/turned', 'a').write(f'{rounds} rounds ')\n"
        cleaning = "    _remove_left(directory)\n"
        warmup.write_text(warmup.read_text().replace(cleaning, noted + cleaning))
        first = node.start("one")
        before = parent(node.server("one"))
        after = int(until(lambda: serving(other_than=before), "the successor"))
        ended(before)
        assert not list(Path("/run/pouchrich").glob("*.warmup"))
        assert re.fullmatch("False True [13] rounds False ", Path("/run/turned").read_text())
        second = node.start("two")
        assert parent(node.server("two")) == after
        serves(node, "one", first)
        serves(node, "two", second)
        until(
            lambda: [pid for pid in pids() if is_prefork(pid) and is_below(pid)] == [node.prefork(after)], "one child"
        )
        assert [pid for pid in pids() if is_spawner(pid) and is_below(pid)] == [after]

    on_node(action)


def tries_to_warm_up(node, statement):
    """The spawner of server `one`, once its successor executes `statement` in place of the warm-up."""
    Path(node.site, "shim/spawner/immortal.py").write_text(IMMORTAL)
    warm_up_as(node, statement)
    node.start("one")
    until(lambda: os.path.exists("/run/tried"), "the successor")
    return parent(node.server("one"))


def test_a_spawner_whose_successor_ends_in_its_warm_up_goes_on_as_it_is(on_node):
    def action(node):
        spawner = tries_to_warm_up(node, "os._exit(3)")
        until(lambda: len([pid for pid in pids() if parent(pid) == spawner]) == 2, "the successor to have ended")
        serves(node, "two", node.start("two"))
        assert (parent(node.server("two")), node.spawner()) == (spawner, spawner)

    on_node(action)


def test_a_successor_that_warms_up_ends_with_its_spawner(on_node):
    def action(node):
        spawner = tries_to_warm_up(node, "signal.pause()")
        others = {node.server("one"), *preforks()}
        (successor,) = [pid for pid in pids() if parent(pid) == spawner and pid not in others]
        os.kill(spawner, signal.SIGKILL)
        ended(successor)

    on_node(action)

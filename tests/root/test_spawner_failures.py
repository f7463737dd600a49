"""Whatever happens to the spawner, at whatever moment: `start` succeeds by itself, once, and says why in the log."""

import asyncio
import fcntl
import itertools
import os
import resource
import shutil
import signal
import socket
import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from pouchrich import checks
from runtime import config
from runtime.linux import syscalls
from tests.root.starters import (
    alive,
    answering,
    cmdline,
    configure,
    ended,
    is_below,
    is_prefork,
    is_spawner,
    parent,
    pids,
    serves,
    status,
    until,
    waiting,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


def is_on_its_way(pid):
    """Whether it is a spawner or may still become one."""
    return is_spawner(pid) or "\0start\0" in cmdline(pid)


class HeldUp:
    """A `start` whose work waits in the middle, after the request was taken, until `go_on`."""

    def __init__(self, node, name):
        self._config = node.bundle(name) / "config.json"
        self._config.unlink()
        os.mkfifo(self._config)
        self.starter = node.begin(name)
        self._fifo = until(self._open, "somebody to read the bundle")
        self.at_work = until(self._reader, "who opened the bundle to have it open")

    def _open(self):
        with suppress(OSError):  # ENXIO: nobody has opened it to read
            return os.open(self._config, os.O_WRONLY | os.O_NONBLOCK)
        return 0

    def _reader(self):
        return next((pid for pid in pids() if pid != os.getpid() and is_below(pid) and self._reads(pid)), 0)

    def _reads(self, pid):
        with suppress(OSError):  # it, or what it had open, has gone
            return str(self._config) in [os.readlink(entry) for entry in Path(f"/proc/{pid}/fd").iterdir()]
        return False

    def go_on(self):
        """Let it, and whoever does the work after it, go on."""
        whole = self._config.with_name("whole.json")
        whole.write_text("{}")
        whole.replace(self._config)
        with suppress(BrokenPipeError):
            os.write(self._fifo, b"{}")
        os.close(self._fifo)


def test_a_server_killed_between_taking_the_request_and_the_answer_is_made_up_for(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        held = HeldUp(node, "two")
        assert parent(held.at_work) == spawner
        os.kill(held.at_work, signal.SIGKILL)
        held.go_on()
        address = node.finish(held.starter)
        assert serves(node, "two", address) != held.at_work
        assert parent(node.server("two")) == node.spawner() == spawner

    on_node(action)


def test_a_spawner_killed_while_its_child_is_at_work_is_not_missed(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        held = HeldUp(node, "two")
        os.kill(spawner, signal.SIGKILL)
        ended(spawner)
        held.go_on()
        address = node.finish(held.starter)
        assert serves(node, "two", address) == held.at_work

    on_node(action)


def test_a_spawner_killed_before_it_took_the_request_is_made_up_for(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        os.kill(spawner, signal.SIGSTOP)
        starter = node.begin("two")
        until(lambda: waiting(node.spawner_socket()), "the request to wait")
        os.kill(spawner, signal.SIGKILL)
        ended(spawner)
        serves(node, "two", node.finish(starter))
        assert parent(node.server("two")) == node.spawner(other_than=[spawner])

    on_node(action)


def slow(node):
    """Have spawners wait for a file before they do anything: what lets them go on."""
    module = Path(node.site, "shim/spawner/server.py")
    module.write_text(f"import os, time\nwhile not os.path.exists('/run/go'): time.sleep(0.01)\n{module.read_text()}")
    return Path("/run/go").touch


def test_a_spawner_that_is_only_being_begun_is_waited_for(on_node):
    def action(node):
        go = slow(node)
        starters = [node.begin(name) for name in ("one", "two", "three")]
        until(lambda: list(Path("/run/pouchrich").glob("spawner-*.sock")), "a spawner's socket")
        until(lambda: waiting(node.spawner_socket()), "a request to wait")
        time.sleep(1.5)  # longer than one that serves may take
        assert [starter.poll() for starter in starters] == [None] * 3
        go()
        for name, starter in zip(("one", "two", "three"), starters, strict=True):
            assert parent(serves(node, name, node.finish(starter))) == node.spawner()

    on_node(action)


def test_a_spawner_that_does_not_come_is_not_waited_for_for_ever(on_node):
    def action(node):
        slow(node)
        soon = ["import shim.manager.start; shim.manager.start.BOOT_TIMEOUT_S = 1.0"]
        serves(node, "one", node.finish(node.begin("one", python=["import sys; sys.path[:0] = sys.argv[1:3]", *soon])))
        assert "no answer in time" in node.log("one", "started without a spawner: ")

    on_node(action)


def test_a_spawner_that_ends_on_its_way_is_not_waited_for(on_node):
    def action(node):
        go = slow(node)
        module = Path(node.site, "shim/spawner/warmup.py")
        module.write_text("raise RuntimeError('broken on purpose')")
        starter = node.begin("one")
        until(lambda: list(Path("/run/pouchrich").glob("spawner-*.sock")), "a spawner's socket")
        until(lambda: waiting(node.spawner_socket()), "the request to wait")
        go()
        serves(node, "one", node.finish(starter))
        assert "broken on purpose" in node.log("one", "started without a spawner: ")

    on_node(action)


def kill_spawners(done, killed, at_work):
    """`at_work` gets the pods whose request a killed child of a spawner was carrying out: it is in their bundle."""
    for pause_ms in itertools.cycle((1, 2, 5, 10, 20, 40, 80, 160, 320)):
        if done.wait(pause_ms / 1000):
            return
        for pid in pids():
            if is_spawner(pid) and is_below(pid):
                with suppress(OSError):
                    at_work.add(os.path.basename(os.readlink(f"/proc/{pid}/cwd")))
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
                killed.append(pid)


def test_spawners_killed_at_any_moment_cost_no_start(on_node):
    """Each is killed within some milliseconds of its start, on its way up, at rest or at work."""

    def action(node):
        addresses, done, killed, at_work = {}, threading.Event(), [], set()

        killer = threading.Thread(target=kill_spawners, args=(done, killed, at_work))
        killer.start()

        def start_some():
            while len(addresses) < 24 or len(set(killed)) < 5:  # how long that takes is the machine's business
                names = [f"pod{len(addresses) + number}" for number in range(12)]
                for name in names:
                    node.bundle(name)
                with ThreadPoolExecutor(3) as threads:
                    addresses.update(zip(names, threads.map(node.start, names), strict=True))

        try:
            start_some()
        finally:
            done.set()
            killer.join()
        for name, address in addresses.items():
            try:
                serves(node, name, address)
            except ConnectionRefusedError:  # a pod server looks like its spawner until some moments after its answer
                assert name in at_work
        node.start("last")
        node.spawner(other_than=killed)

    on_node(action)


@pytest.mark.parametrize("habit", ["never accepts", "hangs up", "says something else", "takes the request and ends"])
def test_another_listener_in_the_sockets_place_is_no_obstacle(on_node, habit):
    def action(node):
        node.start("one")
        spawner, path = node.spawner(), node.spawner_socket()
        os.kill(spawner, signal.SIGKILL)
        ended(spawner)
        path.unlink()
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(str(path))
        listener.listen()

        def behave():
            peer, _ = listener.accept()
            peer.recv(1 << 18)
            peer.send({"hangs up": b"", "says something else": b"?", "takes the request and ends": b"t"}[habit])
            peer.close()

        if habit != "never accepts":
            threading.Thread(target=behave, daemon=True).start()
        serves(node, "two", node.start("two"))
        listener.close()
        again = node.spawner(other_than=[spawner])
        serves(node, "three", node.start("three"))
        assert [parent(node.server(name)) for name in ("two", "three")] == [again, again]

    on_node(action)


def test_a_spawner_in_the_place_of_one_with_another_key_does_not_serve(on_node):
    def action(node):
        node.start("one")
        old, path = node.spawner(), node.spawner_socket()
        (node.site / "shim" / "upgraded").touch()
        node.start("two")
        new = node.spawner(other_than=[old])
        (other,) = set(Path("/run/pouchrich").glob("spawner-*.sock")) - {path}
        os.kill(new, signal.SIGKILL)
        ended(new)
        path.rename(other)
        serves(node, "three", node.start("three"))
        assert parent(node.server("three")) == node.spawner(other_than=[old, new])

    on_node(action)


@pytest.mark.parametrize(
    ("what", "reason"),
    [
        ("no room", "No space left on device"),
        ("read-only", "Read-only file system"),
        ("writable by all", "found uid 0 and mode 1777"),
    ],
)
def test_a_directory_that_is_of_no_use_leaves_no_spawner_until_it_is_and_each_pods_log_says_why(on_node, what, reason):
    directory = "/run/pouchrich"

    def spoil():
        syscalls.mount("tmpfs", directory, "tmpfs", 0, "size=4096,mode=0711")
        if what == "no room":
            with suppress(OSError), open(f"{directory}/filler", "wb") as filler:
                filler.write(bytes(65536))
        elif what == "read-only":
            syscalls.mount(None, directory, None, syscalls.MS_REMOUNT | syscalls.MS_RDONLY)
        else:
            os.chmod(directory, 0o1777)

    def action(node):
        os.mkdir(directory, 0o711)
        spoil()
        for name in ("one", "another"):
            serves(node, name, node.start(name))
            said = node.log(name, "no spawner can start, so each further pod uses about 18 MiB more: ")
            assert reason in said
            assert "started without a spawner: " in said or node.log(name, "started without a spawner: ")
        found = [one.level for one in checks.spawner(config.DEFAULT, directory)]
        assert "fail" in found, found
        until(
            lambda: not any(is_spawner(pid) or "\0start\0" in cmdline(pid) for pid in pids() if is_below(pid)), "quiet"
        )
        syscalls.umount2(directory, syscalls.MNT_DETACH)
        serves(node, "two", node.start("two"))
        node.spawner()

    on_node(action)


def test_why_a_spawner_ended_before_it_served_is_in_the_next_pods_log_and_doctor_says_it(on_node):
    def action(node):
        module = Path(node.site, "shim/spawner/warmup.py")
        text = module.read_text()
        module.write_text("raise RuntimeError('broken on purpose')")
        serves(node, "one", node.start("one"))
        until(lambda: list(Path("/run/pouchrich").glob("*.refused")), "a word of why")
        serves(node, "two", node.start("two"))
        reason = "it ended: RuntimeError: broken on purpose"
        assert reason in node.log("two", "started without a spawner: ")
        assert any(reason in one.found for one in checks.spawner(config.DEFAULT))
        until(lambda: not any(is_on_its_way(pid) for pid in pids() if is_below(pid)), "quiet")
        module.write_text(text)
        serves(node, "three", node.start("three"))
        node.spawner()
        until(lambda: not list(Path("/run/pouchrich").glob("*.refused")), "the word to go")

    on_node(action)


def test_a_spawner_that_lost_its_lock_goes_and_its_socket_with_it(on_node):
    def action(node):
        node.start("one")
        first, path = node.spawner(), node.spawner_socket()
        Path(f"{path}.lock").unlink()
        serves(node, "two", node.start("two"))
        ended(first)
        serves(node, "three", node.start("three"))
        assert node.spawner() != first

    on_node(action)


def test_a_spawner_that_cannot_fork_is_no_obstacle(on_node):
    pids_cgroup = next(
        (
            Path(line.split()[1])
            for line in Path("/proc/mounts").read_text().splitlines()
            if line.split()[2] == "cgroup" and "pids" in line.split()[3].split(",")
        ),
        None,
    )
    if pids_cgroup is None:
        pytest.skip("no pids hierarchy of cgroup v1")
    group = pids_cgroup / f"pouchrich-test-{os.getpid()}"

    def action(node):
        node.start("one")
        spawner = node.spawner()
        (group / "cgroup.procs").write_text(str(spawner))
        (group / "pids.max").write_text("1")
        serves(node, "two", node.start("two"))
        assert parent(node.server("two")) == node.spawner(other_than=[spawner])
        ended(spawner)

    group.mkdir()
    try:
        on_node(action)
    finally:
        group.rmdir()


def test_what_a_spawner_that_was_killed_in_its_warm_up_has_left_the_next_one_removes(on_node):
    """And it warms up as if nothing had been."""

    def left():
        run = Path("/run/pouchrich")
        return [*run.glob("*.warmup"), *run.glob("bundles/.warmup/*"), *run.glob("containers/.warmup/*")]

    def stopped_in_a_round(pid):
        """Between two of them it goes on."""
        os.kill(pid, signal.SIGSTOP)
        until(lambda: status(pid, "State").startswith("T"), "it to stop")
        if not left():
            os.kill(pid, signal.SIGCONT)
        return left()

    def action(node):
        module = Path(node.site, "shim/spawner/server.py")
        text = module.read_text()
        assert "rounds=rounds)" in text
        module.write_text(text.replace("rounds=rounds)", "rounds=1000 + rounds)"))
        starter = node.begin("one")
        until(lambda: len(left()) >= 2, "a warm-up to be under way")
        module.write_text(text)
        (first,) = [pid for pid in pids() if is_below(pid) and is_spawner(pid) and not is_spawner(parent(pid))]
        until(lambda: stopped_in_a_round(first), "a round of the warm-up to be stopped in")
        os.kill(first, signal.SIGKILL)
        ended(first)
        serves(node, "one", node.finish(starter))
        node.spawner(other_than=[first])
        assert left() == []

    on_node(action)


def test_pod_servers_survive_the_spawner(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        addresses = {name: node.start(name) for name in ("two", "three")}
        assert {parent(node.server(name)) for name in addresses} == {spawner}
        os.kill(spawner, signal.SIGKILL)
        ended(spawner)
        for name, address in addresses.items():
            serves(node, name, address)

    on_node(action)


def test_an_upgrade_has_a_new_spawner_and_the_old_one_goes_when_idle(on_node):
    def action(node):
        configure('[spawner]\nidle-timeout = "2s"\n')
        node.start("one")
        old = node.spawner()
        before = node.start("two")
        assert parent(node.server("two")) == old  # while it is there
        shutil.copytree(node.site, f"{node.site}-new")
        os.rename(node.site, f"{node.site}-old")
        os.rename(f"{node.site}-new", node.site)
        node.start("three")
        new = node.spawner(other_than=[old])
        after = node.start("four")
        assert parent(node.server("four")) == new
        shutil.rmtree(f"{node.site}-old")
        ended(old)
        serves(node, "two", before)
        serves(node, "four", after)

    on_node(action)


def test_pod_servers_survive_the_packages_end(on_node):
    def action(node):
        addresses = {"one": node.start("one")}
        node.spawner()
        addresses["two"] = node.start("two")
        asyncio.run(answering(addresses["one"]))
        shutil.rmtree(node.site)
        for name, address in addresses.items():
            serves(node, name, address)
            assert alive(node.server(name))

    on_node(action)


OTHER_PYTHON = "import shutil, sys; sys.executable = shutil.copy(sys.executable, '/run/python')"


@pytest.mark.parametrize(
    ("key", "how"),
    [
        ("another Python", {"python": [OTHER_PYTHON]}),
        ("another containerd", {"prefix": ("sh", "-c", '"$@"; exit $?', "sh")}),
        ("another network namespace", {"prefix": ("unshare", "--net")}),
    ],
)
def test_a_spawner_of_another_key_is_not_asked(on_node, key, how):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        serves(node, "two", node.start("two", **how))
        assert parent(node.server("two")) != spawner
        serves(node, "three", node.start("three"))
        assert parent(node.server("three")) == spawner

    on_node(action)


def test_a_spawner_goes_with_its_containerd(on_node):
    def action(node):
        ours = node.start("one")
        spawner = node.spawner()
        reader, writer = os.pipe()
        containerd = ("sh", "-c", f'"$@" && cat </proc/self/fd/{reader}', "sh")
        starter = node.begin("two", prefix=containerd, pass_fds=[reader])
        theirs = node.spawner(other_than=[spawner])
        assert alive(theirs)
        os.close(reader)
        os.close(writer)
        address = node.finish(starter)
        ended(theirs)
        serves(node, "two", address)
        serves(node, "one", ours)
        assert node.spawner() == spawner

    on_node(action)


def test_a_server_that_cannot_go_on_after_its_answer_says_so_in_the_log(on_node):
    def action(node):
        (node.site / "shim" / "pod" / "daemon.py").write_text("raise ImportError('half a package')\n")
        node.start("one", env={"POUCHRICH_SPAWNER": "off"})
        node.log("one", "ImportError: half a package")

    on_node(action)


def test_a_server_that_cannot_go_on_after_its_answer_leaves_no_socket(on_node):
    def action(node):
        (node.site / "shim" / "pod" / "daemon.py").write_text("raise ImportError('half a package')\n")
        address = node.start("one", env={"POUCHRICH_SPAWNER": "off"})
        until(lambda: not Path(address.removeprefix("unix://")).exists(), "its socket to go")

    on_node(action)


def test_a_server_killed_before_its_answer_leaves_no_socket(on_node):
    """That of the starter itself: what a spawner's child leaves, the starter's takes over."""

    def action(node):
        with (node.site / "shim" / "spawner" / "child.py").open("a") as file:
            file.write("def raise_oom_score(*, above):\n    os.kill(os.getpid(), SIGKILL)\n")
        starter = node.begin("one", env={"POUCHRICH_SPAWNER": "off"})
        _, stderr = starter.communicate(timeout=60)
        assert starter.returncode == 1
        assert "the pod server ended before it listened, wait status 9" in stderr
        assert list(Path("/run/containerd/s").iterdir()) == []

    on_node(action)


def test_a_bundle_that_goes_right_after_the_answer_leaves_no_socket(on_node):
    """As with a starter that is killed then: containerd removes the bundle and calls no `delete`."""

    def action(node):
        (node.site / "shim" / "task" / "hooks" / "poststop.py").write_text(
            "import os, time\ndef start_sweeper():\n"
            "    while os.path.exists('/run/bundles/one'):\n        time.sleep(0.01)\n"
        )
        address = node.start("one", env={"POUCHRICH_SPAWNER": "off"})
        shutil.rmtree("/run/bundles/one")
        os.kill(serves(node, "one", address), signal.SIGTERM)
        until(lambda: not Path(address.removeprefix("unix://")).exists(), "its socket to go")

    on_node(action)


@pytest.mark.parametrize("left", ["all", "no address", "nothing"])
def test_a_server_killed_after_its_answer_leaves_no_socket_after_delete(on_node, left):
    """containerd may have begun to remove the bundle of a task that it has not created."""

    def action(node):
        address = node.start("one")
        server = node.server("one")
        os.kill(server, signal.SIGKILL)
        ended(server)
        if left == "no address":
            os.unlink("/run/bundles/one/address")
        elif left == "nothing":
            shutil.rmtree("/run/bundles/one")
        names = ["-namespace", "n", "-address", "/run/c.sock", "-id", "one", "-bundle", "/run/bundles/one"]
        subprocess.run([*node.program, *names, "delete"], cwd="/run/bundles", check=True, capture_output=True)
        assert not os.path.lexists(address.removeprefix("unix://"))

    on_node(action)


def test_a_child_that_was_ready_and_was_killed_is_made_up_for(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        prefork = node.prefork(spawner)
        os.kill(prefork, signal.SIGKILL)
        ended(prefork)
        address = node.start("two")
        assert parent(serves(node, "two", address)) == spawner
        assert node.prefork(spawner) != prefork

    on_node(action)


def test_what_spawners_killed_with_their_containerd_have_left_the_next_one_removes(on_node):
    def action(node):
        run = Path("/run/pouchrich")
        run.mkdir(mode=0o711, exist_ok=True)
        others = {name: run / f"spawner-{name}.sock" for name in ("dead", "alive", "begun")}
        for name, said in {"dead": "4194305 ready", "alive": f"{os.getpid()} ready", "begun": ""}.items():
            others[name].touch()
            Path(f"{others[name]}.lock").write_text(said)
            Path(f"{others[name]}.warmup/bundle").mkdir(parents=True)
        with open(f"{others['alive']}.lock") as held:
            fcntl.flock(held, fcntl.LOCK_EX)
            node.start("one")
            node.spawner()
        left = {path.name.removeprefix("spawner-").partition(".")[0] for path in run.glob("spawner-*")} & {*others}
        assert left == {"alive", "begun"}

    on_node(action)


def test_a_child_that_is_killed_with_the_request_is_made_up_for(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        prefork = node.prefork(spawner)
        os.kill(prefork, signal.SIGSTOP)
        starter = node.begin("two")
        until(
            lambda: len([pid for pid in pids() if is_prefork(pid) and parent(pid) == spawner]) == 2,
            "the request to be handed over",
        )
        os.kill(prefork, signal.SIGKILL)
        server = serves(node, "two", node.finish(starter))
        assert server != prefork
        assert parent(server) == node.spawner() == spawner

    on_node(action)


def test_a_child_that_is_ready_goes_with_its_spawner(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        prefork = node.prefork(spawner)
        os.kill(spawner, signal.SIGKILL)
        ended(spawner)
        ended(prefork)

    on_node(action)


def test_where_no_child_can_be_made_ready_requests_are_served_as_they_come(on_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()

        def without_a_child(number):
            os.kill(node.prefork(spawner), signal.SIGKILL)
            node.start(f"pod{number}")
            with low_limit(spawner):  # before it rests, as a rule
                time.sleep(0.3)
                return not [pid for pid in pids() if is_prefork(pid) and alive(pid) and parent(pid) == spawner]

        assert any(without_a_child(number) for number in range(10))
        address = node.start("last")
        assert parent(serves(node, "last", address)) == spawner

    on_node(action)


@contextmanager
def low_limit(pid):
    """A process that gets no further descriptor. poll(2) wants a limit of at least as many as it is asked about."""
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE, (4, resource.prlimit(pid, resource.RLIMIT_NOFILE)[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


def test_a_runtime_that_was_upgraded_has_a_new_spawner(on_node):
    def action(node):
        tool = Path("/run/tools/crun")
        tool.parent.mkdir()
        shutil.copy(shutil.which("echo"), tool)
        env = {"PATH": f"{tool.parent}:{os.environ['PATH']}"}
        node.start("one", env=env)
        old = node.spawner()
        node.start("two", env=env)
        assert parent(node.server("two")) == old
        os.rename(shutil.copy(shutil.which("true"), f"{tool}.new"), tool)
        node.start("three", env=env)
        ended(old)
        node.start("four", env=env)
        new = node.spawner(other_than=[old])
        node.start("five", env=env)
        assert parent(node.server("five")) == new

    on_node(action)

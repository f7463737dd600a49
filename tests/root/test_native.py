"""The native program: what it answers by itself, and that all else reaches the script beside it as it was asked."""

import fcntl
import json
import os
import random
import shutil
import socket
import subprocess
import threading
import time
from pathlib import Path

import pytest
from google.protobuf.any_pb2 import Any

from protos.gen import runc_options_pb2, types_pb2
from runtime.linux import syscalls
from runtime.spec.cri import SANDBOX_ID
from shim.contract import bootstrap
from shim.spawner import request
from tests.root.starters import STARTER, cmdline, configure, ended, links, parent, serves, until, waiting

PROGRAM = Path(__file__).resolve().parents[2] / "runtime/libexec/containerd-shim-pouchrich-v2"

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(not PROGRAM.exists(), reason="the native program was not built (hack/build-shim.sh)"),
]

NOTES = '#!/bin/sh\nprintf "%s\\n" "$@" >/run/asked\ncat >/run/input\nexit 77\n'
"""A script that notes what it is asked."""

IDENTITY = ["-namespace", "ns", "-id", "pod"]


def put(directory, script=NOTES):
    """The program in `directory`, laid out as in an installation, with `script` beside it: the program's path."""
    libexec = Path(directory, "runtime/libexec")
    libexec.mkdir(parents=True, exist_ok=True)
    Path(directory, "shim").mkdir(exist_ok=True)
    program = libexec / PROGRAM.name
    shutil.copy(PROGRAM, program)
    (libexec / f"{PROGRAM.name}.py").write_text(script)
    (libexec / f"{PROGRAM.name}.py").chmod(0o755)
    (libexec / "python3").touch()
    return str(program)


@pytest.fixture
def native_node(on_node):
    """Run a function with a Node that starts containers by the native program, with `start` in Python for the rest."""

    def run(action):
        def with_program(node):
            python, words, _, code, *paths = node.program
            assert (words, code) == ("-IS", STARTER)
            libexec = Path(node.site, "runtime/libexec")
            script = libexec / f"{PROGRAM.name}.py"
            script.write_text(f"#!{python} -IS\nimport sys; sys.argv[1:1] = {paths!r}; {STARTER}\n")
            script.chmod(0o755)
            (libexec / "python3").symlink_to(python)
            node.program = [str(libexec / PROGRAM.name)]
            action(node)

        on_node(with_program)

    return run


def only_natively(node):
    """From now on only what the native program does by itself succeeds."""
    script = Path(node.site, f"runtime/libexec/{PROGRAM.name}.py")
    script.write_text("#!/bin/sh\necho python was needed >&2\nexit 1\n")


def test_a_copy_alone_says_that_a_link_would_do(tmp_path):
    """As with a `runtime_path` to where somebody has put the one file."""
    installed = put(tmp_path / "installed", "#!/bin/sh\necho works\n")
    (tmp_path / "copy").symlink_to(installed)
    assert subprocess.run([tmp_path / "copy", "-v"], capture_output=True, text=True, check=True).stdout == "works\n"
    (tmp_path / "copy").unlink()
    shutil.copy(installed, tmp_path / "copy")
    done = subprocess.run([tmp_path / "copy", "-v"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    reason = "No such file or directory (a copy of this program does not work by itself, a symbolic link to it does)"
    assert done.stderr == f"{PROGRAM.name}: {tmp_path}/copy.py: {reason}\n"
    (tmp_path / "copy.py").touch(mode=0o644)  # an installation that is damaged is another matter
    done = subprocess.run([tmp_path / "copy", "-v"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (1, f"{PROGRAM.name}: {tmp_path}/copy.py: Permission denied\n")


def test_a_start_with_a_spawner_there_needs_no_interpreter(native_node):
    def action(node):
        serves(node, "one", node.start("one"))
        spawner = node.spawner()
        only_natively(node)
        serves(node, "two", node.start("two"))
        assert parent(node.server("two")) == spawner

    native_node(action)


def member(node, name):
    """The bundle of a further container of the pod `pod`."""
    bundle = node.bundle(name)
    (bundle / "config.json").write_text(json.dumps({"process": {"args": ["x"]}, "annotations": {SANDBOX_ID: "pod"}}))
    return bundle


def test_a_further_container_of_a_pod_needs_no_interpreter_either(native_node):
    """containerd 1.x asks for it. To later ones the sandbox's `start` says that they need not."""

    def action(node):
        address = node.start("pod")
        serves(node, "pod", address)
        only_natively(node)
        member(node, "member")
        assert node.start("member") == address
        assert (node.bundle("member") / "address").read_text() == address
        assert len(node.servers("pod")) == 1
        assert not node.servers("member")

    native_node(action)


def test_the_server_of_a_pod_that_was_killed_is_made_up_for(native_node):
    def action(node):
        address = node.start("pod")
        server = node.server("pod")
        os.kill(server, 9)
        ended(server)
        only_natively(node)
        member(node, "member")
        assert node.start("member") == address
        serves(node, "member", address)
        assert len(node.servers("member")) == 1

    native_node(action)


def test_an_address_that_finds_no_room_is_told_of_and_not_left_half(native_node):
    """containerd 1.x would look for a pod server at an empty address when it starts again."""

    def action(node):
        node.start("pod")
        only_natively(node)
        bundle = node.bundle("member")
        syscalls.mount("tmpfs", str(bundle), "tmpfs", 0, "size=4k")  # a page, which config.json takes
        member(node, "member")
        starter = node.begin("member")
        stdout, stderr = starter.communicate(timeout=60)
        assert (starter.returncode, stdout) == (1, "")
        assert "No space left on device" in stderr
        assert os.listdir(bundle) == ["config.json"]

    native_node(action)


def test_the_reason_why_a_start_failed_is_printed_and_nothing_else_done(native_node):
    def action(node):
        node.start("one")
        node.spawner()
        only_natively(node)
        (node.bundle("two") / "config.json").write_text('{"annotations": "io.kubernetes.cri.sandbox-id"')
        starter = node.begin("two")
        stdout, stderr = starter.communicate(timeout=60)
        assert (starter.returncode, stdout) == (1, "")
        assert stderr.startswith("containerd-shim-pouchrich-v2: /run/bundles/two/config.json: ")

    native_node(action)


def before_python(node, statements):
    """Have the script execute `statements` before it goes on to `start`."""
    script = Path(node.site, f"runtime/libexec/{PROGRAM.name}.py")
    first, imports, rest = script.read_text().partition("from shim.__main__")
    script.write_text(f"{first}\n{statements}\n{imports}{rest}")


def test_of_many_that_find_no_spawner_one_needs_an_interpreter_to_begin_it(native_node):
    def action(node):
        before_python(node, "print('python', file=open('/run/begun', 'a'))")
        names = [f"pod{number}" for number in range(12)]
        starters = [node.begin(name) for name in names]
        addresses = [node.finish(starter) for starter in starters]
        assert Path("/run/begun").read_text() == "python\n"
        for name, address in zip(names, addresses, strict=True):
            serves(node, name, address)
        for pid in (node.spawner(), *map(node.server, names)):
            assert "/run/pouchrich" not in links(pid).values()

    native_node(action)


def locked():
    """A descriptor with the lock of a starter that is about to begin a spawner."""
    os.makedirs("/run/pouchrich", 0o711, exist_ok=True)
    fd = os.open("/run/pouchrich", os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    return fd


def test_a_starter_that_gives_up_beginning_a_spawner_is_made_up_for(native_node):
    def action(node):
        other = locked()
        before_python(node, "print('python', file=open('/run/begun', 'a'))")
        starter = node.begin("one")
        until(lambda: "/run/pouchrich" in links(starter.pid).values(), "the starter to wait")
        assert not os.path.exists("/run/begun")
        os.close(other)
        serves(node, "one", node.finish(starter))

    native_node(action)


def test_who_begins_no_spawner_holds_nobody_up_while_it_does_the_work_itself(native_node):
    def action(node):
        configure("[spawner]\nenabled = false\n")
        before_python(
            node,
            "import fcntl\nfrom shim.manager import start\nalone = start._run_without_spawner\n"
            "def noted(*given):\n"
            "    fcntl.flock(start.posix.open('/run/pouchrich', 0), fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
            "    print('free', file=open('/run/lock', 'w'))\n    return alone(*given)\n"
            "start._run_without_spawner = noted",
        )
        serves(node, "one", node.start("one"))
        assert Path("/run/lock").read_text() == "free\n"

    native_node(action)


def test_a_spawner_that_was_killed_is_replaced_and_asked(native_node):
    def action(node):
        node.start("one")
        old = node.spawner()
        os.kill(old, 9)
        ended(old)
        serves(node, "two", node.start("two"))
        assert parent(node.server("two")) == node.spawner(other_than=[old])

    native_node(action)


def test_a_spawner_that_is_killed_before_it_takes_the_request_is_made_up_for(native_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        os.kill(spawner, 19)
        starter = node.begin("two")
        until(lambda: waiting(node.spawner_socket()), "the request to wait")
        os.kill(spawner, 9)
        ended(spawner)
        serves(node, "two", node.finish(starter))

    native_node(action)


def test_a_spawner_that_does_not_answer_is_replaced(native_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        os.kill(spawner, 19)
        serves(node, "two", node.start("two"))
        serves(node, "three", node.start("three"))
        assert parent(node.server("three")) == node.spawner(other_than=[spawner])

    native_node(action)


class Left:
    """What a killed pod server of a node's container `two` has left, and an OCI runtime that is a script.

    It notes its grandparent, who began the `delete`'s worker, and then does what `lines` say.
    """

    def __init__(self, node, lines=""):
        self.node = node
        self.bundle = node.bundle("two")
        runtime = Path("/run/oci")
        runtime.write_text(f'#!/bin/sh\necho "$(cut -d" " -f4 /proc/$PPID/stat)" >>/run/calls\n{lines}\n')
        runtime.chmod(0o755)
        record = {"version": 1, "oci": {"path": str(runtime), "root": "/root", "systemd_cgroup": False}, "plan": {}}
        (self.bundle / "pouchrich.json").write_text(json.dumps(record))
        (self.bundle / "config.json").write_text('{"linux": {}}')
        (self.bundle / "init.pid").write_text("4711")
        make("/run/pouchrich/bundles/n/two")

    def begin(self, *, directory=None):
        """Begin `delete` as containerd does, or in another directory; the process."""
        return subprocess.Popen(
            [*self.node.program, "-namespace", "n", "-id", "two", "-bundle", self.bundle, "delete"],
            cwd=directory or self.bundle,
            env={"PATH": os.environ["PATH"]},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def finish(self, process):
        """Wait for the answer, of which the pid and the status are checked; what was said on standard error."""
        stdout, stderr = process.communicate(timeout=60)
        assert process.returncode == 0, stderr
        assert stdout.startswith(bootstrap.delete_response(4711, 137, 0, 0)[:6])
        return stderr.decode()

    def is_gone(self):
        return not os.path.exists("/run/pouchrich/bundles/n/two") and not (self.bundle / "pouchrich.json").exists()

    @staticmethod
    def calls():
        return [int(line) for line in Path("/run/calls").read_text().split()]


def test_a_delete_with_work_to_do_is_the_spawners_and_needs_no_interpreter(native_node):
    def action(node):
        node.start("one")
        spawner = node.spawner()
        only_natively(node)
        left = Left(node)
        assert left.finish(left.begin()) == ""
        assert left.calls() == [spawner]
        assert left.is_gone()

    native_node(action)


def test_a_delete_that_is_killed_goes_on_by_the_spawner_also_without_its_bundle(native_node):
    """containerd kills it after five seconds and removes the bundle."""

    def action(node):
        node.start("one")
        only_natively(node)
        os.mkfifo("/run/wait")
        left = Left(node, "read word </run/wait")
        process = left.begin()
        until(lambda: os.path.exists("/run/calls"), "the OCI runtime to be run")
        process.kill()
        process.communicate()
        shutil.rmtree(left.bundle)
        Path("/run/wait").write_text("go on\n")
        until(left.is_gone, "the rest to be removed")
        assert len(left.calls()) == 1

    native_node(action)


def test_a_delete_elsewhere_than_in_its_bundle_is_the_scripts(native_node):
    """containerd runs it there; where that is another directory by now the bundle is of a new container."""

    def action(node):
        node.start("one")
        only_natively(node)
        left = Left(node)
        process = left.begin(directory="/run")
        assert (process.communicate(timeout=60)[1], process.returncode) == (b"python was needed\n", 1)
        assert not os.path.exists("/run/calls")
        assert not left.is_gone()

    native_node(action)


def test_a_container_that_is_called_delete_is_not_deleted_by_its_name(native_node):
    """The last word is the action only where it is not a flag's."""

    def action(node):
        node.start("one")
        only_natively(node)
        words = [*node.program, "-namespace", "n", "-id", "delete"]
        done = subprocess.run(
            words, cwd=node.bundle("delete"), stdin=subprocess.DEVNULL, capture_output=True, check=False
        )
        assert (done.stderr, done.returncode) == (b"python was needed\n", 1)

    native_node(action)


def test_while_it_cleans_up_a_child_of_the_spawners_has_the_commands_words(native_node):
    def action(node):
        node.start("one")
        only_natively(node)
        os.mkfifo("/run/wait")
        left = Left(node, "echo $PPID >/run/worker\nread word </run/wait")
        process = left.begin()
        worker = until(lambda: os.path.exists("/run/worker") and Path("/run/worker").read_text(), "the OCI runtime")
        words = cmdline(int(worker)).rstrip("\0").split("\0")
        assert words == [PROGRAM.name, "-id", "two", "-bundle", str(left.bundle), "delete"]
        Path("/run/wait").write_text("go on\n")
        left.finish(process)

    native_node(action)


def test_what_a_delete_by_the_spawner_warns_of_is_shown(native_node):
    def action(node):
        syscalls.mount("tmpfs", "/var/lib", "tmpfs", 0, "")
        node.start("one")
        only_natively(node)
        left = Left(node)
        make("/var/lib/pouchrich/poststop/n/two.jsonl/x")  # no file, so it cannot be read
        assert left.finish(left.begin()).startswith("poststop hooks: ")
        assert left.is_gone()

    native_node(action)


def test_a_delete_that_cannot_be_done_says_why_and_fails(native_node):
    def action(node):
        node.start("one")
        only_natively(node)
        left = Left(node)
        (left.bundle / "pouchrich.json").write_text("{")
        process = left.begin()
        stdout, stderr = process.communicate(timeout=60)
        assert (process.returncode, stdout) == (1, b"")
        assert stderr.startswith(b"containerd-shim-pouchrich-v2: ")
        assert b"pouchrich.json" in stderr

    native_node(action)


def test_a_delete_whose_worker_is_killed_is_done_by_the_script(native_node):
    def action(node):
        node.start("one")
        left = Left(node, "[ $(wc -l </run/calls) -gt 1 ] || kill -9 $PPID")
        left.finish(left.begin())
        assert len(left.calls()) == 2
        assert left.is_gone()

    native_node(action)


@pytest.mark.parametrize("why", ["none", "off"])
def test_a_delete_without_a_spawner_is_the_scripts_and_begins_none(native_node, why):
    def action(node):
        if why == "off":
            node.start("one")
            node.spawner()
        left = Left(node)
        before_python(node, "open('/run/python', 'w')")
        if why == "off":
            node.program = ["env", "POUCHRICH_SPAWNER=off", *node.program]
        left.finish(left.begin())
        assert left.is_gone()
        assert os.path.exists("/run/python")
        assert bool(list(Path("/run/pouchrich").glob("spawner-*"))) == (why == "off")

    native_node(action)


class Asker:
    """Who asks `-info` of a node's program, as `comm`, of an OCI runtime whose features are `features`."""

    def __init__(self, node, comm, features):
        Path("/proc/self/comm").write_text(comm)
        self.program = node.program
        runtime = Path("/run/oci")
        runtime.write_text(f"#!/bin/sh\necho '{json.dumps(features)}'\n")
        runtime.chmod(0o755)
        options = runc_options_pb2.Options(binary_name=str(runtime))
        packed = Any(type_url=options.DESCRIPTOR.full_name, value=options.SerializeToString())
        self.stdin = packed.SerializeToString()

    def ask(self):
        """The process, on its way."""
        process = subprocess.Popen(
            [*self.program, "-info"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        process.stdin.write(self.stdin)
        process.stdin.close()
        process.stdin = None
        return process

    @staticmethod
    def features(process):
        """What it answers."""
        stdout, stderr = process.communicate(timeout=60)
        assert (process.returncode, stderr) == (0, b"")
        return json.loads(types_pb2.RuntimeInfo.FromString(stdout).features.value)


FEATURES = {"ociVersionMin": "1.0.0"}


def test_what_containerd_asks_of_the_runtime_needs_no_interpreter_where_a_spawner_is_there(native_node):
    def action(node):
        asker = Asker(node, "containerd", FEATURES)
        node.start("one")
        spawner = node.spawner()
        only_natively(node)
        assert asker.features(asker.ask()) == FEATURES
        assert node.spawner() == spawner

    native_node(action)


def test_of_many_that_ask_at_once_on_a_node_that_boots_one_needs_an_interpreter(native_node):
    """containerd 2.2 asks before each Create until one of our type was told: for all that come at once at first."""

    def action(node):
        asker = Asker(node, "containerd", FEATURES)
        before_python(node, "print('python', file=open('/run/begun', 'a'))")
        asked = [asker.ask() for _ in range(12)]
        assert [asker.features(one) for one in asked] == [FEATURES] * 12
        assert Path("/run/begun").read_text() == "python\n"
        only_natively(node)
        serves(node, "one", node.start("one"))

    native_node(action)


@pytest.mark.parametrize("comm", ["bash", "python3"])
def test_who_else_asks_begins_no_spawner(native_node, comm):
    def action(node):
        asker = Asker(node, comm, FEATURES)
        assert asker.features(asker.ask()) == FEATURES
        assert not os.path.exists("/run/pouchrich")

    native_node(action)


def test_a_spawner_that_hangs_holds_no_answer_up_for_long(native_node):
    def action(node):
        asker = Asker(node, "containerd", FEATURES)
        node.start("one")
        spawner = node.spawner()
        until(lambda: serving_for(node) > 1, "the spawner to have served for the time that one may take to answer")
        os.kill(spawner, 19)
        began = time.monotonic()
        assert asker.features(asker.ask()) == FEATURES
        assert time.monotonic() - began < 8
        os.kill(spawner, 9)

    native_node(action)


def serving_for(node):
    """Seconds since the spawner wrote that it is ready."""
    lock = Path(f"{node.spawner_socket()}.lock")
    return time.time() - lock.stat().st_mtime if lock.read_bytes().endswith(request.READY) else 0


def test_where_the_configuration_wants_no_spawner_the_answer_is_the_scripts(native_node):
    def action(node):
        configure("[spawner]\nenabled = false\n")
        asker = Asker(node, "containerd", FEATURES)
        asked = [asker.ask() for _ in range(4)]
        assert [asker.features(one) for one in asked] == [FEATURES] * 4
        assert not list(Path("/run/pouchrich").glob("spawner-*.sock"))

    native_node(action)


def test_an_answer_that_the_spawner_cannot_send_is_the_scripts(native_node):
    def action(node):
        features = {**FEATURES, "annotations": {"long": "x" * request.ANSWER_LIMIT}}
        asker = Asker(node, "containerd", features)
        before_python(node, "print('python', file=open('/run/begun', 'a'))")
        node.start("one")
        spawner = node.spawner()
        assert asker.features(asker.ask()) == features
        assert Path("/run/begun").read_text() == "python\n" * 2
        assert node.spawner() == spawner

    native_node(action)


def test_what_is_wrong_with_the_question_is_said_by_the_spawner_too(native_node):
    def action(node):
        asker = Asker(node, "containerd", FEATURES)
        node.start("one")
        only_natively(node)
        asker.stdin = b"\xff"
        process = asker.ask()
        assert process.communicate(timeout=60) == (
            b"",
            b"containerd-shim-pouchrich-v2: standard input: not a google.protobuf.Any with runtime options\n",
        )
        assert process.returncode == 1

    native_node(action)


@pytest.mark.parametrize(
    ("args", "env"),
    [
        ([*IDENTITY, "start"], {}),
        ([*IDENTITY, "start"], {"POUCHRICH_SPAWNER": "off"}),
        (["-v"], {}),
        ([], {}),
        (["-info"], {}),
        (["-namespace", "ns"], {}),
        (["start", "delete", "-id"], {}),
    ],
)
@pytest.mark.parametrize("stdin", [b"", b"\x0a\x03abc", bytes(range(256)) * 2000])
def test_what_it_does_not_do_itself_reaches_the_script_unchanged(isolated, tmp_path, args, env, stdin):
    """Nobody listens here, so `start` is nothing that it can do either."""

    def action():
        private_run()
        program = put(tmp_path)
        done = subprocess.run([program, *args], input=stdin, env=env, capture_output=True, cwd=tmp_path, check=False)
        assert done.returncode == 77, done
        assert Path("/run/asked").read_text() == "".join(f"{arg}\n" for arg in args or [""])
        assert Path("/run/input").read_bytes() == stdin

    isolated(action)


def private_run():
    """An empty /run and /var/lib of this mount namespace."""
    for directory in ("/run", "/var/lib"):
        subprocess.run(["mount", "-t", "tmpfs", "none", directory], check=True)


def key_of(program):
    """The key of the program when this process starts it."""
    libexec = Path(program).parent
    return request.key_of(os.getpid(), code=str(libexec.parents[1] / "shim"), python=str(libexec / "python3"))


@pytest.mark.parametrize("word", [b"t", b"!no", b"?", b""])
def test_input_that_was_read_for_a_spawner_that_then_fails_is_there_for_the_script(isolated, tmp_path, word):
    """It takes the request and ends, refuses it, talks nonsense, or hangs up."""
    stdin = bytes(range(256)) * 100

    def action():
        private_run()
        program = put(tmp_path)
        os.mkdir("/run/pouchrich")
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(request.socket_path(key_of(program)))
        listener.listen()

        def take():
            peer, _ = listener.accept()
            message = peer.recv(1 << 18)
            Path("/run/message").write_bytes(message)
            peer.send(word)
            peer.close()

        threading.Thread(target=take, daemon=True).start()
        env = {"ODD": "a=b \n\x7f", "EMPTY": ""}
        done = subprocess.run([program, *IDENTITY, "start"], input=stdin, env=env, capture_output=True, check=False)
        assert done.returncode == 77
        read = request.Request(Path("/run/message").read_bytes())
        assert (read.key, read.containerd, read.args) == (key_of(program), os.getpid(), [*IDENTITY, "start"])
        assert (read.environment, read.stdin) == ({b"ODD": b"a=b \n\x7f", b"EMPTY": b""}, stdin)
        assert Path("/run/input").read_bytes() == stdin

    isolated(action)


def test_a_spawner_that_is_only_being_begun_is_not_waited_for_with_a_delete(isolated, tmp_path):
    """As a `start` would: containerd ends a `delete` after five seconds."""

    def action():
        private_run()
        program = put(tmp_path)
        os.mkdir("/run/pouchrich")
        path = request.socket_path(key_of(program))
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        listener.bind(path)
        listener.listen()
        Path(f"{path}.lock").write_text("4711")
        make("/run/bundle/pouchrich.json")
        began = time.monotonic()
        done = subprocess.run([program, *IDENTITY, "delete"], env={}, cwd="/run/bundle", check=False)
        assert done.returncode == 77
        assert time.monotonic() - began < 8  # one second is what it gives, ten what a `start` does

    isolated(action)


@pytest.fixture
def deleted(isolated, tmp_path):
    """Have the program do `delete` for a bundle that a function may have changed: its status and answer are checked.

    The function gets the bundle's path.
    """

    def run(change, *, status, args=IDENTITY, then=lambda answer: None):
        def action():
            private_run()
            program = put(tmp_path)
            bundle = Path("/run/bundle")
            (bundle / "rootfs").mkdir(parents=True)
            (bundle / "address").write_text("unix:///run/gone")
            change(bundle)
            done = subprocess.run([program, *args, "delete"], env={}, capture_output=True, cwd=bundle, check=False)
            assert done.returncode == status, done
            then(done.stdout)

        isolated(action)

    return run


def make(path, text=""):
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Path(path).write_text(text)


def test_of_a_container_that_left_nothing_it_says_what_delete_would(deleted):
    def then(answer):
        expected = bootstrap.delete_response(4321, 137, 1 << 31, 999_999_999)
        assert len(answer) in range(len(expected) - 5, len(expected) + 1)
        assert answer.startswith(expected[:7])

    deleted(lambda bundle: make(bundle / "init.pid", "4321"), status=0, then=then)


@pytest.mark.parametrize("pid", ["", "x", "-5", "0"])
def test_a_pid_that_is_none_is_left_out(deleted, pid):
    expected = bootstrap.delete_response(0, 137, 0, 0)

    def then(said):
        assert said.startswith(expected[:3])

    deleted(lambda bundle: make(bundle / "init.pid", pid), status=0, then=then)


@pytest.mark.parametrize(
    "left",
    [
        "/run/bundle/pouchrich.json",
        "/var/lib/pouchrich/poststop/ns/pod.jsonl",
        "/run/pouchrich/bundles/ns/pod",
        "/run/pouchrich/pods/ns/pod",
    ],
)
@pytest.mark.parametrize("kind", ["file", "dangling link", "no answer"])
def test_whatever_is_left_is_work_for_the_script(deleted, left, kind):
    def change(bundle):
        if kind == "file" or Path(left).parent == bundle:
            make(left)
        elif kind == "dangling link":
            make(left)
            os.unlink(left)
            os.symlink("nowhere", left)
        else:
            make(Path(left).parent)  # ENOTDIR, which says nothing of what is left

    deleted(change, status=77)


@pytest.mark.parametrize(
    ("sandbox", "left", "status"),
    [
        ("box", "", 0),
        ("box", "/run/pouchrich/pods/ns/box/pod", 77),
        ("box", "/run/pouchrich/pods/ns/box/other", 0),
        ("../x", "", 77),
        ("x" * 77, "", 77),
    ],
)
def test_a_member_has_its_bundle_with_its_sandbox_and_whether_that_is_served_does_not_matter(
    deleted, sandbox, left, status
):
    def change(bundle):
        (bundle / "address").unlink()
        make(bundle / "sandbox", sandbox)
        if left:
            make(left)

    deleted(change, status=status)


def test_a_root_file_system_that_is_mounted_is_work_for_the_script(deleted):
    def change(bundle):
        subprocess.run(["mount", "-t", "tmpfs", "none", bundle / "rootfs"], check=True)

    deleted(change, status=77)


def test_no_root_file_system_at_all_is_none_that_is_mounted(deleted):
    deleted(lambda bundle: (bundle / "rootfs").rmdir(), status=0)


@pytest.mark.parametrize("scheme", ["unix://", ""])
def test_a_socket_on_which_nobody_listens_is_work_for_the_script(deleted, scheme):
    sockets = []

    def change(bundle):
        sockets.append(socket.socket(socket.AF_UNIX))
        sockets[0].bind("/run/s")
        (bundle / "address").write_text(f"{scheme}/run/s")

    def change_and_listen(bundle):
        change(bundle)
        sockets[0].listen()

    deleted(change, status=77)
    sockets.clear()
    deleted(change_and_listen, status=0)


def test_a_listener_that_is_a_zombie_is_work_for_the_script(deleted):
    """A killed pod server has closed nothing as long as another process has its listener too."""

    def change(bundle):
        listener = socket.socket(socket.AF_UNIX)
        listener.bind("/run/s")
        pid = os.fork()
        if pid == 0:
            listener.listen()  # whose peer credentials are of who listens (unix(7))
            os._exit(0)
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        os.set_inheritable(listener.fileno(), True)
        (bundle / "address").write_text("unix:///run/s")
        listener.detach()

    deleted(change, status=77)


@pytest.mark.parametrize("address", [None, "", "vsock://3:1024", "nonsense"])
def test_an_address_that_is_missing_is_work_for_the_script_and_one_of_another_kind_is_not(deleted, address):
    def change(bundle):
        os.unlink(bundle / "address")
        if address is not None:
            (bundle / "address").write_text(address)

    deleted(change, status=0 if address else 77)


@pytest.mark.parametrize(
    ("args", "status"),
    [
        (["-namespace=ns", "--id=pod"], 0),
        ([*IDENTITY, "-debug", "-address", "/run/c.sock", "-publish-binary", "/bin/c", "-bundle", "/run/bundle"], 0),
        ([*IDENTITY, "-bundle", "/elsewhere"], 77),
        (["-namespace", "ns", "-id"], 77),
        ([*IDENTITY, "-debug=false"], 77),
        ([*IDENTITY, "-unknown", "x"], 77),
        ([*IDENTITY, "delete"], 77),
        ([*IDENTITY, "-socket"], 77),
        (["-id", "pod"], 77),
        (["-namespace", "ns"], 77),
        (["-namespace", "ns", "-id", ""], 77),
        (["-namespace", "n/s", "-id", "pod"], 77),
        (["-namespace", "ns", "-id", ".."], 77),
        (["-namespace", "ns", "-id", "pöd"], 77),
        (["-namespace", "ns", "-id", "a--b"], 77),
        (["-namespace", "ns", "-id", "a-"], 77),
        (["-namespace", "ns", "-id", "-a"], 77),
        (["-namespace", "ns", "-id", "a" * 76], 0),
        (["-namespace", "ns", "-id", "a" * 77], 77),
    ],
)
def test_only_a_command_line_of_the_usual_kind_is_its_own(deleted, args, status):
    deleted(lambda bundle: None, args=args, status=status)


def test_no_command_line_and_no_file_makes_it_fail(isolated, tmp_path):
    """Random words and contents: it answers, or the script is asked; it does not crash."""

    def action():
        private_run()
        program = put(tmp_path)
        bundle = Path("/run/bundle")
        (bundle / "rootfs").mkdir(parents=True)
        chance = random.Random(5)
        flags = [
            "-namespace",
            "--id",
            "-id",
            "-bundle",
            "-address=",
            "--",
            "-",
            "=",
            "-=",
            "ns",
            "pod",
            ".",
            "a" * 5000,
        ]
        for _ in range(300):
            words = chance.choices([*flags, chance.randbytes(20).replace(b"\0", b"")], k=chance.randrange(7))
            for name in ("address", "init.pid"):
                (bundle / name).write_bytes(chance.randbytes(chance.choice((0, 3, 40, 5000))))
            last = chance.choice(["start", "delete", "delete", "x"])
            done = subprocess.run([program, *IDENTITY, *words, last], cwd=bundle, capture_output=True, check=False)
            assert done.returncode in (0, 77), (words, done)

    isolated(action)

"""Hooks in and around real containers of crun and runc, in every ending."""

import asyncio
import copy
import faulthandler
import json
import os
import shutil
import signal
import subprocess
import time
from contextlib import suppress
from pathlib import Path

import pytest

from runtime import bundle as bundles
from runtime import cgroup as cgroups
from runtime.bundle import Bundle
from runtime.config.model import Hook, When
from runtime.errors import HookFailed
from runtime.hooks import environment
from runtime.hooks.environment import HookSubject
from runtime.hooks.journal import records
from runtime.hooks.others import others
from runtime.hooks.select import Selection
from runtime.linux import mounts, syscalls
from runtime.linux.null import open_own_sink
from runtime.oci import argv
from runtime.oci.argv import OCIBinary
from runtime.oci.cli import OCIRuntime
from shim.task.hooks import poststop
from shim.task.hooks.hooks import RESULTS, HookRunner, Places
from shim.task.reaper import Reaper

RUNTIMES = [name for name in ("crun", "runc") if shutil.which(name)]
BUSYBOX = shutil.which("busybox")

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="containers need root"),
    pytest.mark.skipif(not RUNTIMES or not BUSYBOX, reason="needs crun or runc, and a static busybox"),
]

HYBRID = "/sys/fs/cgroup/unified"
LIMIT_S = 60
CAPABILITIES = ["CAP_CHOWN", "CAP_KILL", "CAP_SETUID", "CAP_SETGID"]


def spec_of(cgroup, uid):
    return {
        "ociVersion": "1.0.2",
        "process": {
            "terminal": False,
            "user": {"uid": uid, "gid": uid},
            "args": ["sh", "-c", "echo from the container > /shared; exec sleep 600"],
            "env": ["PATH=/bin", "POD=value"],
            "cwd": "/tmp",
            "capabilities": dict.fromkeys(("bounding", "effective", "permitted"), CAPABILITIES),
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 333, "soft": 333}],
            "noNewPrivileges": True,
        },
        "root": {"path": "rootfs", "readonly": False},
        "hostname": "box",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs", "options": ["mode=755", "size=65536k"]},
            {"destination": "/data", "type": "tmpfs", "source": "tmpfs", "options": ["size=1m"]},
        ],
        "linux": {
            "cgroupsPath": cgroup,
            "resources": {"pids": {"limit": 99}},
            "namespaces": [{"type": one} for one in ("pid", "network", "ipc", "uts", "mount")],
        },
    }


def shell(name, text, where="container", **fields):
    given = {
        "name": name,
        "where": where,
        "command": ("/bin/sh", "-c", text),
        "timeout_s": 20.0,
        "on_failure": "abort",
        "user": None,
        "env": (),
        "mandatory": False,
        "when": When(),
    }
    return Hook(**{**given, **fields})


async def appears(path):
    """A file that a process of the container makes."""
    while not path.exists():  # noqa: ASYNC110
        await asyncio.sleep(0.01)


class Box:
    """A bundle with busybox in it, and the container made of it, as the pod server would."""

    def __init__(self, directory, runtime, uid=0):
        self.directory = directory
        self.bundle = Bundle(str(directory / "bundle"))
        self.places = Places(str(directory / "records"), str(directory / "run"))
        self.rootfs = Path(self.bundle.rootfs)
        self.rootfs.mkdir(parents=True)
        syscalls.mount("root", self.rootfs, "tmpfs", 0, "mode=0777")
        for name in ("bin", "etc", "proc", "dev", "tmp", "data"):
            (self.rootfs / name).mkdir()
        (self.rootfs / "tmp").chmod(0o1777)
        shutil.copy(BUSYBOX, self.rootfs / "bin" / "busybox")
        for applet in ("sh", "sleep", "cat", "id", "setsid", "head", "env", "readlink", "hostname", "ls", "touch"):
            (self.rootfs / "bin" / applet).symlink_to("busybox")
        (self.rootfs / "etc" / "passwd").write_text("root:x:0:0::/:/bin/sh\nweb:x:33:34::/:/bin/sh\n")
        (self.rootfs / "etc" / "group").write_text("extra:x:77:web\n")
        self.id = f"hooks{os.getpid()}"
        self.cgroup = f"/pouchrich-test-{os.getpid()}"
        self.spec = spec_of(f"{self.cgroup}/{self.id}", uid)
        self.bundle.write_spec(self.spec)
        self.binary = OCIBinary(shutil.which(runtime), str(directory / "state"))

    @property
    def said(self):
        """What hooks wrote to the rootfs, by line."""
        path = self.rootfs / "said"
        return path.read_text().splitlines() if path.exists() else []

    def connect(self, selection):
        """A reaper and a hook runner on the running loop."""
        self.reaper = Reaper(asyncio.get_running_loop())
        self.reaper.install()
        self.oci = OCIRuntime(self.binary, self.run)
        subject = HookSubject(
            id=self.id,
            containerd_namespace="k8s.io",
            bundle=self.bundle.path,
            rootfs=self.bundle.rootfs,
            name="web",
            namespace="shop",
            mode="dumb-init",
            annotations={"note": "x" * 100_000},
        )
        return HookRunner(
            subject,
            selection,
            spec=copy.deepcopy(self.spec),
            oci=self.oci,
            run=self.run,
            reaper=self.reaper,
            places=self.places,
        )

    async def run(self, words, fds):
        child = self.reaper.spawn(words, fds, {"PATH": os.environ["PATH"]})
        return (await asyncio.shield(child.ended)).status

    async def create(self, hooks):
        await hooks.prepare()
        options = argv.CreateOptions(bundle=self.bundle.path, pid_file=self.bundle.init_pid_file)
        sink = open_own_sink()  # crun makes the container's root the owner of its streams: not of the node's /dev/null
        with self.reaper.expecting():
            await self.oci.create(self.id, options, dict.fromkeys((0, 1, 2), sink))
            self.init = bundles.read_pid(self.bundle.init_pid_file)
            self.ended = asyncio.get_running_loop().create_future()
            self.reaper.watch(self.init, lambda exit: self.ended.done() or self.ended.set_result(exit))
        os.close(sink)
        await hooks.owe(self.init)

    async def prestart(self, hooks):
        await hooks.run_prestart(init=self.init, cgroup=cgroups.locate(self.init))

    async def life(self, *, prestart=(), poststop=(), during=None, budget_s=30.0):
        """Create, prestart, start, kill, poststop, delete. The results and the error of a refused start."""
        hooks = self.connect(Selection(tuple(prestart), tuple(poststop), budget_s))
        error = None
        try:
            await self.create(hooks)
            try:
                await self.prestart(hooks)
            except HookFailed as err:
                error = str(err)
            if during is not None:
                during(self)
            if error is None:
                await self.oci.start(self.id)
                await appears(self.rootfs / "shared")
            os.kill(self.init, signal.SIGKILL)
            end = environment.ending((await self.ended).status)
            await hooks.run_poststop(environment.NEVER_STARTED if error else end)
        finally:
            await self.oci.delete(self.id, force=True)
        return self.results(), error

    def results(self):
        told = json.loads(Path(self.bundle.path, RESULTS).read_text())["hooks"]
        return [(one["name"], one["result"]) for one in told]

    def check_clean(self):
        assert not list(records(self.places.records))
        held = Path(self.places.run)
        assert not [path for path in held.rglob("*") if path.name.startswith(self.id)]
        assert not mounts.mount_points(str(held))
        left = Path("/sys/fs/cgroup").glob(f"*{self.cgroup}/*-poststop-*")
        assert not [path for path in left if not str(path).startswith(HYBRID)]
        shutil.rmtree(self.directory / "run", ignore_errors=True)

    def remove_cgroup(self):
        for path in Path("/sys/fs/cgroup").glob(f"*{self.cgroup}"):
            if str(path).startswith(HYBRID):
                continue
            for _ in range(100):
                with suppress(OSError):
                    path.rmdir()
                if not path.exists():
                    break
                time.sleep(0.02)
            assert not path.exists()


@pytest.fixture(params=RUNTIMES)
def box(request, isolated, tmp_path):
    """Run `action(box)` isolated, with a container's worth of files."""

    def run(action, **options):
        def inside():
            faulthandler.dump_traceback_later(LIMIT_S, exit=True)
            if os.path.isdir(HYBRID):  # crun 1.8 refuses a hybrid host, and takes any directory for a v1 hierarchy
                syscalls.mount("none", HYBRID, "tmpfs", 0, "size=1m")
            syscalls.set_child_subreaper()
            made = Box(tmp_path, request.param, **options)
            try:
                action(made)
                made.check_clean()
            finally:
                made.remove_cgroup()

        isolated(inside)

    return run


def test_a_prestart_hook_in_the_container_is_the_pods_process(box):
    text = (
        'echo "$(id -u):$(id -g) $POD $OWN $POUCHRICH_NAME $(ulimit -n) $PWD" > /tmp/said;'
        " cat > /tmp/state; grep -E 'CapBnd|NoNewPrivs' /proc/self/status >> /tmp/said; readlink /proc/self/exe"
    )

    def check(box):
        (box.rootfs / "bin" / "grep").symlink_to("busybox")
        results, error = asyncio.run(box.life(prestart=[shell("p", text, env=(("OWN", "a b"),))]))
        assert (results, error) == ([("p", "exit status 0")], None)
        said = (box.rootfs / "tmp" / "said").read_text().splitlines()
        assert said[0] == "1000:1000 value a b web 333 /tmp"
        assert {line.split()[1] for line in said[1:]} == {"1", f"{(1 << 0) | (1 << 5) | (1 << 6) | (1 << 7):016x}"}
        state = json.loads((box.rootfs / "tmp" / "state").read_text())
        assert (state["id"], state["status"], state["pid"]) == (box.id, "created", 1)

    box(check, uid=1000)


def test_a_nodes_prestart_hook_may_be_another_user_of_the_image(box):
    def check(box):
        hook = shell("p", "id -u > /tmp/said; id -G >> /tmp/said", user="web")
        results, _ = asyncio.run(box.life(prestart=[hook]))
        assert results == [("p", "exit status 0")]
        assert (box.rootfs / "tmp" / "said").read_text() == "33\n34 77\n"

    box(check)


def test_a_user_that_the_image_has_not_fails_the_hook(box):
    def check(box):
        _, error = asyncio.run(box.life(prestart=[shell("p", "true", user="ghost")]))
        assert error.startswith("prestart hook p: user: found 'ghost', allowed")

    box(check)


def test_the_last_words_of_a_failed_prestart_hook_reach_the_error_also_through_dev_stdout(box):
    def check(box):
        hook = shell("p", "echo one > /proc/self/fd/1; printf 'tw\\303\\266\\377' >&2; exit 3")
        results, error = asyncio.run(box.life(prestart=[hook, shell("never", "true")]))
        assert results == [("p", "exit status 3")]
        assert error == "prestart hook p: exit status 3: one; twö\ufffd"

    box(check, uid=1000)


LEFTOVER = "setsid sh -c 'sleep 500 & exec sleep 500' & sleep 0.2;"


@pytest.mark.parametrize(
    ("text", "fields", "result"),
    [
        (f"{LEFTOVER} true", {}, "exit status 0"),
        (f"{LEFTOVER} sleep 500", {"timeout_s": 1.0}, "timed out after 1s"),
        (f"{LEFTOVER} exit 9", {}, "exit status 9"),
    ],
)
def test_after_a_prestart_hook_init_is_alone_in_the_container(box, text, fields, result):
    def alone(box):
        assert others(box.init, cgroups.locate(box.init)) == []
        assert cgroups.procs(cgroups.locate(box.init)) == [box.init]

    def check(box):
        began = time.monotonic()
        results, _ = asyncio.run(box.life(prestart=[shell("p", text, **fields)], during=alone))
        assert results == [("p", result)]
        assert time.monotonic() - began < 15

    box(check)


@pytest.mark.parametrize("stage", ["prestart", "poststop"])
def test_a_missing_program_fails_the_hook_in_the_runtimes_words(box, stage):
    def check(box):
        hook = shell("gone", "", command=("/no/such",), on_failure="continue")
        results, error = asyncio.run(box.life(**{stage: [hook, shell("next", "true")]}))
        assert error is None
        assert "/no/such" in results[0][1]
        assert results[1] == ("next", "exit status 0")

    box(check)


@pytest.mark.parametrize("stage", ["prestart", "poststop"])
def test_ten_megabytes_from_the_container_do_not_block(box, stage):
    def check(box):
        results, _ = asyncio.run(box.life(**{stage: [shell("loud", "head -c 10000000 /dev/zero")]}))
        assert results == [("loud", "exit status 0")]

    box(check)


def test_a_poststop_hook_has_the_containers_files_mounts_and_network_and_pids_of_its_own(box):
    text = (
        'echo "$(cat /shared) | $$ | $(readlink /proc/self/ns/net) | $(hostname) | $POUCHRICH_EXIT_CODE'
        ' $POUCHRICH_EXIT_REASON | $(ulimit -n)" >> /said; touch /data/x && cat > /state; cat /proc/self/cgroup > /cg'
    )

    def note(box):
        box.net = os.readlink(f"/proc/{box.init}/ns/net")

    def check(box):
        results, error = asyncio.run(box.life(poststop=[shell("p", text)], during=note))
        assert (results, error) == ([("p", "exit status 0")], None)
        assert box.said == [f"from the container | 1 | {box.net} | box | 137 Signal | 333"]
        assert box.net != os.readlink("/proc/self/ns/net")
        assert json.loads((box.rootfs / "state").read_text())["status"] == "stopped"
        assert f"{box.cgroup}/{box.id}-poststop-0" in (box.rootfs / "cg").read_text()

    box(check)


def test_a_poststop_hook_that_takes_too_long_dies_with_all_it_started(box):
    def check(box):
        hook = shell("slow", f"{LEFTOVER} echo x >> /said; sleep 500", timeout_s=2.0, on_failure="continue")
        began = time.monotonic()
        results, _ = asyncio.run(box.life(poststop=[hook, shell("next", "echo y >> /said")]))
        assert results == [("slow", "timed out after 2s"), ("next", "exit status 0")]
        assert box.said == ["x", "y"]
        assert time.monotonic() - began < 15

    box(check)


def test_a_refused_start_runs_poststop_once_with_its_reason(box):
    def check(box):
        results, error = asyncio.run(
            box.life(
                prestart=[shell("no", "exit 1")],
                poststop=[shell("p", "echo $POUCHRICH_EXIT_CODE $POUCHRICH_EXIT_REASON >> /said")],
            )
        )
        assert error == "prestart hook no: exit status 1"
        assert results == [("no", "exit status 1"), ("p", "exit status 0")]
        assert box.said == ["128 StartFailed"]

    box(check)


def a_namespace_of(kind):
    """A process in a namespace of its own, such as a pod's sandbox; its pid."""
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        syscalls.unshare(kind)
        os.write(writer, b"r")
        signal.pause()
        os._exit(0)
    os.read(reader, 1)
    return pid


def test_a_network_that_was_given_by_a_process_is_held_when_that_process_is_gone(box):
    text = 'echo "$(readlink /proc/self/ns/net)" >> /said'

    def check(box):
        sandbox = a_namespace_of(syscalls.CLONE_NEWNET)
        network = os.readlink(f"/proc/{sandbox}/ns/net")
        box.spec["linux"]["namespaces"][1]["path"] = f"/proc/{sandbox}/ns/net"
        box.bundle.write_spec(box.spec)
        results, _ = asyncio.run(box.life(poststop=[shell("p", text)], during=lambda _: os.kill(sandbox, 9)))
        assert results == [("p", "exit status 0")]
        assert box.said == [network]

    box(check)


def can_exec_before_init(binary):
    """crun up to 1.8.6 cannot exec in a created container with a user namespace (containers/crun#1264)."""
    words = subprocess.run([binary, "--version"], capture_output=True, text=True, check=True).stdout.split()
    return words[0] != "crun" or tuple(map(int, words[2].split("."))) > (1, 8, 6)


def test_in_a_user_namespace_a_hook_has_the_containers_users(box):
    text = 'echo "$(id -u) $(cat /proc/self/uid_map) $(readlink /proc/self/ns/user)" >> /said'

    def note(box):
        box.user = os.readlink(f"/proc/{box.init}/ns/user")

    def check(box):
        box.spec["linux"]["namespaces"].append({"type": "user"})
        for kind in ("uidMappings", "gidMappings"):
            box.spec["linux"][kind] = [{"containerID": 0, "hostID": 100000, "size": 65536}]
        box.bundle.write_spec(box.spec)
        for path in (box.directory, *box.directory.parents):
            if path.stat().st_uid == 0 and path != path.parent:
                path.chmod(path.stat().st_mode | 0o011)
        for path in (box.rootfs, *box.rootfs.rglob("*")):
            os.chown(path, 100000, 100000, follow_symlinks=False)
        prestart = [shell("a", text)] if can_exec_before_init(box.binary.path) else []
        results, _ = asyncio.run(box.life(prestart=prestart, poststop=[shell("b", text)], during=note))
        assert {result for _, result in results} == {"exit status 0"}
        assert [line.split() for line in box.said] == [["0", "0", "100000", "65536", box.user]] * len(results)
        assert os.stat(os.devnull).st_uid != 100000, "the container's root owns the node's /dev/null"

    box(check)


# A killed pod server


def serve_until_killed(box, poststop, *, moment):
    """A pod server in a process of its own, gone by SIGKILL: before init's exit, after it, or in the first hook."""

    async def serve():
        hooks = box.connect(Selection((), tuple(poststop), 20.0))
        await box.create(hooks)
        await box.oci.start(box.id)
        await appears(box.rootfs / "shared")
        if moment == "running":
            os.kill(os.getpid(), signal.SIGKILL)
        os.kill(box.init, signal.SIGTERM if moment == "never" else signal.SIGKILL)
        exit = await box.ended
        if moment == "exited":
            os.kill(os.getpid(), signal.SIGKILL)
        running = asyncio.create_task(hooks.run_poststop(environment.ending(exit.status)))
        await appears(box.rootfs / "in-hook")
        os.kill(os.getpid(), signal.SIGKILL)
        await running

    pid = os.fork()
    if pid == 0:
        try:
            syscalls.set_child_subreaper()
            asyncio.run(serve())
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL


def run_delete(box, *, patience_s=3.0):
    """What `delete` does, in its order; the seconds it took."""
    began = time.monotonic()
    handover = poststop.hand_over("k8s.io", box.id, box.bundle.path, directory=box.places.records, run=box.places.run)
    words = argv.command(box.binary, os.devnull, argv.delete(box.id, force=True))
    os.waitpid(os.posix_spawn(words[0], words, os.environ), 0)
    through = handover.finish(patience_s) if handover is not None else None
    mounts.unmount_tree(box.bundle.rootfs)
    return through, time.monotonic() - began


def wait_for(condition, within_s=20.0):
    deadline = time.monotonic() + within_s
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert condition()


@pytest.fixture
def killed(box, tmp_path):
    """Kill a server at `moment`, then `delete`; give back what hooks wrote to a directory that outlives all mounts."""

    def run(moment, hooks, check, **options):
        def act(box):
            out = tmp_path / "out"
            out.mkdir()
            box.spec["mounts"].append(
                {"destination": "/out", "type": "bind", "source": str(out), "options": ["rbind", "rw"]}
            )
            box.bundle.write_spec(box.spec)
            serve_until_killed(box, hooks(out), moment=moment)
            through, seconds = run_delete(box, **options)
            wait_for(lambda: not list(records(box.places.records)))
            check(through, seconds, sorted((out / "said").read_text().splitlines()))

        box(act)

    return run


def tally(out):
    """One hook of each kind."""
    says = "$POUCHRICH_EXIT_CODE $POUCHRICH_EXIT_REASON"
    return [
        shell("in", f"cat /shared; echo in {says} >> /out/said; : > /in-hook"),
        shell("host", f"echo host {says} >> {out}/said", where="host"),
    ]


@pytest.mark.parametrize("moment", ["running", "exited"])
def test_delete_runs_each_hook_once_for_a_server_that_was_killed(killed, moment):
    def check(through, seconds, said):
        assert said == ["host 137 ShimKilled", "in 137 ShimKilled"]
        assert through, seconds
        assert seconds < 4

    killed(moment, tally, check)


def test_a_server_killed_in_mid_hook_loses_that_one_and_no_other(killed):
    def hooks(out):
        slow = shell("slow", "echo slow >> /out/said; : > /in-hook; sleep 500")
        return [slow, *tally(out)]

    def check(through, seconds, said):
        assert said == ["host 137 Signal", "in 137 Signal", "slow"]  # the status had been recorded

    killed("in hook", hooks, check)


def test_what_does_not_fit_is_left_to_a_runner_that_still_has_the_root_file_system(killed):
    def hooks(out):
        return [shell("long", "sleep 2"), *tally(out)]

    def check(through, seconds, said):
        assert not through
        assert seconds < 2
        assert said == ["host 137 ShimKilled", "in 137 ShimKilled"]

    killed("running", hooks, check, patience_s=0.3)


def test_delete_leaves_the_hooks_to_a_server_that_lives(box):
    async def serve(box):
        hooks = box.connect(Selection((), (shell("p", "echo once >> /said"),), 20.0))
        await box.create(hooks)
        assert (
            poststop.hand_over("k8s.io", box.id, box.bundle.path, directory=box.places.records, run=box.places.run)
            is None
        )
        os.kill(box.init, signal.SIGKILL)
        await box.ended
        await hooks.run_poststop(environment.NEVER_STARTED)
        await box.oci.delete(box.id, force=True)

    def check(box):
        asyncio.run(serve(box))
        assert box.said == ["once"]

    box(check)

"""Rich containers by `ctr run`, which has no sandbox, no CRI and no handler: what is asked for comes by flags."""

import json
import os
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.integration import configuration, processes, rich_images
from tests.integration.ctr import Ctr, Result
from tests.integration.rich_images import System
from tests.integration.rich_pods import configure
from tests.integration.test_rich_application import everywhere
from tests.integration.test_rich_attacks import STEERING, TRIES
from tests.integration.test_rich_hooks import TOLD, hook
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), everywhere]

SYSTEMD = System("systemd")
LOOP = "while :; do sleep 0.1; done"
INITS = {
    "systemd": (SYSTEMD, "systemd"),
    "sbin-init": (System("sysvinit"), "init"),
    "dumb-init": (SYSTEMD, "dumb-init"),
}


class RichCtr:
    """Containers that `ctr` makes, with a directory of the node's at /shared for their hooks and commands."""

    def __init__(self, ctr: Ctr) -> None:
        self.ctr = ctr
        self.directory = Path(ctr.node.base, f"shared-{time.monotonic_ns()}")
        self.directory.mkdir()
        self.directory.chmod(0o777)

    def configure(self, mode: str, more: str = "") -> None:
        """Set the mode, and add hooks or agents, for what is run from now on."""
        configure(self.ctr.node, f'mode = "{mode}"\n', more)

    def run(
        self, system: System, *command: str, flags: tuple[str, ...] = (), at: str = "/shared", root: str = ""
    ) -> tuple[str, Result]:
        """`ctr run` of the system's image, or of the file system at `root`; the container, and what ctr said.

        The directory is at `at` in it.
        """
        container = self.ctr.new_id()
        image = root or rich_images.import_system(self.ctr.node, system, namespace="default")
        shim = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", configuration.TEST_FILE)
        place = (
            *("--snapshotter", self.ctr.node.settings.snapshotter, "--cgroup", f"{self.ctr.node.cgroup}/{container}"),
            *("--mount", f"type=bind,src={self.directory},dst={at},options=rbind:rw"),
        )
        return container, self.ctr.call("run", *shim, *place, *flags, image, container, *command)

    def start(self, system: System, *command: str, flags: tuple[str, ...] = (), **place: str) -> str:
        """A container that runs."""
        container, result = self.run(system, *command, flags=("--detach", *flags), **place)
        assert result.code == 0, result.stderr
        return container

    def end(self, container: str, signal: str) -> int:
        """Signal the container, see it end and be deleted; its exit code."""
        self.ctr.kill(container, signal)
        self.ctr.wait_stopped(container)
        return self.ctr.delete(container)

    def lines(self, name: str) -> list[str]:
        path = self.directory / name
        return path.read_text().splitlines() if path.exists() else []

    def hooks(self, stage: str, *, said: str = TOLD) -> str:
        """A hook on the host and one in the container, which write a line to a file named after them."""
        return hook(stage, "host", f"cat >/dev/null; echo {said} >>{self.directory}/{stage}-host") + hook(
            stage, "container", f"cat >/dev/null; echo {said} >>/shared/{stage}-container"
        )


@pytest.fixture
def rich_ctr(ctr: Ctr) -> Iterator[RichCtr]:
    yield RichCtr(ctr)
    ctr.remove_all()


@pytest.mark.parametrize("mode", INITS)
def test_the_application_runs_beside_its_init_between_its_hooks_and_ends_as_it_likes(
    rich_ctr: RichCtr, mode: str
) -> None:
    system, init = INITS[mode]
    rich_ctr.configure(mode, rich_ctr.hooks("prestart", said="before") + rich_ctr.hooks("poststop"))
    script = f"trap 'exit 42' TERM; cat /shared/prestart-host >/shared/seen; echo $PPID >/shared/ready; {LOOP}"
    container = rich_ctr.start(system, "sh", "-c", script, flags=("--cap-add", "CAP_SYS_BOOT"))
    until(lambda: rich_ctr.lines("ready"), "the application")
    assert rich_ctr.lines("ready") == ["1"]
    assert rich_ctr.lines("seen") == ["before"]
    assert processes.command(rich_ctr.ctr.pid(container)).split()[0].rpartition("/")[2].startswith(init)
    assert rich_ctr.end(container, "SIGTERM") == 42
    time.sleep(0.3)
    for where in ("host", "container"):
        assert rich_ctr.lines(f"prestart-{where}") == ["before"]
        (line,) = rich_ctr.lines(f"poststop-{where}")
        assert line.startswith(f"42 Error {mode} "), line


@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_ctr_gets_the_applications_output_and_exit_code(rich_ctr: RichCtr, mode: str) -> None:
    rich_ctr.configure(mode)
    script = "seq 20000; seq 20000 >&2; exit 7"
    _, result = rich_ctr.run(SYSTEMD, "sh", "-c", script, flags=("--rm",))
    numbers = "".join(f"{number}\n" for number in range(1, 20001))
    assert result.code == 7
    assert result.stdout.decode() == numbers
    assert numbers in result.stderr


@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_a_prestart_hook_that_fails_is_ctrs_error_and_poststop_hooks_run_once(rich_ctr: RichCtr, mode: str) -> None:
    failing = hook("prestart", "container", "cat >/dev/null; echo the disk is full >&2; exit 3")
    rich_ctr.configure(mode, failing + rich_ctr.hooks("poststop"))
    container, result = rich_ctr.run(SYSTEMD, "touch", "/shared/ran")
    assert result.code != 0
    assert "prestart hook prestart-container: exit status 3" in result.stderr
    assert "the disk is full" in result.stderr
    assert not (rich_ctr.directory / "ran").exists()
    rich_ctr.ctr.call("tasks", "rm", "--force", container)  # which newer ones have done themselves
    until(lambda: rich_ctr.lines("poststop-container"), "the hooks")
    time.sleep(0.3)
    for where in ("host", "container"):
        (line,) = rich_ctr.lines(f"poststop-{where}")
        assert line.startswith("128 StartFailed "), line


def test_a_host_hook_whose_program_is_missing_is_refused_before_anything_runs(rich_ctr: RichCtr) -> None:
    for stage in ("prestart", "poststop"):
        missing = hook(stage, "host", "", command=["/usr/sbin/no-such-program"], name="missing")
        more = missing + rich_ctr.hooks("poststop")
        rich_ctr.configure("dumb-init", more)
        _, result = rich_ctr.run(SYSTEMD, "touch", "/shared/ran")
        assert result.code != 0
        assert f"hooks.{stage}" in result.stderr, result.stderr
        assert "/usr/sbin/no-such-program" in result.stderr
    time.sleep(0.3)
    assert list(rich_ctr.directory.iterdir()) == []


@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_an_agent_runs_beside_the_application_and_ends_with_it(rich_ctr: RichCtr, mode: str) -> None:
    command = ["/bin/sh", "-c", f"echo $$ >>/shared/agent; {LOOP}"]
    rich_ctr.configure(mode, f'[[agents]]\nname = "watcher"\ncommand = {json.dumps(command)}\n')
    container = rich_ctr.start(SYSTEMD, "sh", "-c", f"trap 'exit 42' TERM; touch /shared/ready; {LOOP}")
    until(lambda: rich_ctr.lines("agent") and (rich_ctr.directory / "ready").exists(), "both")
    inside = rich_ctr.ctr.look(container, "cat", f"/proc/{rich_ctr.lines('agent')[0]}/cmdline")
    assert inside.decode().rstrip("\0").split("\0") == command
    assert rich_ctr.end(container, "SIGTERM") == 42


def test_nothing_below_run_pouchrich_can_be_changed_by_an_exec(rich_ctr: RichCtr) -> None:
    rich_ctr.configure("systemd")
    container = rich_ctr.start(SYSTEMD, "sh", "-c", f"trap 'exit 42' TERM; touch /shared/ready; {LOOP}")
    until((rich_ctr.directory / "ready").exists, "the application")
    look = ("sh", "-c", "ls -lnR /run/pouchrich; sha256sum /run/pouchrich/launch")
    before = rich_ctr.ctr.look(container, *look)
    succeeded = [name for name, script in TRIES.items() if rich_ctr.ctr.exec(container, "sh", "-c", script).code == 0]
    assert succeeded == []
    assert rich_ctr.ctr.look(container, *look) == before
    assert rich_ctr.end(container, "SIGTERM") == 42


@pytest.mark.parametrize("name", STEERING)
def test_an_annotation_that_steers_the_oci_runtime_is_refused(rich_ctr: RichCtr, name: str) -> None:
    rich_ctr.configure("dumb-init")
    _, result = rich_ctr.run(SYSTEMD, "touch", "/shared/ran", flags=("--annotation", f"{name}=x"))
    assert result.code != 0
    assert name in result.stderr
    assert not (rich_ctr.directory / "ran").exists()


def test_a_mode_that_is_none_is_refused_and_named(rich_ctr: RichCtr) -> None:
    configure(rich_ctr.ctr.node, 'mode = "dumb-init"\npod-override = ["mode"]\n')
    _, result = rich_ctr.run(SYSTEMD, "true", flags=("--annotation", "pouchrich.io/mode=upstart"))
    assert result.code != 0
    assert "pouchrich.io/mode" in result.stderr
    assert "upstart" in result.stderr


@contextmanager
def viewed(ctr: Ctr, image: str) -> Iterator[str]:
    """A host directory where the image is mounted as an overlay without an upper directory: read-only for good."""
    inside = ("nsenter", f"--mount=/proc/{ctr.node.pid}/ns/mnt")
    lower, empty, merged = (str(ctr.node.base / name) for name in ("lower", "empty", "merged"))
    for directory in (lower, empty, merged):
        os.mkdir(directory)
    images, kind = ctr.node.ctr_argv("images"), ("--snapshotter", ctr.node.settings.snapshotter)
    subprocess.run([*inside, *images, "mount", *kind, image, lower], check=True)
    subprocess.run([*inside, "mount", "-t", "overlay", "-o", f"lowerdir={empty}:{lower}", "none", merged], check=True)
    try:
        yield merged
    finally:
        ctr.remove_all()
        subprocess.run([*inside, "umount", merged], check=True)
        subprocess.run([*inside, *images, "unmount", *kind, "--rm", lower], check=True)
        for directory in (lower, empty, merged):
            os.rmdir(directory)


@pytest.mark.parametrize("mode", INITS)
def test_a_root_that_is_mounted_read_only_does_without_what_it_has_no_place_for(rich_ctr: RichCtr, mode: str) -> None:
    """A view of an image, or a file system such as squashfs, in which no OCI runtime can make a mount point."""
    system, pid_1 = INITS[mode]
    rich_ctr.configure(mode)
    script = f"trap 'exit 42' TERM; cat /proc/1/comm >/srv/told; touch /x || echo read-only >>/srv/told; {LOOP}"
    with viewed(rich_ctr.ctr, rich_images.import_system(rich_ctr.ctr.node, system, namespace="default")) as root:
        container = rich_ctr.start(system, "/bin/sh", "-c", script, flags=("--rootfs",), at="/srv", root=root)
        until(lambda: len(rich_ctr.lines("told")) == 2, "the application to tell")
        assert rich_ctr.lines("told") == [pid_1, "read-only"]
        assert rich_ctr.end(container, "SIGTERM") == 42

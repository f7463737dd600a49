"""Images made to hurt whoever looks into them: nothing of ours opens what is no regular file, or follows for ever."""

import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.integration import configuration
from tests.integration.ctr import Ctr, Result
from tests.integration.opens import Open, watched
from tests.integration.rich_pods import configure
from tests.integration.test_rich_application import in_one_place
from tests.root import rootfs_images

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

NODES = (
    *("etc/inittab", "etc/passwd", "etc/group", "init", "sbin/openrc", "etc/init.d/rc", "etc/init.d/cron"),
    *("etc/systemd/system/cron.service", "lib/systemd/system/cron.service", "etc/profile.d/pouchenv.sh"),
    *("usr/lib/systemd/systemd", "lib/systemd/systemd", "usr/lib/systemd/system-generators/systemd-sysv-generator"),
)
KINDS = [stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK]
NODE = """
[services]
enable = ["cron"]

[[hooks.prestart]]
name = "who"
command = ["/bin/true"]
user = "daemon:adm"
on-failure = "continue"

[[hooks.poststop]]
name = "who"
command = ["/bin/true"]
user = "daemon:adm"

[[agents]]
name = "watcher"
command = ["/bin/sleep", "1000"]
user = "daemon:adm"
when = { mode = ["systemd"] }
"""


@pytest.fixture
def tree(ctr: Ctr, tmp_path: Path) -> Iterator[Path]:
    """A root file system with busybox as its init, below a directory of the node's."""
    yield rootfs_images.busybox(ctr.node.base / f"hostile-{tmp_path.name}")
    ctr.remove_all()


def make(path: Path, kind: int) -> None:
    """A node of that kind in the place of whatever is there; the device is null's, which hurts nobody."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    os.mknod(path, kind, os.makedev(1, 3))
    path.chmod(0o777)


def run(ctr: Ctr, tree: Path, mode: str, *command: str, flags: Sequence[str] = ()) -> Result:
    """`ctr run --rootfs`, so that the files are there to be watched before the container is."""
    configure(ctr.node, f'mode = "{mode}"\n', NODE)
    shim = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", configuration.TEST_FILE)
    container = ctr.new_id()
    place = ("--cgroup", f"{ctr.node.cgroup}/{container}", "--env", "PATH=/bin:/sbin", "--env", "HOME=/")
    return ctr.call("run", "--rm", *shim, *place, *flags, "--rootfs", str(tree), container, *command)


def ours(seen: list[Open]) -> list[Open]:
    """Those by the shim; what a program of the image's or the OCI runtime opens in the container is their business."""
    programs = [(one, os.path.basename(one.command.partition(" ")[0])) for one in seen]
    return [
        one for one, program in programs if program.startswith(("containerd-shim-pouchrich", "pouchrich", "python"))
    ]


MODES = ["sbin-init", "systemd", "dumb-init", "auto"]


@pytest.mark.defect(
    "runc 1.1 reads the image's /etc/passwd, and waits at a FIFO", oci="runc", containerd=("1.6", "1.7")
)
@pytest.mark.parametrize("mode", MODES)
def test_no_device_fifo_or_socket_of_an_image_is_opened(ctr: Ctr, tree: Path, mode: str) -> None:
    """First with a command, and an init, that can be started, then with neither; each path of another kind by mode."""
    for number, path in enumerate(NODES, MODES.index(mode)):
        make(tree / path, KINDS[number % len(KINDS)])
    with watched(tree / path for path in NODES) as seen, watched([tree / "bin/busybox"]) as read:
        served = run(ctr, tree, mode, "/bin/true")
        make(tree / "sbin/init", KINDS[0])
        with watched([tree / "sbin/init"]) as init:
            refused = run(ctr, tree, mode, "/init")
    assert ours([*seen, *init]) == [], (served, refused)
    assert ours(read) or mode != "sbin-init", "the look into the image was not seen"
    assert served.code == 0, served.stderr
    assert refused.code != 0


def test_a_chain_of_symbolic_links_is_an_error_at_once(ctr: Ctr, tree: Path) -> None:
    """38 links of 1,500 parts each, and 20 mounts below the first."""
    for number in range(38):
        (tree / f"link{number}").symlink_to("tmp/../" * 500 + f"link{number + 1}")
    (tree / "link38").mkdir()
    mounts = [word for number in range(20) for word in ("--mount", f"type=tmpfs,src=tmpfs,dst=/link0/{number}")]
    began = time.monotonic()
    result = run(ctr, tree, "dumb-init", "/bin/true", flags=mounts)
    assert result.code != 0
    assert "found more than 4096 names and symbolic links to follow" in result.stderr
    assert time.monotonic() - began < 10

"""What a container is given of ours is its own: no inode, file system or name is shared with another, or the node."""

import os
import stat
import time
from pathlib import Path

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import binaries
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, security, variables
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_hooks import hook
from tests.integration.waiting import until
from tests.root.handles import handle_of

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
AGENT = """
[[agents]]
name = "probe"
command = ["/bin/sh", "-c", "read word </opt/probe/conf; exec sleep 54321"]
mounts = [{ source = "%s", target = "/opt/probe" }]
"""

# fcntl(2): F_SETLEASE and F_WRLCK. The kernel asks by SIGIO to give it up, and waits for that.
LEASE = """
$SIG{IO} = 'IGNORE'; $| = 1;
open(my $file, '<', $ARGV[0]) or die "$!";
fcntl($file, 1024, 1) or die "lease: $!";
print "leased\\n"; sleep 300;
"""
# open_by_handle_at(2) has no wrapper in Perl: its number, here and on arm64.
BY_HANDLE = """
use POSIX (); my $number = (POSIX::uname())[4] eq 'aarch64' ? 265 : 304;
my $handle = pack('H*', shift @ARGV);
for my $mount (@ARGV) {
    open(my $file, '<', $mount) or do { print "$mount: open: $!\\n"; next };
    my $fd = syscall($number, fileno($file), $handle, 0);
    print $mount, ': ', $fd >= 0 ? 'reached' : "$!", "\\n";
}
"""


def leased(container: Container, path: str) -> bool:
    """Whether a lease could be taken on the file; it is held until the container ends."""
    script = f"perl -e '{LEASE.replace(chr(39), chr(34))}' {path} >/tmp/leased 2>&1 & sleep 0.5; cat /tmp/leased"
    return "leased" in container.shell(script)


def test_a_lease_on_the_launcher_holds_up_no_other_container(rich_pods: RichPods) -> None:
    """Who executes the file waits for the lease to be given up, for 45 seconds as a rule."""
    first = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER))
    assert leased(first, "/run/pouchrich/launch")
    began = time.monotonic()
    running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER))
    assert time.monotonic() - began < int(Path("/proc/sys/fs/lease-break-time").read_text()) / 2


@pytest.mark.full
def test_a_lease_on_an_agents_file_delays_that_agent_alone_and_no_longer_than_the_node_allows(
    rich_pods: RichPods,
) -> None:
    """Agents' mounts are the node's own files, one for all. The application's start does not wait for them."""
    bound_s = int(Path("/proc/sys/fs/lease-break-time").read_text())
    directory = rich_pods.node.base / "probe"
    directory.mkdir(mode=0o755)
    (directory / "conf").write_text("x")
    pods = [rich_pods.pod("dumb-init", more=AGENT % directory) for _ in range(2)]
    first = running(rich_pods.create(pods[0], SYSTEMD, "sh", "-c", FOREVER).start())
    until(lambda: agent_runs(first), "the agent to have read its file")
    assert leased(first, "/opt/probe/conf")
    began = time.monotonic()
    second = running(rich_pods.create(pods[1], SYSTEMD, "sh", "-c", FOREVER).start())
    assert time.monotonic() - began < bound_s / 2
    assert not agent_runs(second)
    until(lambda: agent_runs(second), "the agent", timeout_s=bound_s + 15)


def agent_runs(container: Container) -> bool:
    return container.exec("pgrep", "-f", "^sleep 54321").exit_code == 0


@everywhere
@pytest.mark.parametrize("mode", ["dumb-init", "sbin-init"])
def test_who_opens_files_by_handle_reaches_nothing_of_the_node_by_what_is_ours(rich_pods: RichPods, mode: str) -> None:
    secrets = [binaries.prefix() / "secret", Path("/run/pouchrich-tests/secret")]
    volume = rich_pods.node.base / "volume-by-handle"
    volume.mkdir(exist_ok=True)
    (volume / "own").write_text("x")
    for path in secrets:
        path.write_text("swordfish")
    config = security(add=["DAC_READ_SEARCH"])
    config.mounts.append(pb.Mount(container_path="/volume", host_path=str(volume)))
    container = running(
        rich_pods.create(
            rich_pods.pod(mode),
            SYSTEMD if mode == "dumb-init" else System("sysvinit"),
            "sh",
            "-c",
            FOREVER,
            config=config,
        ).start()
    )
    listed = [line.split()[4] for line in container.shell("cat /proc/self/mountinfo").splitlines()]
    ours = [path for path in listed if "pouch" in path or path == "/etc/inittab"]
    assert ours
    for secret in [*secrets, volume / "own"]:
        handle = bytes(handle_of(str(secret)))
        said = container.shell(
            f"perl -e '{BY_HANDLE.replace(chr(39), chr(34))}' {handle.hex()} {' '.join(ours)} /volume"
        )
        reached = [line.partition(":")[0] for line in said.splitlines() if line.endswith(": reached")]
        assert set(reached) <= {"/volume"}, said
    assert reached == ["/volume"], "the attack does not work at all"


@pytest.fixture
def held(rich_pods: RichPods) -> Container:
    """A container that owes a hook which runs in a container of its own."""
    more = hook("poststop", "container", "sleep 0.2")
    config = variables({"SECRET": "swordfish"})
    return running(rich_pods.create(rich_pods.pod(more=more), SYSTEMD, "sh", "-c", FOREVER, config=config).start())


REACHED = {stat.S_IFREG: 0o044, stat.S_IFSOCK: 0o022, stat.S_IFIFO: 0o066}
"""What lets others than root read a file, connect to a socket."""


def test_host_users_see_no_name_and_no_file_of_a_pod(rich_pods: RichPods, held: Container) -> None:
    """All that is ours below /run and /var/lib: root alone lists a directory, or reads a file that can be reached."""
    root = f"/proc/{rich_pods.node.pid}/root"
    until(lambda: list(Path(root, "run/pouchrich/poststop").glob("*/*")), "what is held for the hook")
    open_to_all, seen = [], set()

    def look(directory: str, *, passable: bool) -> None:
        mode = os.stat(directory).st_mode
        seen.add(directory.removeprefix(root))
        if passable and mode & 0o044:
            open_to_all.append(f"{stat.filemode(mode)} {directory}")
        for entry in os.scandir(directory):
            mode = entry.stat(follow_symlinks=False).st_mode
            if entry.is_dir(follow_symlinks=False):
                look(entry.path, passable=passable and bool(os.stat(directory).st_mode & 0o011))
            elif passable and os.stat(directory).st_mode & 0o011 and mode & (REACHED.get(stat.S_IFMT(mode), 0)):
                open_to_all.append(f"{stat.filemode(mode)} {entry.path}")

    for top in ("/run/pouchrich", "/var/lib/pouchrich"):
        look(root + top, passable=True)
    assert open_to_all == []
    assert f"/run/pouchrich/containers/k8s.io/{held.id}" in seen
    assert "swordfish" in (rich_pods.node.run_directory(held.id) / "env").read_text()

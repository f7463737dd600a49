"""What root in a container, or the author of an image or a pod, might try against the shim and the node."""

import contextlib
import json
import os
import random
import stat
import time
from pathlib import Path

import pytest

from tests.cri.client import CallFailed
from tests.cri.gen import runtime_pb2 as pb
from tests.integration import processes, rich_images
from tests.integration.images import Entry
from tests.integration.pods import Container, Pods
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, security
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_dumb_init import refused
from tests.integration.test_rich_systemd import ONE_SHOT, failed_start
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD, BUSYBOX = System("systemd"), System("busybox")
HOST_NETWORK = pb.NamespaceOption(network=pb.NamespaceMode.NODE, pid=pb.NamespaceMode.CONTAINER)

CONNECT = """
use strict; use Socket; use POSIX ":sys_wait_h";
open(my $log, '>', '/var/log/attack'); select($log); $| = 1;
for my $round (1 .. 20) {
    socket(my $socket, PF_UNIX, SOCK_STREAM, 0);
    unless (connect($socket, sockaddr_un('/run/pouchrich/app.sock'))) { print "connect: $!\\n"; next }
    print "connected\\n";
    my $ready = ''; vec($ready, fileno($socket), 1) = 1;
    my $seen = select($ready, undef, undef, 0.5);
    my $count = $seen ? sysread($socket, my $byte, 1) : -1;
    print defined $count ? "read $count\\n" : "read: $!\\n";
}
print "end\\n";
"""


def image_with_attack(rich_pods: RichPods, name: str, program: str) -> str:
    """An image with a service that runs `program`, of Perl, as root before the application is started."""
    unit = ONE_SHOT.format(more="Before=pouchrich-app.service basic.target", command="/usr/bin/perl /attack")
    entries = [
        Entry("attack", program.encode()),
        Entry("etc/systemd/system/attack.service", unit.encode(), mode=0o644),
        Entry("etc/systemd/system/sysinit.target.d/attack.conf", b"[Unit]\nWants=attack.service\n", mode=0o644),
    ]
    return rich_images.import_variant(rich_pods.node, SYSTEMD, name, entries)


# The launcher's socket and what is below /run/pouchrich


@everywhere
def test_who_connects_first_to_the_launchers_socket_gets_nothing(rich_pods: RichPods) -> None:
    """Root in the container, in its cgroup and pid namespace: all is right but the program."""
    image = image_with_attack(rich_pods, "attack-connect", CONNECT)
    container = running(rich_pods.run(image, "sh", "-c", f"trap 'exit 42' TERM; {FOREVER}"))
    said = container.shell("cat /var/log/attack").splitlines()
    assert said[-1] == "end"
    assert "connected" in said, "the attack never got as far as the socket"
    assert {line for line in said if line.startswith("read")} <= {"read 0", "read: Connection reset by peer"}
    container.stop(grace_s=20)
    assert container.status().exit_code == 42


def test_connections_that_are_left_open_do_not_keep_the_launcher_out(rich_pods: RichPods) -> None:
    program = """
use Socket; my @kept;
for (1 .. 60) {
    socket(my $socket, PF_UNIX, SOCK_STREAM, 0);
    last unless connect($socket, sockaddr_un('/run/pouchrich/app.sock'));
    push @kept, $socket;
}
open(my $log, '>', '/var/log/attack'); print $log scalar(@kept), "\\n"; close $log;
exit 0 if fork; sleep 300;
"""
    image = image_with_attack(rich_pods, "attack-keep", program)
    container = running(rich_pods.run(image, "sh", "-c", f"trap 'exit 42' TERM; {FOREVER}"))
    assert int(container.shell("cat /var/log/attack")) > 0
    container.stop(grace_s=20)
    assert container.status().exit_code == 42


def test_connectors_that_die_at_once_are_not_taken_for_the_launcher(rich_pods: RichPods) -> None:
    """Their pids are free again by the time somebody looks at them, and may be the launcher's."""
    program = """
use Socket;
for (1 .. 80) {
    if (my $pid = fork) { waitpid($pid, 0); next }
    socket(my $socket, PF_UNIX, SOCK_STREAM, 0);
    connect($socket, sockaddr_un('/run/pouchrich/app.sock'));
    kill 9, $$;
}
"""
    image = image_with_attack(rich_pods, "attack-die", program)
    container = running(rich_pods.run(image, "sh", "-c", f"echo ready; echo $PPID; trap 'exit 42' TERM; {FOREVER}"))
    until(lambda: container.output().startswith(b"ready\n1\n"), "its parent to be PID 1")
    container.stop(grace_s=20)
    assert container.status().exit_code == 42


TRIES = {
    "write": "echo x >/run/pouchrich/launch",
    "append": "echo x >>/run/pouchrich/pouchrich-app.service",
    "create": "touch /run/pouchrich/new",
    "remove": "rm -f /run/pouchrich/launch",
    "rename": "mv /run/pouchrich/launch /run/pouchrich/old",
    "link": "ln -sf /bin/sh /run/pouchrich/launch",
    "mode": "chmod 777 /run/pouchrich/launch",
    "owner": "chown 1000 /run/pouchrich",
    "socket": "rm -f /run/pouchrich/app.sock; ln -s /tmp/x /run/pouchrich/app.sock",
    "move": "mv /run/pouchrich /run/elsewhere",
    "away": "rm -rf /run/pouchrich",
    "mount": "mount -t tmpfs none /run/pouchrich",
    "unmount": "umount -l /run/pouchrich",
    "unit": "echo x >/run/systemd/system/pouchrich-app.service",
}


@everywhere
def test_nothing_below_run_pouchrich_can_be_changed(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", f"trap 'exit 42' TERM; {FOREVER}"))
    before = container.shell("ls -lnR /run/pouchrich; sha256sum /run/pouchrich/launch")
    succeeded = [name for name, script in TRIES.items() if container.exec("sh", "-c", script).exit_code == 0]
    assert succeeded == []
    assert container.shell("ls -lnR /run/pouchrich; sha256sum /run/pouchrich/launch") == before
    container.stop(grace_s=20)
    assert container.status().exit_code == 42


def test_the_launcher_run_by_somebody_else_does_nothing(rich_pods: RichPods) -> None:
    """Its settings are gone once the application runs, and so is the socket."""
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER))
    answer = container.exec("/run/pouchrich/launch", "app", timeout_s=10)
    assert answer.exit_code != 0
    assert container.exec("cat", "/run/pouchrich/app").exit_code != 0
    assert container.exec("ls", "/run/pouchrich/app.sock").exit_code != 0


def test_another_user_of_the_container_cannot_read_how_the_application_is_started(rich_pods: RichPods) -> None:
    command = "setpriv --reuid 1000 --regid 1000 --clear-groups cat /run/pouchrich/app /run/pouchrich/env"
    program = f"system('{command} >/var/log/seen 2>&1');"
    image = image_with_attack(rich_pods, "attack-read", program)
    secret = pb.ContainerConfig(envs=[pb.KeyValue(key="SECRET", value="swordfish")])
    container = running(rich_pods.run(image, "sh", "-c", FOREVER, config=secret))
    seen = container.shell("cat /var/log/seen")
    assert "Permission denied" in seen
    assert "swordfish" not in seen
    assert "swordfish" not in container.shell("tr '\\0' '\\n' </proc/1/environ")


def test_root_in_the_container_can_end_it_by_the_halt_socket_and_no_more(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(System("sysvinit"), "sh", "-c", FOREVER))
    container.exec("/run/pouchrich/launch", "halt")
    assert container.wait(timeout_s=10).exit_code == 137


# Images


OUTSIDE = "../" * 12


def hostile(rich_pods: RichPods, name: str, base: System, *entries: Entry) -> tuple[str, Path]:
    """An image on top of `base`, and a directory of the node that its symbolic links lead to."""
    target = rich_pods.node.base / "outside"
    target.mkdir(exist_ok=True)
    target.chmod(0o777)
    return rich_images.import_variant(rich_pods.node, base, name, entries), target


LINKS = {
    "systemd": ["run", "etc/profile.d", "sbin/init", "var", "etc/systemd"],
    "sbin-init": ["sbin/init", "etc/inittab", "run"],
    "dumb-init": ["etc/profile.d", "run"],
}


def untouched(target: Path) -> bool:
    return not list(target.iterdir())


@pytest.mark.parametrize(("mode", "link"), [(mode, link) for mode in LINKS for link in LINKS[mode]])
def test_symbolic_links_of_the_image_lead_nowhere_outside_its_root(rich_pods: RichPods, mode: str, link: str) -> None:
    """Whether such an image is refused, gets dumb-init or works: nothing happens outside."""
    outside = rich_pods.node.base / "outside"
    leads = f"{OUTSIDE}{outside}".replace("//", "/")
    base = BUSYBOX if mode == "sbin-init" else SYSTEMD
    image, target = hostile(rich_pods, f"hostile-{base}-{link.replace('/', '-')}", base, Entry(link, link=leads))
    pod = rich_pods.pod(mode, rich='start-timeout = "5s"')
    container = rich_pods.create(pod, image, "sh", "-c", "sleep 0.2")
    before = set(Path("/etc").iterdir())
    with contextlib.suppress(CallFailed):
        container.start().wait()
    assert untouched(target)
    assert set(Path("/etc").iterdir()) == before


def test_a_run_that_leads_out_of_the_root_is_no_place_for_a_real_init(rich_pods: RichPods) -> None:
    image, target = hostile(rich_pods, "hostile-run", SYSTEMD, Entry("run", link=f"{OUTSIDE}tmp"))
    about = {"pouchrich.io/mode.app": "systemd"}
    message = refused(rich_pods.create(rich_pods.pod("", annotations=about), image, "true"))
    assert all(word in message for word in ("/run", "symbolic link", "dumb-init")), message
    assert untouched(target)


ROOT = b"root:x:0:0:root:/root:/bin/sh\n"
PASSWD = {
    "huge": ROOT + b"x" * 60_000 + b"\n" + b"y:x:1:1:::\n" * 200_000,
    # Without colons, of which runc makes fields. The same each time, and no "+" or "-" first: see CRUN_REFUSES.
    "binary": b"\xff" + random.Random(9).randbytes(4096).replace(b"\n", b"").replace(b":", b"") + b"\n" + ROOT,
    "wrong": b"root:x:not-a-number:-1:::\nroot:x:99999999999999999999:0:::\n::::::\nroot\n",
    "compat": b"-nobody\n" + ROOT,
    "nss": b"+::::::\n" + ROOT,
}
REFUSED = {"huge": "/etc/passwd in the container: found more than", "wrong": "root"}
CRUN_REFUSES = {"compat": "read from the init process"}
"""crun's init reads such a line by fgetpwent(3), which leaves pw_dir NULL, and ends: by containerd's own shim, too."""


@pytest.mark.parametrize("kind", list(PASSWD))
def test_a_hostile_passwd_neither_hangs_nor_crashes_the_shim(rich_pods: RichPods, kind: str) -> None:
    """A hook's user is looked up in it."""
    entries = [Entry("etc/passwd", PASSWD[kind], mode=0o644)]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, f"passwd-{kind}", entries)
    more = '[[hooks.prestart]]\nname = "who"\nwhere = "container"\nuser = "root"\ncommand = ["/usr/bin/id", "-u"]\n'
    container = rich_pods.create(rich_pods.pod("dumb-init", more=more), image, "true")
    began = time.monotonic()
    refused_with = REFUSED | (CRUN_REFUSES if rich_pods.node.oci.name == "crun" else {})
    if kind in refused_with:
        message = failed_start(container)
        assert refused_with[kind] in message, message
    else:
        assert container.start().wait().exit_code == 0
    assert time.monotonic() - began < 10
    assert rich_pods.node.shims()


def test_a_passwd_that_is_a_fifo_or_a_link_outside_holds_nothing_up(rich_pods: RichPods) -> None:
    image, _ = hostile(rich_pods, "passwd-link", SYSTEMD, Entry("etc/passwd", link=f"{OUTSIDE}etc/shadow"))
    more = '[[hooks.prestart]]\nname = "who"\nwhere = "container"\nuser = "daemon"\ncommand = ["/usr/bin/id", "-u"]\n'
    message = failed_start(rich_pods.create(rich_pods.pod("dumb-init", more=more), image, "true"))
    assert "daemon" in message, message


# Pods


def volume(rich_pods: RichPods, at: str) -> pb.ContainerConfig:
    """A mount of a directory of the node at `at`."""
    directory = rich_pods.node.base / "volume"
    directory.mkdir(exist_ok=True)
    return pb.ContainerConfig(mounts=[pb.Mount(container_path=at, host_path=str(directory))])


@pytest.mark.parametrize("at", ["/run", "/run/systemd", "/run/pouchrich", "/sys/fs/cgroup", "/var/run/pouchrich"])
def test_a_pods_mount_where_the_inits_own_are_is_refused(rich_pods: RichPods, at: str) -> None:
    message = refused(rich_pods.create(rich_pods.pod(), SYSTEMD, "true", config=volume(rich_pods, at)))
    assert f"mounts[{at}]" in message, message


def test_a_pods_mount_over_the_inittab_is_refused(rich_pods: RichPods) -> None:
    config = volume(rich_pods, "/etc")
    message = refused(rich_pods.create(rich_pods.pod("sbin-init"), System("sysvinit"), "true", config=config))
    assert "/etc" in message, message


def test_a_pods_secret_below_run_stays(rich_pods: RichPods) -> None:
    config = volume(rich_pods, "/run/secrets/mine")
    (rich_pods.node.base / "volume/token").write_text("swordfish")
    container = rich_pods.create(rich_pods.pod(), SYSTEMD, "cat", "/run/secrets/mine/token", config=config).start()
    assert container.wait().exit_code == 0
    container.wait_output(b"swordfish")


STEERING = ["run.oci.hooks.stdout", "run.oci.keep_original_groups", "org.criu.config", "org.systemd.property.TasksMax"]


@pytest.mark.parametrize("name", STEERING)
@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_annotations_that_steer_the_oci_runtime_are_refused(rich_pods: RichPods, mode: str, name: str) -> None:
    """A container's own annotations, which containerd passes on where the handler lists them."""
    config = pb.ContainerConfig(annotations={name: "1"})
    message = refused(rich_pods.create(rich_pods.pod(mode), SYSTEMD, "true", config=config))
    assert name in message, message
    assert "rich.runtime-annotations" in message, message


def test_the_node_may_allow_such_an_annotation(rich_pods: RichPods) -> None:
    config = pb.ContainerConfig(annotations={"run.oci.handler.test": "1"})
    pod = rich_pods.pod("dumb-init", rich='runtime-annotations = ["run.oci.handler.*"]')
    message = ""
    try:
        rich_pods.create(pod, SYSTEMD, "true", config=config).start()
    except CallFailed as error:  # the OCI runtime may know no such handler
        message = error.message
    assert "runtime-annotations" not in message


ROUTES = '[[routes]]\nto = "198.51.100.0/24"\nvia = "%s"\n'


def routes_of(pid: int) -> str:
    return Path(f"/proc/{pid}/net/route").read_text()


@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_routes_are_set_in_the_pods_network_and_again_without_complaint(rich_pods: RichPods, mode: str) -> None:
    pod = rich_pods.pod(mode, more=ROUTES % "10.222.0.1")
    for name in ("first", "second"):
        container = rich_pods.create(pod, SYSTEMD, "sleep", "300", name=name).start()
        assert routes_of(container.pid()).count("\n") == routes_of(pod.pid()).count("\n")
        assert "006433C6" in routes_of(container.pid())
    assert "006433C6" not in routes_of(os.getpid())


@everywhere
def test_in_the_hosts_network_no_route_is_touched(rich_pods: RichPods) -> None:
    before = routes_of(os.getpid())
    pod = rich_pods.pod("dumb-init", more=ROUTES % "127.0.0.1", namespaces=HOST_NETWORK)
    container = rich_pods.create(pod, SYSTEMD, "sleep", "300").start()
    assert os.readlink(f"/proc/{container.pid()}/ns/net") == os.readlink("/proc/self/ns/net")
    assert routes_of(os.getpid()) == before
    assert "skipped" in rich_pods.node.log.read_text(errors="replace")


# What a container cannot see or reach of the node


def test_no_descriptor_of_the_shims_is_in_the_container(rich_pods: RichPods) -> None:
    """PID 1 and the application hold their own streams and nothing else when they begin."""
    container = rich_pods.run(SYSTEMD, "sh", "-c", "ls -l /proc/self/fd; sleep 300")
    until(lambda: b"total" in container.output(), "the list")
    time.sleep(0.1)
    listed = [line.split(" -> ") for line in container.output().decode().splitlines() if " -> " in line]
    numbers = {words[0].split()[-1] for words in listed}
    assert numbers == {"0", "1", "2", "3"}, listed  # 3 is ls's own
    for pid in processes.descendants(container.pid()):
        links = list(Path(f"/proc/{pid}/fd").iterdir()) if _alive(pid) else []
        targets = [_target(link) for link in links if link.name not in ("0", "1", "2")]
        assert not [one for one in targets if "/containers/" in one or one.startswith("/tmp/pouchrich-")], targets


@pytest.mark.parametrize("mode", ["dumb-init", "systemd"])
def test_no_process_has_the_nodes_dev_null(rich_pods: RichPods, mode: str) -> None:
    """Root in the container may change its mode, and no user of the node could open it any more."""
    look = "stat -Lc '%d %t:%T' /proc/self/fd/0; readlink /proc/self/fd/0"
    container = rich_pods.create(rich_pods.pod(mode), SYSTEMD, "sh", "-c", f"{look}; sleep 300").start()
    until(lambda: container.output().count(b"\n") == 2, "the application's look")
    for looked in (container.output().decode(), container.shell(look)):
        device, kind, name = looked.split()
        assert (kind, name) == ("1:3", "/dev/null")
        assert int(device) != os.stat("/dev/null").st_dev


def _alive(pid: int) -> bool:
    return Path(f"/proc/{pid}/fd").exists()


def _target(link: Path) -> str:
    try:
        return os.readlink(link)
    except OSError:
        return ""


def test_the_run_directory_of_one_container_is_not_seen_by_another(rich_pods: RichPods) -> None:
    pod = rich_pods.pod()
    first = running(rich_pods.create(pod, SYSTEMD, "sh", "-c", FOREVER, name="first").start())
    second = running(rich_pods.create(pod, SYSTEMD, "sh", "-c", FOREVER, name="second").start())
    for one, other in ((first, second), (second, first)):
        seen = one.shell("cat /proc/self/mountinfo; find /run/pouchrich")
        assert other.id not in seen


def test_no_capability_is_wider_than_in_a_plain_container_and_nothing_is_privileged(rich_pods: RichPods) -> None:
    config = security(drop=["NET_RAW"])
    plain = rich_pods.create(rich_pods.pod("", rich="enabled = false"), SYSTEMD, "sleep", "300", config=config).start()
    rich = rich_pods.run(SYSTEMD, "sleep", "300", config=config)
    (allowed,) = _bounding(plain)
    assert allowed in _bounding(rich)
    assert not [kept for kept in _bounding(rich) if kept & ~allowed]


def _bounding(container: Container) -> set[int]:
    """The bounding sets of all that runs in the container."""
    pids = [container.pid(), *processes.descendants(container.pid())]
    return {int(line.split()[1], 16) for pid in pids for line in _status(pid) if line.startswith("CapBnd")}


def _status(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:  # it has ended
        return []


def test_the_records_of_a_container_are_readable_by_root_alone(rich_pods: RichPods) -> None:
    secret = pb.ContainerConfig(envs=[pb.KeyValue(key="SECRET", value="swordfish")])
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER, config=secret))
    bundle = rich_pods.node.bundle_of(container.id)
    found = []
    kept = rich_pods.node.run_directory(container.id)
    assert "SECRET" in (kept / "env").read_text()
    for top in (bundle, kept):
        for path in top.iterdir():
            if path.is_file() and not path.is_symlink() and b"swordfish" in path.read_bytes():
                found.append(path.name)
                mode = stat.S_IMODE(path.stat().st_mode)
                assert mode & 0o007 == 0, f"{path}: {mode:o}"
    assert found


def test_huge_and_broken_annotations_are_refused_with_a_short_word(rich_pods: RichPods) -> None:
    for value, what in (
        ("[" * 60_000, "a JSON list"),
        (json.dumps([{"name": "x", "command": ["x" * 70_000]}]), "bytes"),
        ('[{"name": "a", "name": "b", "command": ["x"]}]', "twice"),
        (json.dumps([{"name": f"n{number}", "command": ["x"]} for number in range(17)]), "17 hooks"),
        (json.dumps([{"name": "x", "where": "host", "command": ["x"]}]), "container"),
        (json.dumps([{"name": "x", "user": "root", "command": ["x"]}]), "user"),
        (json.dumps([{"name": "../x", "command": ["x"]}]), "name"),
        ('[{"name": "x", "command": ["a\\u0000b"]}]', "command"),
    ):
        pod = rich_pods.pod(annotations={"pouchrich.io/prestart": value})
        message = refused(rich_pods.create(pod, SYSTEMD, "true"))
        assert "pouchrich.io/prestart" in message
        assert what in message, (value[:40], message)
        assert len(message) < 1500
        pod.remove()


def test_sandboxes_never_run_anything_of_the_pods(pods: Pods) -> None:
    about = {"pouchrich.io/mode": "systemd", "pouchrich.io/init-script": "/bin/false", "pouchrich.io/services": "x"}
    pod = pods.run(handler="pouchrich-rich", annotations=about)
    until(lambda: processes.command(pod.pid()) == "/pause", "the sandbox to be plain")

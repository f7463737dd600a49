"""What mode sbin-init has of its own: which init it finds, its scripts, and the way to its end."""

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import processes, rich_images, rpm_sysvinit
from tests.integration.images import Entry
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, security
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_dumb_init import refused
from tests.integration.test_rich_hooks import Hooked, hook
from tests.integration.test_rich_systemd import INIT_CAPABILITIES
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

LOOP = "while :; do sleep 0.1; done"
SYSVINIT, OPENRC, BUSYBOX = System("sysvinit"), System("openrc"), System("busybox")


def stopped(container: Container) -> int:
    """Its exit code, after a stop that need not wait for stop-timeout."""
    container.stop(grace_s=30)
    return container.status().exit_code


def test_mode_sbin_init_of_an_image_with_systemd_is_systemd(rich_pods: RichPods) -> None:
    pod = rich_pods.pod("sbin-init")
    container = rich_pods.create(pod, System("systemd"), "sh", "-c", f"trap 'exit 42' TERM; {FOREVER}").start()
    running(container)
    assert container.shell("cat /proc/1/comm") == "systemd\n"
    assert b"rich_mode_launch_manner=sbin-init" in container.exec("cat", f"/proc/{pid_of(container)}/environ").stdout
    assert stopped(container) == 42


def pid_of(container: Container) -> str:
    """The application's pid in the container, as systemd knows it."""
    return container.shell("systemctl show -p MainPID --value pouchrich-app").strip()


@everywhere
@pytest.mark.parametrize("system", [SYSVINIT, pytest.param(OPENRC, marks=pytest.mark.full)], ids=["sysvinit", "openrc"])
@pytest.mark.parametrize("can_halt", [False, True])
def test_the_scripts_of_its_runlevel_ran_and_cron_beside_the_application(
    rich_pods: RichPods, system: System, can_halt: bool
) -> None:
    entries = [Entry("etc/cron.d/at-boot", b"@reboot root id -un >/var/log/cron-ran\n", mode=0o644)]
    image = rich_images.import_variant(rich_pods.node, system, f"{system}-cron", entries)
    config = security(add=["SYS_BOOT"] if can_halt else [])
    pod = rich_pods.pod("sbin-init", rich='stop-timeout = "25s"')
    command = ("sh", "-c", f"trap 'exit 42' TERM; {FOREVER}")
    container = running(rich_pods.create(pod, image, *command, config=config).start())
    until(lambda: container.exec("cat", "/var/log/cron-ran").stdout == b"root\n", "cron to have run its job")
    assert stopped(container) == 42
    status = container.status()
    assert (status.finished_at - status.started_at) / 1e9 < 20, "init did not end by itself"


def test_stop_scripts_neither_unmount_a_volume_by_force_nor_make_a_file_system_read_only(rich_pods: RichPods) -> None:
    """Also where the pod has CAP_SYS_ADMIN: a hook in the container still finds its root filesystem as it was.

    Not with OpenRC, which would mount a cgroup hierarchy of its own, for the whole machine.
    """
    hooked = Hooked(rich_pods)
    script = "cat >/dev/null; touch /written && echo written >>/shared/container"
    command = ("sh", "-c", f"trap 'exit 42' TERM; {FOREVER}")
    more = hook("poststop", "container", script)
    config = security(add=["SYS_ADMIN"])
    container = running(hooked.create("sbin-init", *command, image=SYSVINIT, config=config, more=more).start())
    assert int(container.shell("grep CapBnd /proc/1/status").split()[1], 16) >> 21 & 1
    assert stopped(container) == 42
    until(lambda: hooked.lines("container") == ["written"], "the hook to have written to both")


@pytest.mark.parametrize("system", [SYSVINIT, pytest.param(OPENRC, marks=pytest.mark.full)], ids=["sysvinit", "openrc"])
def test_a_boot_leaves_what_is_in_tmp(rich_pods: RichPods, system: System) -> None:
    """Debian's bootclean empties /tmp, which comes after prestart hooks, and may be a volume of the pod."""
    config = pb.ContainerConfig(working_dir="/tmp/work")
    prestart = hook("prestart", "container", "cat >/dev/null; echo hook >/tmp/left")
    pod = rich_pods.pod("sbin-init", more=prestart)
    container = rich_pods.create(pod, system, "sh", "-c", "cat /tmp/left; pwd", config=config).start()
    assert container.wait().exit_code == 0
    container.wait_output(b"hook\n/tmp/work\n")


def test_busybox_runs_its_own_script_before_the_application(rich_pods: RichPods) -> None:
    script = b"#!/bin/sh\nmkdir -p /var && echo rcS >/var/order\n"
    image = rich_images.import_variant(
        rich_pods.node, BUSYBOX, "busybox-rcs", [Entry("etc/init.d/rcS", script, mode=0o755)]
    )
    container = rich_pods.create(rich_pods.pod("sbin-init"), image, "cat", "/var/order").start()
    assert container.wait().exit_code == 0
    container.wait_output(b"rcS\n")


def test_a_service_is_started_by_its_script_before_the_application(rich_pods: RichPods) -> None:
    script = b'#!/bin/sh\n# chkconfig: - 99 1\n[ "$1" != start ] || touch /var/slow-is-up\n'
    image = rich_images.import_variant(
        rich_pods.node, SYSVINIT, "sysvinit-slow", [Entry("etc/init.d/slow", script, mode=0o755)]
    )
    pod = rich_pods.pod("sbin-init", more='[services]\nenable = ["slow"]')
    container = rich_pods.create(pod, image, "test", "-e", "/var/slow-is-up").start()
    assert container.wait().exit_code == 0


@pytest.mark.parametrize(
    "system", [SYSVINIT, *(pytest.param(one, marks=pytest.mark.full) for one in (OPENRC, BUSYBOX))], ids=str
)
def test_where_the_pod_dropped_all_the_node_may_give_init_what_it_needs_and_the_application_has_none_of_it(
    rich_pods: RichPods, system: System
) -> None:
    config = security(uid=1000, drop=["ALL"], no_new_privs=True)
    message = refused(rich_pods.create(rich_pods.pod("sbin-init"), system, "true", config=config))
    assert all(word in message for word in ("CAP_SETUID", "rich.init-capabilities")), message
    command = ("grep", "-E", "^(Cap|NoNewPrivs|Uid)", "/proc/self/status")
    container = rich_pods.run(system, *command, config=config, rich=INIT_CAPABILITIES)
    assert container.wait().exit_code == 0
    none = "".join(f"Cap{name}:\t{0:016x}\n" for name in ("Inh", "Prm", "Eff", "Bnd", "Amb"))
    container.wait_output(f"Uid:\t1000\t1000\t1000\t1000\n{none}NoNewPrivs:\t1\n".encode())


# sysvinit as the RPM distributions set it up


@everywhere
@pytest.mark.parametrize("can_halt", [False, True])
def test_the_scripts_of_an_rpm_distribution_run_before_and_after_the_application(
    rich_pods: RichPods, can_halt: bool
) -> None:
    hooked = Hooked(rich_pods)
    config = security(add=["SYS_BOOT"] if can_halt else [])
    command = ("sh", "-c", f"trap 'echo app >>/shared/order; exit 42' TERM; echo ready; echo $PPID; {LOOP}")
    image = rpm_sysvinit.image(rich_pods.node)
    container = running(
        hooked.create("sbin-init", *command, image=image, config=config, rich='stop-timeout = "25s"').start()
    )
    container.wait_output(b"ready\n1\n")
    assert container.shell("cat /proc/1/comm; runlevel") == "init\nN 3\n"
    assert "getty" not in " ".join(map(processes.command, processes.descendants(container.pid())))
    assert hooked.lines("order") == ["sysinit", "rc 3", "legacyd start"]
    assert stopped(container) == 42
    assert hooked.lines("order")[3:] == ["app", "rc 0", "legacyd stop", "halt start"]
    status = container.status()
    assert (status.finished_at - status.started_at) / 1e9 < 20, "init did not end by itself"


@pytest.mark.parametrize(("script", "code"), [("exit 7", 7), ("kill -KILL $$", 137)])
def test_the_exit_code_under_an_rpm_distributions_init_is_the_commands(
    rich_pods: RichPods, script: str, code: int
) -> None:
    hooked = Hooked(rich_pods)
    more = '[services]\nenable = ["extra"]'
    command = ("sh", "-c", f"test -e /var/extra-is-up && {script}")
    image = rpm_sysvinit.image(rich_pods.node)
    container = hooked.create("sbin-init", *command, image=image, more=more).start()
    assert container.wait().exit_code == code
    assert hooked.lines("order")[-1] == "halt start"


@pytest.mark.parametrize("own", [True, False])
def test_an_image_with_another_init_is_refused_or_gets_dumb_init(rich_pods: RichPods, own: bool) -> None:
    entries = [Entry("sbin/init", b"#!/bin/sh\nexec sleep 1000\n")]
    image = rich_images.import_variant(rich_pods.node, BUSYBOX, "own-init", entries)
    about = {"pouchrich.io/mode.app": "sbin-init"} if own else {"pouchrich.io/mode": "sbin-init"}
    container = rich_pods.create(rich_pods.pod("", annotations=about), image, "cat", "/proc/1/comm")
    if own:
        message = refused(container)
        assert all(word in message for word in ("mode.app", "/sbin/init", "dumb-init")), message
    else:
        assert container.start().wait().exit_code == 0
        container.wait_output(b"dumb-init\n")


@pytest.mark.parametrize(
    "system", [pytest.param(SYSVINIT, marks=pytest.mark.full), BUSYBOX], ids=["sysvinit", "busybox"]
)
def test_the_images_command_may_be_the_init_itself(rich_pods: RichPods, system: System) -> None:
    """Then it is stopped in its language; what it cannot do without CAP_SYS_BOOT, the end of the grace period does."""
    container = rich_pods.run(system, "/sbin/init")
    assert container.shell("cat /proc/1/comm") == "init\n"
    assert container.exec("ls", "/run/pouchrich/app.sock").exit_code != 0
    container.stop(grace_s=5)
    assert container.status().exit_code in (0, 129, 130, 137)


def test_mode_auto_takes_systemd_where_there_is_one(rich_pods: RichPods) -> None:
    for system, name in ((System("systemd"), b"systemd\n"), (SYSVINIT, b"dumb-init\n")):
        container = rich_pods.create(rich_pods.pod("auto"), system, "cat", "/proc/1/comm").start()
        assert container.wait().exit_code == 0
        container.wait_output(name)

"""Real inits as PID 1, by the plan alone: hand-made bundles, no shim, root file systems of Debian packages.

Each runs in a mount namespace of its own, in which the host's hierarchies can be made to look like another kind of
host: crun with the v2 tree hidden sees cgroup v1, with v1 hidden cgroup v2; runc takes the host as it is.
"""

import os
import shutil
from pathlib import Path

import pytest

from runtime import host
from runtime.linux import syscalls
from tests.root import rootfs_images
from tests.root.oci_bundle import DEFAULT_CAPABILITIES, cgroups_of, running, spec

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

PARENT = f"/pouchmodes-{os.getpid()}"
TOP = "/sys/fs/cgroup"


def _look_like(form):
    """Make the cgroups of a hybrid host look like those of another kind of host, in this mount namespace."""
    if form == "v1":
        syscalls.umount2(f"{TOP}/unified", syscalls.MNT_DETACH)
    if form == "unified":
        syscalls.mount(f"{TOP}/unified", TOP, None, syscalls.MS_BIND)


@pytest.fixture
def boots(isolated, tmp_path):
    """Run a check on a container made in its own mount namespace; no cgroup is left behind."""

    def run(runtime, form, lower, before, check, **options):
        if shutil.which(runtime) is None:
            pytest.skip(f"{runtime} is not installed")
        own = host.read().cgroups
        if own != "hybrid" and own != form:
            pytest.skip(f"the host's cgroups are {own}, and only a hybrid host can look like another")

        def action():
            if own == "hybrid":
                _look_like(form)
            with running(runtime, tmp_path / "c", lower, before, **options) as container:
                check(container)

        try:
            isolated(action)
        finally:
            for directory in cgroups_of(PARENT):
                os.rmdir(directory)

    return run


@pytest.fixture
def systemd():
    return rootfs_images.debian("systemd")


def cgroup(name):
    return f"{PARENT}/{name}"


def asks(mode):
    return {"pouchrich.io/mode": mode}


def ends(container, *, saying=""):
    """Have an orderly end, whose last words may still be on their way from the console when PID 1 has gone."""
    assert container.poweroff(), container.console.decode(errors="replace")[-2000:]
    assert saying in container.until_console(saying)


def systemd_runs(container):
    said = container.until("systemctl", "is-system-running", says=("running", "degraded"))
    assert said == "running", (
        container.exec("systemctl", "--failed") + container.console.decode(errors="replace")[-2000:]
    )
    shown = container.exec("systemctl", "show", "-p", "LoadState,ActiveState,TasksMax", "pouchrich-app.service")
    assert set(shown.split()) == {"LoadState=loaded", "ActiveState=active", "TasksMax=infinity"}
    main = container.exec("systemctl", "show", "-p", "MainPID", "--value", "pouchrich-app.service")
    assert container.exec("ps", "-o", "ppid=,args=", "-p", main).split() == ["1", "/run/pouchrich/launch", "app"]


def privilege_of(container):
    """The lines of PID 1's status that tell what it may do."""
    lines = (line.split() for line in Path(f"/proc/{container.pid}/status").read_text().splitlines())
    return {words[0]: words[1:] for words in lines if words[0].startswith(("Cap", "Uid", "NoNew"))}


@pytest.mark.parametrize(("runtime", "form"), [("crun", "v1"), ("crun", "unified"), ("runc", "hybrid")])
def test_systemd_boots_to_running_without_privilege(boots, systemd, runtime, form):
    def check(container):
        systemd_runs(container)
        privilege = privilege_of(container)
        assert privilege["CapBnd:"] == privilege["CapEff:"] == privilege["CapPrm:"] == ["00000000a80425fb"]
        assert privilege["CapInh:"] == privilege["CapAmb:"] == ["0000000000000000"]
        environment = Path(f"/proc/{container.pid}/environ").read_bytes()
        assert b"container=pouch\0" in environment
        assert b"SECRET" not in environment
        assert {"cron", "rsyslogd"} <= set(container.exec("ps", "-eo", "comm=").split())
        assert container.exec("systemctl", "is-enabled", "systemd-networkd.service") in ("masked", "masked-runtime")
        ends(container, saying="Powering off")

    boots(runtime, form, systemd, spec(cgroup=cgroup("boot"), annotations=asks("systemd")), check)


@pytest.mark.full
@pytest.mark.parametrize("suite", ["bullseye", "trixie", "sid"])
@pytest.mark.parametrize(("runtime", "form"), [("crun", "v1"), ("crun", "unified"), ("runc", "hybrid")])
def test_older_and_newer_systemd_boot_too(boots, runtime, form, suite):
    before = spec(cgroup=cgroup(suite), annotations=asks("systemd"))
    boots(runtime, form, rootfs_images.debian("systemd", suite), before, systemd_runs)


@pytest.mark.parametrize(("runtime", "form"), [("crun", "v1"), ("runc", "hybrid")])
def test_no_limit_can_be_raised_from_inside(boots, systemd, runtime, form):
    def check(container):
        container.until("systemctl", "is-system-running", says=("running", "degraded"))
        options = {}
        for line in container.exec("cat", "/proc/mounts").splitlines():
            _, target, kind, words, *_ = line.split()
            if kind in ("cgroup", "cgroup2"):
                options[target] = words.split(",")
        writable = {target for target, words in options.items() if "rw" in words}
        assert writable == {f"{TOP}/systemd"}
        for name in ("memory.limit_in_bytes", "memory.max", "pids.max", "cpu.max"):
            found = container.exec("find", TOP, "-name", name, "-writable").split()
            assert all(
                "ro" in options[max((top for top in options if path.startswith(top)), key=len)] for path in found
            )

    boots(runtime, form, systemd, spec(cgroup=cgroup("limits"), annotations=asks("systemd")), check)


def test_without_nsdelegate_the_limits_stay_on_a_cgroup_above(boots, systemd):
    def check(container):
        assert container.plan.cgroup.parent == cgroup("above")
        above = Path(f"{TOP}{cgroup('above')}")
        assert [one.name for one in above.iterdir() if one.is_dir()] == ["pouchrich"]
        (above / "cgroup.max.descendants").write_text("500")
        container.until("systemctl", "is-system-running", says=("running", "degraded"))
        assert container.exec("cat", f"{TOP}/cgroup.max.descendants") == "max"
        assert "/.." not in container.exec("cat", "/proc/1/cgroup")

    boots("crun", "unified", systemd, spec(cgroup=cgroup("above"), annotations=asks("systemd")), check)


def test_a_read_only_root_and_the_pods_secrets_below_run(boots, systemd, tmp_path):
    (tmp_path / "token").write_text("secret")
    secret = {"destination": "/var/run/secrets/x", "type": "bind", "source": str(tmp_path), "options": ["bind", "ro"]}

    def check(container):
        systemd_runs(container)
        assert container.exec("cat", "/var/run/secrets/x/token") == "secret"
        assert container._call("exec", container.name, "/bin/touch", "/x").returncode != 0

    boots(
        "runc",
        "hybrid",
        systemd,
        spec(cgroup=cgroup("ro"), annotations=asks("systemd"), readonly=True, mounts=[secret]),
        check,
    )


def test_the_capabilities_that_are_asked_for_are_enough(boots, systemd):
    needed = ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]
    boots(
        "crun",
        "v1",
        systemd,
        spec(cgroup=cgroup("caps"), annotations=asks("systemd"), capabilities=needed),
        systemd_runs,
    )


def test_no_new_privileges_stays(boots, systemd):
    before = spec(cgroup=cgroup("nnp"), annotations=asks("systemd"))
    before["process"]["noNewPrivileges"] = True

    def check(container):
        systemd_runs(container)
        assert privilege_of(container)["NoNewPrivs:"] == ["1"]

    boots("crun", "v1", systemd, before, check)


def test_a_service_of_the_image_is_up_before_the_application(boots, systemd):
    def check(container):
        systemd_runs(container)
        times = [
            int(container.exec("systemctl", "show", "-p", "ActiveEnterTimestampMonotonic", "--value", unit))
            for unit in ("rsyslog.service", "pouchrich-app.service")
        ]
        assert 0 < times[0] <= times[1]

    about = {**asks("systemd"), "pouchrich.io/services": "rsyslog"}
    boots("crun", "v1", systemd, spec(cgroup=cgroup("services"), annotations=about), check)


def test_an_image_whose_command_is_systemd_gets_its_mounts_and_no_unit(boots, systemd):
    def check(container):
        assert container.until("systemctl", "is-system-running", says=("running", "degraded")) == "running"
        state = container.exec("systemctl", "show", "-p", "LoadState", "--value", "pouchrich-app.service")
        assert state == "not-found"
        assert (15, container.plan.boot.poweroff) in container.plan.boot.signals
        assert b"SECRET=x" in Path(f"/proc/{container.pid}/environ").read_bytes()
        ends(container)

    boots("runc", "hybrid", systemd, spec("/sbin/init", cgroup=cgroup("supplied")), check)


@pytest.mark.parametrize("kind", ["sysvinit", "openrc"])
@pytest.mark.parametrize("can_halt", [True, False])
def test_sysvinit_and_openrc_run_their_scripts_and_then_the_application(boots, kind, can_halt):
    def check(container):
        assert container.plan.boot.init == kind
        container.until_console("launcher started by 1 as 0 with app")
        lines = [line.split(None, 2) for line in container.exec("ps", "-eo", "ppid=,pid=,args=").splitlines()]
        commands = {words[2]: words[0] for words in lines}
        assert commands["/run/pouchrich/launch app"] == "1"
        assert "/usr/sbin/cron" in commands
        if can_halt:
            ends(container)
        else:
            assert not container.poweroff(within_s=0.5)
            assert "launcher halt" in container.until_console("launcher halt")

    more = ["CAP_SYS_BOOT"] if can_halt else []
    before = spec(cgroup=cgroup(kind), annotations=asks("sbin-init"), capabilities=[*DEFAULT_CAPABILITIES, *more])
    boots("runc" if can_halt else "crun", "hybrid" if can_halt else "v1", rootfs_images.debian(kind), before, check)


def test_busybox_runs_its_script_and_the_application_and_powers_off(boots, tmp_path):
    def check(container):
        assert container.plan.boot.init == "busybox"
        assert "rcS ran" in container.until_console("launcher started by 1 as 0 with app")
        ends(container)

    lower = rootfs_images.busybox(tmp_path / "busybox")
    boots("crun", "v1", lower, spec(cgroup=cgroup("busybox"), annotations=asks("sbin-init")), check)


def test_sbin_init_that_is_systemd_is_as_mode_systemd(boots, systemd):
    def check(container):
        systemd_runs(container)
        assert (container.plan.mode, container.plan.boot.init) == ("sbin-init", "systemd")

    boots("crun", "v1", systemd, spec(cgroup=cgroup("sbin"), annotations=asks("sbin-init")), check)

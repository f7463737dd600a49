"""runtime.init.sbin_init: inits that read an inittab, and systemd under another name."""

import pytest

from runtime.errors import InvalidArgument
from runtime.init import sbin_init
from runtime.init.detect import InitFacts
from runtime.spec import edit
from tests.unit.init.settings import SYSTEMD, setting

SYSVINIT = InitFacts(kind="sysvinit", present=("/etc/init.d/rc",))


def one_of(init, *points, **more):
    return setting(*points, mode="sbin-init", init=init, **more)


def test_the_steps_in_order():
    assert [step.name for step in sbin_init.make(one_of(SYSVINIT)).steps] == [
        "mount-run",
        "mount-run-lock",
        "mount-inittab",
        "mount-home",
        "process-init",
    ]


@pytest.mark.parametrize(
    ("init", "poweroff", "halts"),
    [
        (SYSVINIT, 30, True),
        (InitFacts(kind="openrc", present=("/sbin/openrc",)), 30, True),
        (InitFacts(kind="busybox"), 12, False),
    ],
)
def test_each_has_its_own_way_to_the_end(init, poweroff, halts):
    boot = sbin_init.make(one_of(init)).boot
    assert (boot.init, boot.poweroff, boot.halts) == (init.kind, poweroff, halts)
    assert [file.name for file in boot.files] == ["inittab"]
    assert "/run/pouchrich/launch app" in boot.files[0].text


def test_pid_1_is_sbin_init_without_arguments():
    one = one_of(SYSVINIT)
    assert edit.args(edit.apply(one.spec, sbin_init.make(one).steps)) == ("/sbin/init",)


def test_systemd_as_sbin_init_is_started_by_that_name_and_has_units():
    one = one_of(SYSTEMD)
    made = sbin_init.make(one)
    assert edit.args(edit.apply(one.spec, made.steps))[0] == "/sbin/init"
    assert made.boot.init == "systemd"
    assert made.boot.files[0].name == "pouchrich-app.service"
    assert "rich_mode_launch_manner=sbin-init" in made.boot.launch.env


def test_services_go_into_a_script_and_never_into_the_inittab():
    files = {file.name: file.text for file in sbin_init.make(one_of(SYSVINIT, services=("cron", "a:b@c"))).boot.files}
    assert files["services"] == "/etc/init.d/cron start\n/etc/init.d/a:b@c start\n"
    assert "cron" not in files["inittab"]
    assert "/bin/sh /run/pouchrich/services" in files["inittab"]


def test_without_start_scripts_of_a_known_kind_there_is_no_room():
    with pytest.raises(InvalidArgument, match="found no start scripts of a known kind"):
        sbin_init.make(one_of(InitFacts(kind="sysvinit")))


@pytest.mark.parametrize("destination", ["/etc", "/etc/inittab"])
def test_a_mount_of_the_pod_over_the_inittab_is_refused(destination):
    with pytest.raises(InvalidArgument, match="allowed none over /etc/inittab in mode sbin-init"):
        sbin_init.make(one_of(SYSVINIT, {"destination": destination, "type": "bind", "source": "/host"}))


def test_an_image_whose_command_is_its_init_keeps_its_inittab():
    made = sbin_init.make(one_of(SYSVINIT, is_own_command=True, args=("/sbin/init", "3")))
    assert "mount-inittab" not in [step.name for step in made.steps]
    assert (made.boot.files, made.boot.launch, made.boot.halts) == ((), None, False)
    assert (15, 30) in made.boot.signals


@pytest.mark.parametrize(
    ("kind", "wanted"), [("sysvinit", "environment.sh"), ("openrc", ""), ("busybox", "environment.sh")]
)
def test_only_what_passes_an_environment_on_is_given_the_pods(kind, wanted):
    init = InitFacts(kind=kind, present=("/etc/init.d/rc", "/etc/init.d/rcS", "/sbin/openrc"))
    found = sbin_init.make(one_of(init, environment=True))
    assert found.boot.environment == wanted
    assert ("environment.sh" in found.boot.files[0].text) == bool(wanted)
    assert sbin_init.make(one_of(init)).boot.environment == ""

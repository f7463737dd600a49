"""runtime.init.systemd: the unit, PID 1's arguments, the steps in order."""

import pytest

from runtime.config.values import CAPABILITIES as CAPABILITY_NUMBERS
from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.init import detect, systemd
from runtime.init.detect import InitFacts
from runtime.spec import edit
from tests.unit.init.settings import CAPABILITIES, SYSTEMD, setting, spec_of

INIT = ("/usr/lib/systemd/systemd", "--show-status=1", "systemd.condition-first-boot=no")
TMP = "systemd.mask=tmp.mount"


def test_the_steps_in_order():
    assert [step.name for step in systemd.make(setting()).steps] == [
        "cgroup-namespace",
        "mount-cgroup",
        "mount-run",
        "mount-run-lock",
        "mount-unit",
        "mount-default-drop-in",
        "mount-drop-in",
        "mount-logind",
        "mount-tmpfiles",
        "mount-home",
        "process-init",
    ]


def test_pid_1s_arguments_are_systemds_path_and_the_nodes_masks():
    one = setting(args=("app", "; rm"), mask=("a.service", "getty@.service"))
    after = edit.apply(one.spec, systemd.make(one).steps)
    assert after["process"]["args"] == [
        *INIT,
        *("systemd.mask=a.service", "systemd.mask=getty@.service", TMP),
    ]


def test_nothing_is_mounted_over_tmp_though_it_could_be():
    one = setting(spec=spec_of(bounding=(*CAPABILITIES, "CAP_SYS_ADMIN")))
    assert edit.args(edit.apply(one.spec, systemd.make(one).steps)) == (*INIT, TMP)


def test_nothing_of_the_pod_is_in_a_unit():
    one = setting(args=("/bin/sh", "-c", "INJECTED\nExecStart=/x"))
    text = "".join(file.text for file in systemd.make(one).boot.files)
    assert "INJECTED" not in text
    assert text.count("ExecStart=") == 1
    assert systemd.make(one).boot.launch.args == one.args


def test_the_unit_is_a_constant_but_for_numbers():
    text = systemd.unit_text(stop_s=5, stop_signal=37, restart_on_failure=False)
    assert "Wants=" not in text
    assert "After=basic.target\n" in text
    assert "Restart=" not in text
    lines = set(text.splitlines())
    assert {"TimeoutStopSec=5", "KillSignal=37", "KillMode=mixed", "OOMPolicy=continue", "TasksMax=infinity"} <= lines
    text = systemd.unit_text(stop_s=None, stop_signal=None, restart_on_failure=True)
    assert "Restart=on-failure\nRestartForceExitStatus=SIGHUP SIGINT SIGTERM SIGPIPE\n" in text
    assert "KillSignal" not in text
    assert "TimeoutStopSec" not in text


def test_services_are_a_drop_in_of_their_own():
    one = setting(services=("cron.service",))
    made = systemd.make(one)
    assert made.boot.files[2].text == "[Unit]\nWants=cron.service\nAfter=cron.service\n"
    after = {mount["destination"]: mount["source"] for mount in edit.apply(one.spec, made.steps)["mounts"]}
    assert after["/run/systemd/system/pouchrich-app.service.d/50-services.conf"] == f"{one.run_dir}/services.conf"


@pytest.mark.parametrize(("timeout_s", "stop"), [(10.0, 5), (0.0, 1), (3.5, 1), (3600.0, 1800)])
def test_the_time_to_stop_is_finite_and_below_inits_own_where_systemd_is_not_told_of_an_empty_cgroup(timeout_s, stop):
    v1 = HostFacts(cgroups="hybrid", named="/sys/fs/cgroup/systemd")
    old = InitFacts(systemd="/lib/systemd/systemd", version=231, kind="systemd")
    text = systemd.make(setting(stop_timeout_s=timeout_s, host=v1, init=old)).boot.files[0].text
    assert f"TimeoutStopSec={stop}\n" in text


@pytest.mark.parametrize(("grace", "line"), [("60", "TimeoutStopSec=60"), ("0", "TimeoutStopSec=1"), ("", None)])
def test_who_stops_it_from_inside_gives_it_the_pods_signal_and_grace_period(grace, line):
    spec = {**setting().spec, "annotations": {"io.kubernetes.pod.terminationGracePeriod": grace}}
    lines = systemd.make(setting(spec=spec, stop_signal=3)).boot.files[0].text.splitlines()
    assert "KillSignal=3" in lines
    assert [one for one in lines if one.startswith("TimeoutStopSec=")] == ([] if line is None else [line])


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv/a-b/.c", r"srv-a\x2db-.c"),
        ("/.hidden", r"\x2ehidden"),
        ("/a b\n[Unit]", r"a\x20b\x0a\x5bUnit\x5d"),
        ("/\u00e9", r"\xc3\xa9"),
    ],
)
def test_a_volumes_path_is_a_units_name_whatever_its_letters(path, name):
    """As `systemd-escape --path` has it."""
    shared = {"destination": path, "type": "bind", "source": "/h", "options": ["rbind", "shared"]}
    one = setting(spec=spec_of(shared, bounding=(*CAPABILITIES, "CAP_SYS_ADMIN")))
    destinations = {mount["destination"] for mount in edit.apply(one.spec, systemd.make(one).steps)["mounts"]}
    assert f"/run/systemd/system/{name}.mount.d/50-pouchrich.conf" in destinations


def test_what_is_mounted_below_a_shared_volume_is_left_alone():
    shared = {"destination": "/srv/a-b/.c", "type": "bind", "source": "/h", "options": ["rbind", "rshared"]}
    can_mount = spec_of(shared, bounding=(*CAPABILITIES, "CAP_SYS_ADMIN"))
    one = setting(spec=can_mount)
    destinations = [mount["destination"] for mount in edit.apply(one.spec, systemd.make(one).steps)["mounts"]]
    name = r"/run/systemd/system/srv-a\x2db-.c"
    assert {f"{name}.mount.d/50-pouchrich.conf", f"{name}-.mount.d/50-pouchrich.conf"} <= set(destinations)
    assert "DefaultDependencies=no\n" in next(
        file.text for file in systemd.make(one).boot.files if file.name == "shared.conf"
    )
    made = systemd.make(setting(spec=can_mount, is_own_command=True))
    assert [file.name for file in made.boot.files] == ["shared.conf"]
    assert sum("shared" in step.name for step in made.steps) == 2
    assert not any("shared" in step.name for step in systemd.make(setting(shared)).steps)
    old = InitFacts(systemd="/lib/systemd/systemd", version=238, kind="systemd")
    with pytest.raises(InvalidArgument, match=r"mounts\[/srv/a-b/\.c\]: found a volume with propagation to the node"):
        systemd.make(setting(spec=can_mount, init=old))


def test_what_the_shim_needs_to_talk_with_systemd():
    made = systemd.make(setting())
    assert (made.boot.init, made.boot.poweroff, made.boot.halts, made.boot.signals) == ("systemd", 38, False, ())
    files = ["pouchrich-app.service", "50-pouchrich.conf", "logind.conf", "volumes.conf"]
    assert [file.name for file in made.boot.files] == files
    assert (made.helpers, made.cgroup.descendants, made.cgroup.depth) == (("launch",), 1024, 8)


def test_an_image_whose_command_is_systemd_gets_no_unit_and_keeps_its_arguments():
    one = setting(is_own_command=True, args=("/lib/systemd/systemd", "--log-level=debug"))
    made = systemd.make(one)
    after = edit.apply(one.spec, made.steps)
    assert after["process"]["args"] == ["/lib/systemd/systemd", "--log-level=debug"]
    assert not any("/run/systemd" in mount["destination"] for mount in after["mounts"])
    assert (made.boot.launch, made.boot.files) == (None, ())
    assert (15, 38) in made.boot.signals


def test_the_pods_volumes_stay_as_they_are_and_nothing_hides_them():
    paths = ("/var/log", "/tmp/work", "/data", "/home/of us", "/run/secrets/x", "/etc/hosts")
    made = systemd.make(setting(*({"destination": path, "type": "bind", "source": "/h"} for path in paths)))
    (text,) = [file.text for file in made.boot.files if file.name == "volumes.conf"]
    assert text == "d /tmp 1777 - - -\nd /var/log - - - -\nd /tmp/work - - - -\n"
    made = systemd.make(setting({"destination": "/tmp", "type": "bind", "source": "/h"}))
    assert [file.text for file in made.boot.files if file.name == "volumes.conf"] == ["d /tmp - - - -\n"]
    can_mount = spec_of(
        {"destination": "/tmp/work", "type": "bind", "source": "/h"}, bounding=(*CAPABILITIES, "CAP_SYS_ADMIN")
    )
    one = setting(spec=can_mount)
    masks = set(edit.args(edit.apply(one.spec, systemd.make(one).steps)))
    assert {TMP, "systemd.mask=systemd-tmpfiles-clean.timer"} <= masks


def test_an_unknown_version_is_taken_for_a_current_one():
    made = systemd.make(setting(init=InitFacts(systemd="/lib/systemd/systemd", kind="systemd")))
    assert made.cgroup.directory == ""


def test_an_image_without_a_machine_id_has_one_where_systemd_would_not_write_it():
    def bound(version=252, **more):
        one = setting(init=SYSTEMD._replace(machine_id=False, version=version), **more)
        made = systemd.make(one)
        after = edit.apply(one.spec, made.steps)
        found = {mount["destination"]: mount["source"] for mount in after["mounts"]}
        texts = {file.name: file.text for file in made.boot.files}
        is_masked = "systemd.mask=systemd-machine-id-commit.service" in edit.args(after)
        return found.get("/etc/machine-id"), texts.get("machine-id", ""), is_masked

    for source, text, is_masked in (bound(spec=spec_of(readonly=True)), bound(version=247), bound(version=None)):
        assert (source, is_masked) == (f"{setting().run_dir}/machine-id", True)
        assert detect.is_machine_id(text.encode())
    mounted = {"destination": "/etc/machine-id", "type": "bind", "source": "/h"}
    assert bound(spec=spec_of(mounted, readonly=True)) == ("/h", "", False)
    assert bound() == (None, "", False)


def test_root_in_the_pod_is_warned_of_to_have_inits_capabilities():
    more = (*CAPABILITIES, "CAP_SYS_ADMIN", "CAP_KILL")
    (warning,) = systemd.make(setting(capabilities=more)).warnings
    assert warning == (
        "rich.init-capabilities: root in the container also has CAP_KILL, CAP_SYS_ADMIN, in what it has the init start"
    )
    for none in (setting(capabilities=CAPABILITIES), setting(), setting(spec=spec_of(uid=7), capabilities=more)):
        assert systemd.make(none).warnings == ()


BY_HANDLE = (*CAPABILITIES, "CAP_DAC_READ_SEARCH")


def test_who_could_open_the_nodes_cgroups_by_a_handle_is_refused():
    with pytest.raises(InvalidArgument, match=r"process\.capabilities\.bounding: found CAP_DAC_READ_SEARCH, allowed"):
        systemd.make(setting(spec=spec_of(bounding=BY_HANDLE), capabilities=CAPABILITIES))
    with pytest.raises(InvalidArgument, match=r"rich\.init-capabilities: found CAP_DAC_READ_SEARCH, allowed"):
        systemd.make(setting(capabilities=BY_HANDLE))


def test_a_handle_is_nothing_new_to_who_may_mount_and_none_in_a_user_namespace():
    mapped = spec_of(bounding=BY_HANDLE)
    mapped["linux"]["namespaces"] = [{"type": "user"}]
    for spec in (spec_of(bounding=(*BY_HANDLE, "CAP_SYS_ADMIN")), mapped):
        launch = systemd.make(setting(spec=spec)).boot.launch
        assert launch.bounding & 1 << CAPABILITY_NUMBERS.index("CAP_DAC_READ_SEARCH")

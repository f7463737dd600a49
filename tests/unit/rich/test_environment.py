import os

import pytest

from runtime.image.image import Rootfs
from runtime.init.boot import AppProcess, Boot
from runtime.rich import environment

PLACES = ("profile", "pam", "units", "cron")
SYSTEMD = Boot("systemd", 1, launch=AppProcess(("app",)))


@pytest.fixture
def image(tmp_path):
    for directory in ("etc/pam.d", "etc/security", "etc/profile.d"):
        (tmp_path / directory).mkdir(parents=True)
    (tmp_path / "etc/pam.d/cron").write_text("session required pam_unix.so\n")
    (tmp_path / "etc/environment").write_text("OF_THE_IMAGE=1\n")
    return tmp_path


def made(image, env, *, places=PLACES, exclude=(), boot=SYSTEMD, hiding=(), version=252):
    with Rootfs.open(str(image)) as root:
        seen = environment.inspect(root, places, hiding)
    return environment.make(
        env, places=places, exclude=exclude, seen=seen, run_dir="/run/x", boot=boot, systemd_version=version
    )


def texts(found):
    return {one.name: one.text for one in found.files}


def targets(found):
    return {step.edit.operand["source"]: step.edit.operand["destination"] for step in found.steps}


def test_each_place_has_its_file_bound_read_only(image):
    found = made(image, {"A": "a b"})
    assert targets(found) == {
        "/run/x/env": "/etc/profile.d/pouchenv.sh",
        "/run/x/environment": "/etc/environment",
        "/run/x/cron": "/etc/security/pouchenv",
        "/run/x/pam-cron": "/etc/pam.d/cron",
        "/run/x/units.conf": "/run/systemd/system.conf.d/50-pouchrich.conf",
    }
    assert all("ro" in step.edit.operand["options"] for step in found.steps)
    assert all("a b" in text for name, text in texts(found).items() if name != "pam-cron")
    assert "OF_THE_IMAGE=1\n" in texts(found)["environment"]
    assert "OF_THE_IMAGE" not in texts(found)["cron"]
    assert texts(found)["pam-cron"].startswith("session required pam_unix.so\n")


@pytest.mark.parametrize("place", PLACES)
def test_no_place_is_given_what_was_not_asked_for(image, place):
    wanted = {"profile": {"env"}, "pam": {"environment"}, "units": {"units.conf"}, "cron": {"cron", "pam-cron"}}
    assert set(texts(made(image, {"A": "a"}, places=(place,)))) == wanted[place]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(
    "boot", [SYSTEMD, Boot("sysvinit", 1, launch=AppProcess(("app",)), environment="environment.sh")]
)
def test_who_somebody_is_and_what_is_excluded_is_nowhere(image, place, boot):
    env = dict.fromkeys(("HOME", "USER", "LOGNAME", "SHELL", "PWD", "MAIL", "UID", "A_TOKEN", "B"), "secret")
    found = made(image, {**env, "B": "b"}, places=(place,), exclude=("*_TOKEN",), boot=boot)
    assert "secret" not in "".join(texts(found).values())


@pytest.mark.parametrize("name", ["NOTIFY_SOCKET", "XDG_RUNTIME_DIR", "SYSTEMD_LOG_LEVEL", "LISTEN_FDS", "SSH_TTY"])
def test_what_a_session_or_unit_is_told_of_itself_is_left_to_who_tells_it(image, name):
    assert name not in "".join(texts(made(image, {name: "x"}, places=("pam", "units", "cron"))).values())


def test_the_names_that_go_to_every_unit_are_told_but_for_those_that_do_not(image):
    assert made(image, {"A": "a", "B": "\x01", "HOME": "/x"}).to_units == ("A",)
    assert made(image, {"A": "a"}, places=("pam",)).to_units == ()


def test_an_init_that_passes_nothing_on_is_named_and_dumb_init_is_not(image):
    (warning,) = made(image, {"A": "a"}, boot=Boot("openrc", 1, launch=AppProcess(("app",)))).warnings
    assert warning == "rich.env-file: units: openrc does not pass an environment on to its services, skipped"
    assert made(image, {"A": "a"}, boot=None).warnings == ()


def test_the_script_for_an_inittab_is_roots_alone(image):
    boot = Boot("busybox", 1, launch=AppProcess(("app",)), environment="environment.sh")
    (file,) = made(image, {"A": "a"}, places=("units",), boot=boot).files
    assert (file.name, file.mode) == ("environment.sh", 0o600)


@pytest.mark.parametrize("target", ["etc/environment", "etc/pam.d/cron"])
@pytest.mark.parametrize("kind", ["link", "fifo", "directory", "huge", "binary"])
def test_a_file_of_the_image_that_cannot_be_taken_over_is_left_alone(image, target, kind):
    path = image / target
    path.unlink()
    if kind == "link":
        path.symlink_to("/etc/shadow")
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "directory":
        path.mkdir()
    else:
        path.write_bytes(b"\0" if kind == "binary" else b"x" * 65_537)
    found = made(image, {"A": "a"})
    assert f"/{target}" not in targets(found).values()
    (warning,) = found.warnings
    assert warning.startswith(f"rich.env-file: /{target}: ")


def test_what_lies_below_a_mount_of_the_pods_is_left_alone(image):
    found = made(image, {"A": "a"}, hiding=("/etc",))
    assert list(targets(found)) == ["/run/x/units.conf"]
    assert all("below the mount at /etc" in one for one in found.warnings)


def test_an_image_without_a_cron_that_asks_pam_gets_nothing_of_it(image):
    (image / "etc/pam.d/cron").unlink()
    found = made(image, {"A": "a"}, places=("cron",))
    assert (found.files, found.warnings) == ((), ())


def test_names_whose_values_fit_nowhere_are_named_a_few_of_them_and_safely(image):
    env = {f"V{number}": "#" for number in range(7)}
    (warning,) = made(image, env, places=("pam",)).warnings
    assert warning == (
        "rich.env-file: pam: V0, V1, V2, V3, V4 and 2 more: found a value that a line of that file cannot hold, skipped"
    )

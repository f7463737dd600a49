"""runtime.init.dumb_init: where the binary goes, what the command becomes."""

import pytest

from runtime.errors import InvalidArgument
from runtime.init import INIT_MODES, dumb_init
from runtime.init.base import CONTAINER_RUN_DIR, ModeInput, MountPoint, covers
from runtime.spec import edit

DEV = {"destination": "/dev", "type": "tmpfs", "options": ["nosuid"]}
EMPTY_DIR = "/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/v"


def setting(*mounts, terminal=False, args=("app", "--flag"), home="/run/pouchrich", resolved=None):
    points = tuple(
        MountPoint(one["destination"], (resolved or {}).get(one["destination"], one["destination"]), one)
        for one in mounts
    )
    spec = {"process": {"args": list(args)}, "mounts": list(mounts)}
    return ModeInput(
        spec, tuple(args), terminal, points, {CONTAINER_RUN_DIR: home}, run_dir="/run/pouchrich/containers/k8s.io/c"
    )


def made(one):
    return edit.apply(one.spec, dumb_init.make(one).steps)


def test_every_mode_is_registered_under_its_name():
    assert {name: mode.name for name, mode in INIT_MODES.items()} == {
        name: name for name in ("systemd", "sbin-init", "dumb-init")
    }


def test_the_steps_in_order():
    assert [step.name for step in dumb_init.make(setting()).steps] == [
        "mount-dumb-init",
        "env-rich-mode",
        "args-dumb-init",
    ]


def test_the_command_becomes_the_child_of_dumb_init():
    assert edit.args(made(setting(args=("-x", "")))) == ("/run/pouchrich/dumb-init", "-c", "--", "-x", "")


@pytest.mark.parametrize(
    ("terminal", "env", "alone"),
    [
        (False, [], True),
        (False, ["DUMB_INIT_SETSID=0"], True),
        (False, ["DUMB_INIT_SETSID=1"], False),
        (True, ["DUMB_INIT_SETSID=1"], False),
    ],
)
def test_signals_are_the_commands_alone_unless_the_pod_wants_a_session(terminal, env, alone):
    one = setting(terminal=terminal)
    one.spec["process"]["env"] = env
    assert ("-c" in edit.args(made(one))) == alone


def test_the_binary_is_bound_read_only_after_every_mount_of_the_pod():
    assert made(setting(DEV, {"destination": "/run", "type": "tmpfs"}))["mounts"][-1] == {
        "destination": "/run/pouchrich/dumb-init",
        "type": "bind",
        "source": "/run/pouchrich/containers/k8s.io/c/dumb-init",
        "options": ["bind", "ro", "nosuid", "nodev"],
    }


def test_the_variables_replace_those_the_pod_set():
    one = setting()
    one.spec["process"]["env"] = ["rich_mode_launch_manner=auto", "A=1", "rich_mode=true"]
    assert made(one)["process"]["env"] == ["A=1", "rich_mode=true", "rich_mode_launch_manner=dumb-init"]


@pytest.mark.parametrize(
    ("mount", "directory"),
    [
        ({"destination": "/run", "type": "tmpfs"}, "/run/pouchrich"),
        ({"destination": "/run", "type": "bind", "source": EMPTY_DIR}, "/run/pouchrich"),
        ({"destination": "/run/secrets", "type": "bind", "source": "/x"}, "/run/pouchrich"),
        ({"destination": "/runner", "type": "bind", "source": "/x"}, "/run/pouchrich"),
        ({"destination": "/run", "type": "bind", "source": "/run"}, "/dev/.pouchrich"),
        ({"destination": "/run", "type": "bind", "source": EMPTY_DIR, "options": ["ro"]}, "/dev/.pouchrich"),
        ({"destination": "/run", "type": "tmpfs", "options": ["ro"]}, "/dev/.pouchrich"),
    ],
)
def test_the_oci_runtime_never_makes_a_mount_point_on_a_volume(mount, directory):
    assert edit.args(made(setting(DEV, mount)))[0] == f"{directory}/dumb-init"


def test_the_topmost_mount_over_run_decides():
    volume = {"destination": "/run", "type": "bind", "source": "/x"}
    tmpfs = {"destination": "/run", "type": "tmpfs"}
    assert edit.args(made(setting(DEV, volume, tmpfs)))[0] == "/run/pouchrich/dumb-init"
    assert edit.args(made(setting(DEV, tmpfs, volume)))[0] == "/dev/.pouchrich/dumb-init"


def test_a_link_of_the_image_does_not_hide_a_volume_over_run():
    volume = {"destination": "/var/run", "type": "bind", "source": "/x"}
    one = setting(DEV, volume, resolved={"/var/run": "/run"})
    assert edit.args(made(one))[0] == "/dev/.pouchrich/dumb-init"


@pytest.mark.parametrize("destination", ["/run/pouchrich", "/run/pouchrich/dumb-init", "/run/pouchrich/x/y"])
def test_a_mount_of_the_pod_at_our_directory_is_an_error(destination):
    with pytest.raises(InvalidArgument) as caught:
        made(setting({"destination": destination, "type": "tmpfs"}))
    assert str(caught.value) == (
        f"config.json: mounts[{destination}]: found a mount of the pod,"
        " allowed none at or below /run/pouchrich in a rich container"
    )


@pytest.mark.parametrize("dev", [(), ({"destination": "/dev", "type": "bind", "source": "/dev"},)])
def test_without_a_private_place_the_error_names_the_mount(dev):
    with pytest.raises(InvalidArgument, match=r"mounts\[/run\]: found a volume, allowed a tmpfs or an emptyDir"):
        made(setting(*dev, {"destination": "/run", "type": "bind", "source": "/run"}))


@pytest.mark.parametrize(
    ("directory", "path", "answer"),
    [("/", "/a", True), ("/a", "/a", True), ("/a", "/a/b", True), ("/a", "/ab", False), ("/a/b", "/a", False)],
)
def test_covers_is_by_whole_parts(directory, path, answer):
    assert covers(directory, path) is answer

"""runtime.hooks.process: what a hook in the container runs as."""

import copy

import pytest

from runtime.config.model import Hook, When
from runtime.errors import InvalidArgument
from runtime.hooks import process
from runtime.image.passwd import User

SPEC = {
    "ociVersion": "1.0.2",
    "process": {
        "terminal": True,
        "consoleSize": {"width": 1, "height": 1},
        "user": {"uid": 1000, "gid": 5, "additionalGids": [7], "umask": 18},
        "args": ["app"],
        "env": ["PATH=/bin", "A=pod", "B=pod"],
        "cwd": "/srv",
        "capabilities": {"bounding": ["CAP_KILL"]},
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 9, "soft": 9}],
        "noNewPrivileges": True,
        "apparmorProfile": "p",
    },
    "root": {"path": "rootfs", "readonly": True},
    "hostname": "h",
    "mounts": [{"destination": "/proc", "type": "proc"}],
    "annotations": {"run.oci.handler": "x"},
    "hooks": {"poststop": [{"path": "/x"}]},
    "linux": {
        "netDevices": {"eth1": {}},
        "cgroupsPath": "/kubepods/pod1/c1",
        "resources": {"pids": {"limit": 5}},
        "uidMappings": [{"containerID": 0, "hostID": 100000, "size": 65536}],
        "namespaces": [
            {"type": "pid", "path": "/proc/1/ns/pid"},
            {"type": "network", "path": "/proc/5/ns/net"},
            {"type": "ipc"},
            {"type": "mount"},
            {"type": "cgroup"},
        ],
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
    },
}
TOLD = {"POUCHRICH_NAME": "n"}


def hook(**fields):
    given = {
        "name": "h",
        "where": "container",
        "command": ("do", "it"),
        "timeout_s": 3.0,
        "on_failure": "continue",
        "user": None,
        "env": (("A", "hook"),),
        "mandatory": False,
        "when": When(),
    }
    return Hook(**{**given, **fields})


def test_a_hook_is_the_pods_process_with_another_command():
    before = copy.deepcopy(SPEC)
    made = process.hook_process(SPEC, hook(), TOLD)
    changed = {"terminal", "consoleSize", "args", "env"}
    assert {key: made[key] for key in made.keys() - changed} == {
        key: SPEC["process"][key] for key in SPEC["process"].keys() - changed
    }
    assert (made["args"], made["terminal"]) == (["do", "it"], False)
    assert made["env"] == ["PATH=/bin", "B=pod", "A=hook", "POUCHRICH_NAME=n"]
    assert before == SPEC


def test_a_nodes_hook_may_run_as_somebody_else_with_the_pods_umask():
    made = process.hook_process(SPEC, hook(), TOLD, User(0, 0, (3,)))
    assert made["user"] == {"uid": 0, "gid": 0, "additionalGids": [3], "umask": 18}


def test_a_poststop_hooks_container_has_the_pods_root_mounts_limits_and_held_namespaces():
    made = process.poststop_spec(SPEC, hook(), TOLD, rootfs="/b/rootfs", pinned="/run/pinned", suffix="-poststop-0")
    assert made["root"] == {"path": "/b/rootfs", "readonly": True}
    assert made["linux"]["namespaces"] == [
        {"type": "pid"},
        {"type": "network", "path": "/run/pinned/network"},
        {"type": "ipc", "path": "/run/pinned/ipc"},
        {"type": "mount"},
        {"type": "cgroup"},
    ]
    assert made["linux"]["cgroupsPath"] == "/kubepods/pod1/c1-poststop-0"
    assert made["linux"]["seccomp"] == SPEC["linux"]["seccomp"]
    assert made["mounts"] == SPEC["mounts"]
    assert "hooks" not in made
    assert "annotations" not in made
    assert "netDevices" not in made["linux"]


def test_a_container_in_the_hosts_network_has_its_hooks_there_too():
    spec = {**SPEC, "linux": {"namespaces": [{"type": "mount"}]}}
    made = process.poststop_spec(spec, hook(), TOLD, rootfs="/r", pinned="/h", suffix="-x")
    assert [one["type"] for one in made["linux"]["namespaces"]] == ["pid", "mount"]


def test_what_is_held_is_what_the_container_does_not_share_with_the_host():
    assert process.types_to_pin(SPEC) == ("network", "ipc")


@pytest.mark.parametrize(
    ("path", "expected"),
    [("/a/b/", "/a/b-x"), ("p.slice:cri:c1", "p.slice:cri:c1-x"), ("rel/ative", "rel/ative-x")],
)
def test_its_cgroup_is_a_sibling(path, expected):
    assert process.sibling(path, "-x") == expected


def test_the_owner_of_the_output_is_the_hosts_uid():
    assert process.owner(SPEC, SPEC["process"]) == 101000
    assert process.owner({}, {"user": {"uid": 4}}) == 4
    assert process.owner({}, {}) == 0


@pytest.mark.parametrize("linux", [{"namespaces": [3]}, {"namespaces": [{}]}, {"namespaces": "x"}])
def test_a_malformed_spec_is_an_invalid_argument(linux):
    with pytest.raises(InvalidArgument, match="namespaces"):
        process.poststop_spec({"linux": linux}, hook(), {}, rootfs="/r", pinned="/h", suffix="")

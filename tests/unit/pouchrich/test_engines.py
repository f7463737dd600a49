"""Container engines inside: what explain says that a container would lack, and doctor that the node does."""

import copy
import json

import pytest

from pouchrich import engines, engines_node
from pouchrich.__main__ import main
from pouchrich.checks import OK, WARN

GOOD = {
    "process": {"capabilities": {"bounding": ["CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_CHOWN"]}},
    "mounts": [
        {"destination": "/sys/fs/cgroup", "type": "cgroup", "options": ["rw", "nosuid"]},
        {"destination": "/var/lib/containers", "type": "bind"},
        {"destination": "/dev/fuse", "type": "bind"},
    ],
    "linux": {
        "namespaces": [{"type": "user"}, {"type": "pid"}],
        "devices": [{"path": "/dev/net/tun"}],
        "seccomp": {"defaultAction": "SCMP_ACT_ALLOW"},
    },
}
CALLS = ["mount", "umount2", "unshare", "setns", "pivot_root", "keyctl"]


def without(change):
    spec = copy.deepcopy(GOOD)
    change(spec)
    return list(engines.lacks(spec, ["podman"]))


def test_a_container_that_has_all_lacks_nothing():
    assert without(lambda spec: None) == []


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda spec: spec["linux"]["namespaces"].pop(0), "hostUsers: false"),
        (lambda spec: spec["process"]["capabilities"]["bounding"].pop(0), "capabilities.add SYS_ADMIN"),
        (lambda spec: spec["process"]["capabilities"]["bounding"].pop(1), "capabilities.add NET_ADMIN"),
        (lambda spec: spec["linux"].update(maskedPaths=["/proc/kcore"]), "procMount: Unmasked"),
        (lambda spec: spec["linux"].update(readonlyPaths=["/proc/sys"]), "procMount: Unmasked"),
        (lambda spec: spec["process"].update(apparmorProfile="cri-containerd.apparmor.d"), "appArmorProfile"),
        (lambda spec: spec["mounts"][0]["options"].append("ro"), 'rich.cgroup = "delegate"'),
        (lambda spec: spec["mounts"].pop(0), "mode systemd"),
        (lambda spec: spec["mounts"].pop(1), "emptyDir at /var/lib/containers"),
        (lambda spec: spec["mounts"].pop(2), "/dev/fuse"),
        (lambda spec: spec["linux"]["devices"].pop(), "/dev/net/tun"),
    ],
)
def test_what_one_lacks_is_named_with_the_way_out(change, named):
    (said,) = without(change)
    assert named in said


def test_a_seccomp_profile_is_judged_by_what_it_allows_for_any_arguments():
    def profile(**rule):
        return without(
            lambda spec: spec["linux"].update(
                seccomp={"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [{"action": "SCMP_ACT_ALLOW", **rule}]}
            )
        )

    assert profile(names=CALLS) == []
    assert "denies (keyctl)" in profile(names=CALLS[:-1])[0]
    assert f"denies ({', '.join(CALLS)})" in profile(names=CALLS, args=[{"index": 0}])[0]


def test_each_engine_has_a_place_of_its_own():
    said = list(engines.lacks(GOOD, ["podman", "dockerd", "containerd"]))
    assert [one.rpartition(" ")[2] for one in said] == ["/var/lib/docker", "/var/lib/containerd"]


def test_without_an_engine_nothing_is_said():
    assert list(engines.lacks({}, [])) == []


@pytest.mark.parametrize("shape", [{"linux": 1}, {"process": []}, {"mounts": [1, {}]}, {"linux": {"devices": "x"}}])
def test_a_spec_of_another_shape_is_no_error(shape):
    assert list(engines.lacks(shape, ["dockerd"]))


def test_explain_says_it_of_an_image_with_an_engine(tmp_path, capsys):
    root = tmp_path / "rootfs"
    (root / "usr/sbin").mkdir(parents=True)
    for name in ("usr/sbin/dockerd", "app"):
        (root / name).write_text("x")
        (root / name).chmod(0o755)
    (tmp_path / "c.toml").write_text("version = 1\n[rich]\nenabled = false\n")
    words = ["explain", "--rootfs", str(root), "--spec", str(tmp_path / "spec.json"), "--config"]
    words += [str(tmp_path / "c.toml"), "--any-owner", "--json"]

    def notes(spec):
        (tmp_path / "spec.json").write_text(json.dumps({"process": {"args": ["/app"], "cwd": "/"}, **spec}))
        main(words)
        return [one for one in json.loads(capsys.readouterr().out)["notes"] if "inside" in one]

    assert any(one.startswith("dockerd inside would miss a user namespace") for one in notes({}))
    whole = copy.deepcopy(GOOD)
    whole["mounts"][1]["destination"] = "/var/lib/docker"
    whole["process"].update(args=["/app"], cwd="/")
    assert notes(whole) == ["dockerd inside would have everything that the pod can give"]
    (root / "usr/sbin/dockerd").unlink()
    assert notes({}) == []


@pytest.fixture
def host(tmp_path):
    """A node without fault, as directories."""
    at = {name: tmp_path / name for name in ("proc", "sys", "dev", "modules")}

    def put(path, text=""):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)

    put(at["proc"] / "sys/kernel/osrelease", "6.12.1-x\n")
    put(at["proc"] / "sys/user/max_user_namespaces", "1000\n")
    put(at["modules"] / "6.12.1-x/modules.dep", "kernel/fs/overlay.ko.xz:\nkernel/bridge.ko:\nkernel/veth.ko:\n")
    (at["sys"] / "module/nf_tables").mkdir(parents=True)
    for name in ("dev/fuse", "dev/net/tun"):
        put(tmp_path / name)
    at["put"] = put
    return at


def found(host):
    return [
        (one.level, one.found)
        for one in engines_node.checks(**{name: str(host[name]) for name in ("proc", "sys", "dev", "modules")})
    ]


def test_a_node_that_has_all(host):
    ((level, _),) = found(host)
    assert level == OK


@pytest.mark.parametrize(
    ("file", "text", "named"),
    [
        ("sys/kernel/osrelease", "5.10.0\n", "no overlay in a user namespace"),
        ("sys/kernel/osrelease", "6.1.0-9\n", "no ID-mapped tmpfs"),
        ("sys/user/max_user_namespaces", "0\n", "max_user_namespaces is 0"),
        ("sys/kernel/apparmor_restrict_unprivileged_userns", "1\n", "users other than root"),
    ],
)
def test_what_the_node_lacks_is_a_warning(host, file, text, named):
    host["put"](host["proc"] / file, text)
    ((level, said),) = found(host)
    assert level == WARN
    assert named in said


def test_modules_that_are_nowhere_are_named(host):
    host["put"](host["modules"] / "6.12.1-x/modules.dep", "kernel/fs/overlay.ko.xz:\n")
    assert found(host) == [(WARN, "neither loaded nor installed: bridge, veth")]
    (host["modules"] / "6.12.1-x/modules.dep").unlink()
    assert [level for level, _ in found(host)] == [OK]


def test_devices_that_only_other_users_need_are_no_warning(host):
    (host["dev"] / "fuse").unlink()
    (host["dev"] / "net/tun").unlink()
    levels = [level for level, _ in found(host)]
    assert levels == [OK, OK]
    assert "no /dev/fuse and no /dev/net/tun" in found(host)[1][1]

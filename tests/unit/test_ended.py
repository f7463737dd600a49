"""runtime.ended: what is kept of containers that have ended, whatever they wrote and however many there are."""

import json
import os

import pytest

from runtime import bundle_log, ended
from runtime.bundle_log import BundleLog

HEAD = {"pod": ["shop", "web-0"], "name": "app", "image": "registry/app:1", "mode": "systemd", "init": "systemd"}
CRI = {
    "io.kubernetes.cri.sandbox-name": "web-0",
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.image-name": "registry/app:1",
}


@pytest.fixture
def root(tmp_path):
    return str(tmp_path / "ended")


@pytest.fixture
def bundle(tmp_path):
    path = tmp_path / "bundle"
    path.mkdir()
    return str(path)


def keep(root, bundle, container_id="abc", *, group="shop", reason="its start failed", age_s=0):
    about = {**CRI, "io.kubernetes.cri.sandbox-namespace": group}
    more = {"mode": "systemd", "init": "systemd", "reason": reason}
    ended.keep("k8s.io", container_id, bundle, annotations=about, **more, root=root)
    if age_s:
        path = next(one.path for one in ended.every(root=root) if one.id == container_id)
        at = os.stat(path).st_mtime - age_s
        os.utime(path, (at, at))


def test_the_log_the_hooks_and_the_names_are_kept(root, bundle):
    hooks = [{"stage": "poststop", "name": "h", "result": "exit status 1", "output": "no"}]
    with open(f"{bundle}/hooks.json", "w") as file:
        json.dump({"version": 1, "hooks": hooks}, file)
    BundleLog(bundle).write("boot", "", ["boots"])
    before = list(bundle_log.read(bundle))
    keep(root, bundle)
    (one,) = ended.every(root=root)
    assert (one.namespace, one.id, one.head["reason"]) == ("k8s.io", "abc", "its start failed")
    assert {key: one.head[key] for key in HEAD} == HEAD
    assert one.head["hooks"] == hooks
    assert list(ended.lines(one)) == before
    assert os.stat(one.path).st_mode & 0o777 == 0o600
    assert os.stat(root).st_mode & 0o777 == 0o700


def test_outside_a_pod_containerds_names_are_kept(root, bundle):
    ended.keep("default", "web", bundle, annotations={}, mode="dumb-init", init="dumb-init", reason="x", root=root)
    (one,) = ended.every(root=root)
    assert (one.head["pod"], one.head["name"], one.head["image"]) == (None, "web", "")
    assert os.listdir(root) == [":default:web"]


def test_a_container_that_said_nothing_is_kept_too_and_a_later_one_of_its_id_takes_its_place(root, bundle):
    keep(root, bundle, reason="first")
    keep(root, bundle, reason="second")
    (one,) = ended.every(root=root)
    assert (one.head["reason"], one.head["hooks"], list(ended.lines(one))) == ("second", [], [])


def test_what_a_container_wrote_is_bounded(root, bundle):
    for _ in range(200):
        BundleLog(bundle).write("console", "", [f"{'x' * 4000}" for _ in range(6)])
    BundleLog(bundle).write("console", "", ["the last"])
    many = [{"name": "n" * 4000, "output": "o" * 512, "result": f"exit status {number}"} for number in range(100)]
    with open(f"{bundle}/hooks.json", "w") as file:
        json.dump({"version": 1, "hooks": many}, file)
    keep(root, bundle)
    (one,) = ended.every(root=root)
    assert os.stat(one.path).st_size <= ended.LOG_BYTES + ended.HEAD_BYTES
    assert list(ended.lines(one))[-1]["text"] == "the last"
    assert one.head["hooks"][-1]["result"] == "exit status 99"


@pytest.mark.parametrize("content", ["", "[]", '{"hooks": 1}', '{"hooks": [1, null]}', "\0" * 100])
def test_hooks_that_cannot_be_read_are_none(root, bundle, content):
    with open(f"{bundle}/hooks.json", "w") as file:
        file.write(content)
    keep(root, bundle)
    assert [one.head["hooks"] for one in ended.every(root=root)] == [[]]


def test_a_namespace_has_at_most_its_share(root, bundle):
    """A tenant whose containers fail all the time takes no place of others."""
    keep(root, bundle, "quiet", group="quiet", age_s=10_000)
    for number in range(3 * ended.MOST_OF_NAMESPACE):
        keep(root, bundle, f"loud-{number:03}", group="loud", age_s=1000 - number)
    kept = sorted(one.id for one in ended.every(root=root))
    most = ended.MOST_OF_NAMESPACE
    assert kept == [*(f"loud-{number:03}" for number in range(2 * most, 3 * most)), "quiet"]


def test_a_node_has_at_most_its_share_and_who_has_the_most_goes_first(root, bundle):
    keep(root, bundle, "quiet", group="quiet", age_s=10_000)
    for tenant in range(20):
        for number in range(ended.MOST_OF_NAMESPACE):
            keep(root, bundle, f"t{tenant}-{number}", group=f"t{tenant}", age_s=5000 - 10 * tenant - number)
    found = list(ended.every(root=root))
    assert len(found) == ended.MOST
    assert "quiet" in {one.id for one in found}
    assert {one.id.partition("-")[0] for one in found if one.id != "quiet"} == {f"t{tenant}" for tenant in range(20)}


def test_of_as_many_namespaces_as_containers_the_oldest_goes(root, bundle):
    for number in range(ended.MOST + 3):
        keep(root, bundle, f"c{number:03}", group=f"t{number}", age_s=5000 - number)
    assert sorted(one.id for one in ended.every(root=root)) == [f"c{number:03}" for number in range(3, ended.MOST + 3)]


def test_a_disk_that_is_full_leaves_nothing_half_written(root, bundle, monkeypatch):
    def refuse(*_):
        raise OSError(28, "No space left on device")

    keep(root, bundle, reason="first")
    monkeypatch.setattr(ended.os, "rename", refuse)
    with pytest.raises(OSError, match="No space left"):
        keep(root, bundle, reason="second")
    assert [one.head["reason"] for one in ended.every(root=root)] == ["first"]
    assert os.listdir(root) == ["shop:k8s.io:abc"]


def test_names_are_bounded(root, bundle):
    odd = "\U0001f600" * 5000
    about = dict.fromkeys([*CRI, "io.kubernetes.cri.sandbox-namespace"], odd)
    ended.keep("ns", "abc", bundle, annotations=about, mode="systemd", init="systemd", reason=odd, root=root)
    (one,) = ended.every(root=root)
    assert one.head["pod"] == ["\U0001f600" * 512] * 2
    assert os.stat(one.path).st_size <= ended.HEAD_BYTES


@pytest.mark.parametrize("group", ["", "../x", "a:b", "A" * 300, "x\n"])
def test_a_namespace_that_is_no_kubernetes_name_is_nobodys(root, bundle, group):
    keep(root, bundle, group=group)
    (one,) = ended.every(root=root)
    assert os.listdir(root) == [":k8s.io:abc"]
    assert one.id == "abc"


def test_what_a_killed_writer_left_goes_after_a_while(root, bundle):
    keep(root, bundle)
    for name, age_s in ((".new-1", 1000), (".new-2", 0)):
        with open(f"{root}/{name}", "w"):
            pass
        at = os.stat(f"{root}/{name}").st_mtime - age_s
        os.utime(f"{root}/{name}", (at, at))
    assert [one.id for one in ended.every(root=root)] == ["abc"]
    keep(root, bundle, "def")
    assert sorted(os.listdir(root)) == [".new-2", "shop:k8s.io:abc", "shop:k8s.io:def"]


def test_lines_are_added_to_a_container_that_is_kept_and_to_no_other(root, bundle):
    ended.append("k8s.io", "abc", "hook", "h", ["poststop: exit status 1"], root=root)
    assert list(ended.every(root=root)) == []
    keep(root, bundle)
    ended.append("k8s.io", "abc", "hook", "h", ["poststop: exit status 1"], root=root)
    (one,) = ended.every(root=root)
    assert [(line["source"], line["name"], line["text"]) for line in ended.lines(one)] == [
        ("hook", "h", "poststop: exit status 1")
    ]
    for _ in range(1000):
        ended.append("k8s.io", "abc", "hook", "h", ["x" * 1000], root=root)
    assert os.stat(one.path).st_size <= ended.LOG_BYTES + ended.HEAD_BYTES


@pytest.mark.parametrize("content", ["", "x\n", '{"version": 2}\n', "[]\n", '{"version": 1}'])
def test_a_file_of_another_kind_is_left_out(root, content):
    os.mkdir(root)
    with open(f"{root}/shop:k8s.io:abc", "w") as file:
        file.write(content)
    with open(f"{root}/other", "w"):
        pass
    assert list(ended.every(root=root)) == []

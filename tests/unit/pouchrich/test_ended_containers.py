"""pouchrich logs and inspect of containers that have ended."""

import argparse
import json

import pytest

from pouchrich.__main__ import main
from pouchrich.commands import inspecting, logs
from pouchrich.survey import Survey
from runtime import ended, index, paths
from runtime.bundle_log import BundleLog
from runtime.errors import InvalidArgument, NotFound
from tests.unit.pouchrich.nodes import DUMB

CRI = {
    "io.kubernetes.cri.sandbox-name": "web-0",
    "io.kubernetes.cri.sandbox-namespace": "shop",
    "io.kubernetes.cri.container-name": "app",
    "io.kubernetes.cri.image-name": "registry/app:1",
}
HOOK = {"stage": "poststop", "name": "h", "where": "host", "owner": "node", "result": "exit status 3", "seconds": 0.2}


@pytest.fixture
def end(node, monkeypatch):
    """Has a container end, with a line in its log; its bundle is gone then."""
    root = str(node.top / "ended")
    monkeypatch.setattr(paths, "ENDED", root)
    clock = iter(range(1000, 2000))
    monkeypatch.setattr(ended.time, "time", lambda: next(clock))

    def end(container_id, text, reason="its start failed", annotations=CRI):
        bundle = node.bundle(container_id, DUMB, annotations=annotations, hooks={"version": 1, "hooks": [HOOK]})
        BundleLog(str(bundle)).write("console", "", [text])
        more = {"mode": "systemd", "init": "systemd", "reason": reason}
        ended.keep("k8s.io", container_id, str(bundle), annotations=annotations, **more, root=root)
        index.unregister("k8s.io", container_id, root=node.index)
        return node

    return end


def show(capsys, node, *words):
    parser = argparse.ArgumentParser()
    logs.add(parser)
    assert logs.run(parser.parse_args(words), root=node.index) == 0
    printed = capsys.readouterr()
    return printed.out, printed.err


def test_the_log_of_a_container_that_has_ended_is_shown_and_that_it_has(capsys, end):
    node = end("abc123", "no \x1b[2J init found")
    out, err = show(capsys, node, "abc1")
    assert out.endswith("console: no  init found\n")
    assert err == "pouchrich: shop/web-0/app (abc123) ended at 1970-01-01T00:16:41Z: its start failed\n"
    assert show(capsys, node, "shop/web-0/app", "--hooks")[0] == ""
    (line,) = show(capsys, node, "k8s.io/abc123", "--json", "--follow")[0].splitlines()
    assert json.loads(line)["source"] == "console"


def test_of_a_name_that_ended_several_times_the_last_is_shown(capsys, end):
    end("abc", "first")
    node = end("def", "second")
    assert "second" in show(capsys, node, "shop/web-0/app")[0]
    assert "first" in show(capsys, node, "abc")[0]
    end("abd", "third", annotations={**CRI, "io.kubernetes.cri.sandbox-name": "web-1"})
    with pytest.raises(InvalidArgument, match="found 'ab', which means 2 containers, allowed one of"):
        show(capsys, node, "ab")
    with pytest.raises(NotFound, match="found 'xyz'"):
        show(capsys, node, "xyz")


def test_a_container_that_is_there_comes_first_and_the_previous_one_can_be_asked_for(capsys, end):
    node = end("abc", "the previous one")
    bundle = node.bundle("def", DUMB, annotations=CRI)
    BundleLog(str(bundle)).write("boot", "", ["the present one"])
    assert "the present one" in show(capsys, node, "shop/web-0/app")[0]
    assert "the previous one" in show(capsys, node, "shop/web-0/app", "--previous")[0]
    with pytest.raises(NotFound, match=r"ID: found 'def', allowed a container that ended and is kept \(see pouchrich"):
        show(capsys, node, "def", "--previous")


def test_inspect_shows_what_is_kept(capsys, end):
    node = end("abc", "x", reason="poststop hook h: exit status 3")
    parser = argparse.ArgumentParser()
    inspecting.add(parser)
    asked = {"root": node.index, "records": str(node.top / "none"), "survey": Survey(proc=node.proc)}
    assert inspecting.run(parser.parse_args(["abc"]), **asked) == 0
    out = capsys.readouterr().out
    for text in (
        "shop/web-0/app",
        "ended: 1970-01-01T00:16:41Z",
        "reason: poststop hook h: exit status 3",
        "exit status 3",
    ):
        assert text in out
    assert inspecting.run(parser.parse_args(["abc", "--json"]), **asked) == 0
    found = json.loads(capsys.readouterr().out)
    assert found == {
        "version": 1,
        "namespace": "k8s.io",
        "id": "abc",
        "pod": {"namespace": "shop", "name": "web-0"},
        "name": "app",
        "image": "registry/app:1",
        "mode": "systemd",
        "init": "systemd",
        "state": "ended",
        "ended_at": 1001,
        "reason": "poststop hook h: exit status 3",
        "hooks": [HOOK],
        "owed": [],
    }


def test_a_name_that_is_not_there_is_said_as_before(capsys, end, monkeypatch):
    monkeypatch.setattr(paths, "BUNDLES", "/nowhere")
    assert main(["logs", "none"]) == 1
    assert "ID: found 'none', allowed a rich container of this node (pouchrich ps)" in capsys.readouterr().err

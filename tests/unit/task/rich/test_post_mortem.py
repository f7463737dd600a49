"""shim.task.rich.post_mortem: which containers are kept when their bundles go, and with which reason."""

from types import SimpleNamespace

import pytest

from runtime import ended
from shim.task.hooks.hook_outcome import Result
from shim.task.rich import post_mortem
from shim.task.rich.subject import ContainerInfo


def result(stage, said, name="h", owner="node"):
    return Result(stage, name, "host", owner, said, 0.1)


KILLED = "systemd did not end within 10 s (rich.stop-timeout; built in) and was killed"


@pytest.mark.parametrize(
    ("start_failed", "results", "unusual", "reason"),
    [
        (False, [], "", None),
        (False, [result("prestart", "exit status 0"), result("poststop", "exit status 0")], "", None),
        (False, [result("prestart", "exit status 3")], "", None),  # `continue`
        (True, [result("prestart", "exit status 3")], "", "its start failed"),
        (False, [result("poststop", "exit status 3")], "", "poststop hook h: exit status 3"),
        (False, [result("poststop", "skipped: x", owner="pod")], "", "poststop hook h of the pod: skipped: x"),
        (False, [], KILLED, KILLED),
        (
            True,
            [result("poststop", "interrupted"), result("poststop", "exit status 1", "i")],
            KILLED,
            f"its start failed; {KILLED}; poststop hook h: interrupted; and 1 more",
        ),
    ],
)
def test_a_container_is_kept_if_it_did_not_end_as_it_should(
    tmp_path, monkeypatch, start_failed, results, unusual, reason
):
    monkeypatch.setattr(post_mortem.paths, "ENDED", str(tmp_path / "ended"))
    spec = {"annotations": {"io.kubernetes.cri.sandbox-name": "web-0", "io.kubernetes.cri.sandbox-namespace": "shop"}}
    about = ContainerInfo("c", "ns", str(tmp_path), "/", spec)
    boot = SimpleNamespace(init="sysvinit")
    plan = SimpleNamespace(mode="sbin-init", boot=boot)
    post_mortem.keep(about, plan, start_failed=start_failed, results=results, unusual=unusual)
    kept = [(one.head["pod"], one.head["mode"], one.head["init"], one.head["reason"]) for one in every(tmp_path)]
    assert kept == ([(["shop", "web-0"], "sbin-init", "sysvinit", reason)] if reason else [])


def every(tmp_path):
    return list(ended.every(root=str(tmp_path / "ended")))


def test_a_container_that_cannot_be_kept_ends_all_the_same(tmp_path, monkeypatch, caplog):
    (tmp_path / "ended").touch()
    monkeypatch.setattr(post_mortem.paths, "ENDED", str(tmp_path / "ended"))
    about = ContainerInfo("c", "ns", str(tmp_path), "/", {})
    plan = SimpleNamespace(mode="dumb-init", boot=None)
    post_mortem.keep(about, plan, start_failed=True, results=[], unusual="")
    (said,) = caplog.messages
    assert said.startswith("container c: its log is not kept: ")

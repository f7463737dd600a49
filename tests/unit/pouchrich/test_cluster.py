"""pouchrich.cluster: lines in another's file, where a handler belongs, what a node lacks, and what a probe came to."""

import dataclasses
import json
import os
import re
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pouchrich import processes, running
from pouchrich.checks import FAIL, OK, WARN, Check
from pouchrich.cluster import (
    block,
    handling,
    hold,
    membership,
    place,
    preflight,
    probe,
    restart,
    rollout,
    status,
    trial,
)
from pouchrich.commands import node as command
from pouchrich.node import InstallError
from pouchrich.node.layout import Layout
from pouchrich.program import Program
from pouchrich.running import Running

TEXTS = st.text(st.sampled_from("ab#=[]\n\r\t é"), max_size=40)
BEGIN = "# pouchrich: begin"
K0S = "# k0s_managed=true\n"


@given(TEXTS, TEXTS)
def test_lines_come_out_again_to_the_last_byte(text: str, more: str):
    once = block.within(text, "[a]\n  b = 1\n", "f")
    assert block.lines(once) == "[a]\n  b = 1\n"
    assert block.within(once, "[c]\n", "f") == block.within(text, "[c]\n", "f")
    assert block.without(once, "f") == text
    assert block.without(f"{once}{more}", "f") == f"{text}{more}" or not text.endswith("\n")


@pytest.mark.parametrize("cut", ["begin", "end"])
def test_a_mark_alone_is_refused_and_not_guessed_at(cut: str):
    text = "".join(line for line in block.within("a\n", "b\n", "f").splitlines(True) if f"pouchrich: {cut}" not in line)
    for change in (block.without, lambda text, path: block.within(text, "c\n", path)):
        with pytest.raises(InstallError, match="f: found one of the two pouchrich marks"):
            change(text, "f")


def test_a_file_keeps_its_mode_and_a_link_stays_one(tmp_path: Path):
    real = tmp_path / "real"
    real.write_text("a\r\n")
    real.chmod(0o640)
    link = tmp_path / "link"
    link.symlink_to("real")
    block.replace(str(link), f"{block.read(str(link))}b\n")
    assert (link.is_symlink(), real.read_bytes(), real.stat().st_mode & 0o777) == (True, b"a\r\nb\n", 0o640)
    block.replace(str(link), None)
    assert sorted(tmp_path.iterdir()) == [link]
    real.write_bytes(b"\xff")
    with pytest.raises(InstallError, match="allowed UTF-8"):
        block.read(str(real))


def test_nobody_else_can_open_what_takes_the_place_of_a_private_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A configuration of containerd may hold a registry's password."""
    modes: list[int] = []
    chown = os.fchown

    def seen(fd: int, uid: int, gid: int) -> None:
        modes.append(os.fstat(fd).st_mode & 0o777)
        chown(fd, uid, gid)

    monkeypatch.setattr(block.os, "fchown", seen)
    path = tmp_path / "f"
    path.write_text("before")
    path.chmod(0o600)
    Path(f"{path}.pouchrich-new").touch(0o666)  # a killed run's
    block.replace(str(path), "after")
    assert (path.read_text(), path.stat().st_mode & 0o777, modes) == ("after", 0o600, [0o600])
    block.replace(str(tmp_path / "new"), "a")
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o644


def test_a_power_cut_does_not_take_back_what_was_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    synced: list[str] = []
    monkeypatch.setattr(block.os, "fsync", lambda fd: synced.append(os.readlink(f"/proc/self/fd/{fd}")))
    path = tmp_path / "f"
    block.replace(str(path), "a")
    assert synced == [f"{path}.pouchrich-new", str(tmp_path)]
    block.replace(str(path), None)
    assert synced[2:] == [str(tmp_path)]


@pytest.mark.parametrize(
    ("kind", "text", "major", "how", "path"),
    [
        (
            "containerd",
            'version = 3\nimports = ["{d}/conf.d/*.toml"]\n',
            2,
            place.FILE_OF_OURS,
            "conf.d/pouchrich.toml",
        ),
        ("containerd", 'version = 3\nimports = ["conf.d/*.toml"]\n', 2, place.FILE_OF_OURS, "conf.d/pouchrich.toml"),
        ("containerd", 'version = 3\nimports = ["/x/*/y.toml"]\n', 2, place.LINES, "config.toml"),
        ("containerd", "version = 3\nimports = 5\n", 2, place.LINES, "config.toml"),
        ("containerd", 'version = 2\nimports = ["{d}/conf.d/*.toml"]\n', 2, place.LINES, "config.toml"),
        ("containerd", 'version = 2\nimports = ["{d}/conf.d/*.toml"]\n', 1, place.LINES, "config.toml"),
        (
            "containerd",
            "version = 4\nimports = ['{d}/conf.d/*.toml']\n",
            2,
            place.FILE_OF_OURS,
            "conf.d/pouchrich.toml",
        ),
        ("containerd", "version = 4\n", 2, place.LINES, "config.toml"),
        ("k3s", 'version = 3\nimports = ["{d}/config-v3.toml.d/*.toml"]\n', 2, place.FILE_OF_OURS, "config-v3.toml.d"),
        ("rke2", 'version = 2\nimports = ["{d}/config.toml.d/*.toml"]\n', 1, place.TEMPLATE, "config.toml.tmpl"),
        ("rke2", "version = 3\n", 2, place.TEMPLATE, "config-v3.toml.tmpl"),
        ("k0s", f"{K0S}version = 3\n", 2, place.MERGED, "containerd.d/pouchrich.toml"),
    ],
)
def test_where_each_distribution_takes_a_handler(tmp_path: Path, kind, text, major, how, path):
    config = tmp_path / "config.toml"
    config.write_text(text.replace("{d}", str(tmp_path)))
    found = place.find(Running(kind, "/s", 1, Program("/c"), str(config)), major)
    assert (found.how, os.path.relpath(found.path, tmp_path).startswith(path)) == (how, True), found
    assert f"version = {found.version}" in text.replace("4", "3")
    assert not found.is_done()
    Path(found.path).parent.mkdir(exist_ok=True)
    Path(found.path).write_text(found.text())
    assert found.is_done()
    assert not found._replace(lines=f"{found.lines}  x = 1\n").is_done()


@pytest.mark.parametrize(
    ("kind", "text", "major", "words"),
    [
        ("containerd", "version = 1\n", 1, "version: found 1, allowed 2: convert it to version 2"),
        ("containerd", "version = 3\n", 1, "version: found 3, allowed 2"),
        ("containerd", "version = 5\n", 2, "version: found 5, allowed 2, 3 or 4"),
        ("k0s", "version = 3\n", 2, "without which k0s does not read containerd.d: restore that line"),
        ("microk8s", "version = 2\n", 1, "microk8s: found no known place for its handlers"),
    ],
)
def test_where_there_is_no_place_it_is_said_why(tmp_path: Path, kind, text, major, words):
    config = tmp_path / "config.toml"
    config.write_text(text)
    with pytest.raises(InstallError, match=words):
        place.find(Running(kind, "/s", 1, Program("/c"), str(config)), major)


def test_what_a_node_lacks_is_listed_and_what_it_could_do_better_is_no_reason():
    preflight.refuse([Check(OK, "a", "b"), Check(WARN, "c", "d", "e")])
    with pytest.raises(InstallError, match="nothing was changed:\n  f: g\n    -> h\n  i: j\n    -> k"):
        preflight.refuse([Check(FAIL, "f", "g", "h"), Check(OK, "a", "b"), Check(FAIL, "i", "j", "k")])
    assert [preflight.kernel(one).level for one in ("5.9.16", "5.10.0-8-amd64", "6.1.0", "4.18.0-553.el8")] == [
        *(FAIL, OK, OK, FAIL)
    ]
    assert preflight.kernel("5.15+").level == OK


def test_what_apparmor_does_is_said(tmp_path: Path):
    def found(release: str) -> list[tuple[str, str]]:
        return [(one.level, one.found.partition(":")[0]) for one in preflight.apparmor(release, root=str(tmp_path))]

    assert found("6.18.0") == [(OK, "off")]
    for path, text in (
        (preflight.APPARMOR_ON, "Y\n"),
        (f"{preflight.APPARMOR}/features/domain/stack", "yes\n"),
        (preflight.APPARMOR_USERNS, "0\n"),
    ):
        file = tmp_path / path[1:]
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    assert found("6.8.0-41-generic") == [(OK, "on")]
    assert found("6.17.0") == [(WARN, "the kernel stacks profiles")]
    (tmp_path / preflight.APPARMOR_USERNS[1:]).write_text("1\n")
    assert [one for one, _ in found("6.8.0")] == [OK, WARN]


def test_a_containerd_whose_cri_is_disabled_gets_no_handler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Docker's packages of containerd come so."""
    monkeypatch.setattr(running, "version", lambda one: (2, 1))
    one = Running("containerd", "/s", os.getpid(), config=str(tmp_path / "config.toml"))

    def failed(text: str) -> list[str]:
        Path(one.config).write_text(text)
        return failures()

    def failures() -> list[str]:
        found = preflight.containerd(one, Layout.below(str(tmp_path)), str(tmp_path / "none.toml"))
        return [check.found for check in found if check.level == FAIL and check.what == "containerd at /s"]

    assert failures() == []  # it has no file, and containerd its defaults
    said = f"{one.config}: disabled_plugins: no kubelet can use a handler"
    assert failed('disabled_plugins = ["cri"]\n') == [said]
    assert failed("version = 3\n") == []
    assert failed("[")[0].startswith(f"{one.config}: found ")


def test_room_is_looked_for_where_it_will_be_needed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    layout = Layout.below(str(tmp_path / "not" / "there"))
    assert preflight.room(layout).level == OK
    monkeypatch.setattr(preflight, "ROOM_BYTES", 1 << 60)
    found = preflight.room(layout)
    assert (found.level, found.what, "--prefix DIR" in found.advice) == (FAIL, str(tmp_path), True)


def test_links_where_nothing_can_be_written_have_to_go_elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    layout = Layout.below(str(tmp_path))
    assert preflight.links(layout).level == OK
    flags = os.statvfs(tmp_path)
    read_only = os.statvfs_result([*flags[:8], flags.f_flag | os.ST_RDONLY, *flags[9:]])
    monkeypatch.setattr(preflight.os, "statvfs", lambda path: read_only)
    found = preflight.links(layout)
    assert (found.level, found.what, found.advice.startswith("--bin DIR")) == (FAIL, str(tmp_path), True)


def test_a_hold_is_the_nodes_file_or_annotation(tmp_path: Path):
    path = str(tmp_path / "hold")
    assert hold.reason({}, path) == ""
    assert hold.reason({hold.ANNOTATION: ""}, path) == "annotation pouchrich.io/hold: no reason given"
    Path(path).write_text("until Monday\n")
    assert hold.reason(None, path) == f"{path}: until Monday"


def test_a_socket_that_was_left_does_not_stand_beside_a_containerd_that_runs(tmp_path: Path):
    sockets = tuple((kind, str(tmp_path / kind)) for kind in ("containerd", "k3s"))
    with socket.socket(socket.AF_UNIX) as left, socket.socket(socket.AF_UNIX) as listening:
        left.bind(sockets[0][1])
        listening.bind(sockets[1][1])
        listening.listen()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(running, "SOCKETS", sockets)
            assert (preflight.the_one("auto").kind, preflight.the_one("auto").pid) == ("k3s", os.getpid())
            listening.close()
            with pytest.raises(InstallError, match="found containerd, k3s, allowed one"):
                preflight.the_one("auto")


@pytest.mark.parametrize("how", ["", " ", "kill 'x"])
def test_a_command_to_start_it_anew_that_is_none_is_refused(how: str):
    with pytest.raises(InstallError, match=f"--restart: found {re.escape(repr(how))}, "):
        restart.command(Running("containerd", "/s", os.getpid()), how)


def test_the_service_that_it_is_in_is_the_innermost(monkeypatch: pytest.MonkeyPatch):
    def unit(path: str) -> str:
        process = processes.look(os.getpid())._replace(cgroups={"": path})
        monkeypatch.setattr(restart, "look", lambda pid: process)
        return restart.unit_of(1)

    assert unit("/system.slice/k3s.service") == "k3s.service"
    assert unit("/docker.service/x/system.slice/containerd.service/init") == "containerd.service"
    assert unit("/user.slice") == ""


def owed_by(layout: Layout, **changes) -> None:
    debt = handling.Owed("containerd", "/s", block.read(handling.BOOT) or "", None)
    Path(layout.home, handling.OWED).write_text(json.dumps(dataclasses.asdict(dataclasses.replace(debt, **changes))))


def test_who_has_to_be_started_anew_is_known_by_when_it_began(tmp_path: Path):
    layout, one = Layout.below(str(tmp_path)), Running("containerd", "/s", os.getpid())
    layout.make()
    began = processes.look(os.getpid()).started_ticks
    assert not handling.owes_restart(layout, one)
    for changes, wanted in (
        ({}, True),
        ({"until_ticks": began}, True),
        ({"until_ticks": began - 1}, False),
        ({"socket": "/another"}, False),
        ({"boot": "another"}, False),
    ):
        owed_by(layout, **changes)
        assert handling.owes_restart(layout, one) is wanted, changes
        assert Path(layout.home, handling.OWED).exists()  # who only looks changes nothing
    Path(layout.home, handling.OWED).write_text("{")
    with pytest.raises(
        InstallError, match=r"restart-owed: found no record .*: restart containerd, and remove this file"
    ):
        handling.owed(layout)


def test_who_starts_containerd_anew():
    one = Running("containerd", "/s", os.getpid())
    assert restart.command(one, "never") is None
    assert restart.command(one, "rc-service 'x y' restart") == ["rc-service", "x y", "restart"]
    assert restart.command(one._replace(kind="k0s"), "auto") == []


def test_a_containerd_has_time_to_come_up():
    """k3s' and rke2's is started by a service that first has the whole of Kubernetes up."""
    patience_s = {kind: restart.patience_s(Running(kind, "/s")) for kind in ("containerd", "k0s", "k3s", "rke2")}
    assert patience_s == {"containerd": 120.0, "k0s": 120.0, "k3s": 600.0, "rke2": 600.0}


def test_a_record_of_a_later_version_is_read(tmp_path: Path):
    """As after a rollback."""
    layout = Layout.below(str(tmp_path))
    layout.make()
    one = handling.Changed("/etc/containerd/config.toml", "lines", "", True, "containerd", "/s")
    Path(layout.home, handling.CONFIGURED).write_text(json.dumps({**dataclasses.asdict(one), "new": 1}))
    assert handling.recorded(layout) == one
    owed_by(layout)
    path = Path(layout.home, handling.OWED)
    path.write_text(json.dumps({**json.loads(path.read_text()), "new": 1}))
    assert handling.owed(layout) is not None


def test_a_record_that_cannot_be_read_is_said(tmp_path: Path):
    layout = Layout.below(str(tmp_path))
    layout.make()
    Path(layout.home, handling.CONFIGURED).write_text('{"path": 1}')
    with pytest.raises(
        InstallError, match=r"containerd\.json: found no record .*: remove this file, and pouchrich's lines"
    ):
        handling.recorded(layout)


def ended(status: int, message: str) -> dict:
    one = {"name": "probe", "state": {"terminated": {"exitCode": status, "message": message, "reason": "Error"}}}
    return {"status": {"phase": "Failed", "containerStatuses": [one]}}


def test_a_probe_is_judged_by_pid_1_and_exit_status():
    for mode, init in probe.INITS.items():
        probe.judge(mode, ended(7, f"{init}\n"))
        injected = ended(7, init)  # by a webhook of a service mesh
        injected["status"]["containerStatuses"].insert(0, {"name": "proxy", "state": {"running": {}}})
        probe.judge(mode, injected)
    for wrong in (ended(7, "sh"), ended(0, "systemd"), {"status": {"phase": "Pending"}}, {}):
        with pytest.raises(InstallError, match="the probe pod of mode systemd did not run: "):
            probe.judge("systemd", wrong)
    waiting = {
        "name": "probe",
        "state": {"waiting": {"reason": "CreateContainerError", "message": "no runtime for it"}},
    }
    with pytest.raises(InstallError, match="Pending: CreateContainerError: no runtime for it"):
        probe.judge("dumb-init", {"status": {"phase": "Pending", "containerStatuses": [waiting]}})


@pytest.mark.parametrize("node", ["n", "ip-10-0-0-1.eu-central-1.compute.internal", "a" * 253])
def test_a_probe_has_a_name_that_a_pod_may_have(node: str):
    for mode in probe.INITS:
        name = probe.name_of(mode, node)
        assert len(name) <= 63
        assert name.strip("-") == name
        assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
        assert name != probe.name_of(mode, f"{node}x")


def test_what_a_pod_passes_on_to_the_node_is_understood_there(monkeypatch: pytest.MonkeyPatch):
    words = []
    monkeypatch.setattr(rollout.host, "run", lambda root, artefact, given: words.append(given) or 0)
    monkeypatch.setattr(rollout.install, "root", lambda: "/pouchrich")
    for line in (
        "install --root /host --containerd k3s --restart never --unattended --prefix /srv/x --probe dumb-init",
        "uninstall --root /host --wait 9 --force",
        "rollback --root /host",
        "status --root /host --json",
    ):
        parser = command.argparse.ArgumentParser()
        command.add(parser)
        assert rollout.run(parser.parse_args(line.split())) == 0
        again = parser.parse_args(words[-1][1:])
        assert (again.root, getattr(again, "node", None)) == (None, None)
    assert words[0] == [
        "node",
        "install",
        "--prefix",
        "/srv/x",
        "--containerd",
        "k3s",
        "--restart",
        "never",
        "--unattended",
    ]
    assert words[1] == ["node", "uninstall", "--restart", "auto", "--wait", "9.0", "--force"]
    assert words[2:] == [["node", "rollback"], ["node", "status", "--json"]]


def test_what_is_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    layout = Layout.below(str(tmp_path / "prefix"))
    monkeypatch.setattr(hold, "FILE", str(tmp_path / "hold"))
    monkeypatch.setattr(status.uninstall, "RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(status.apparmor, "ENABLED", str(tmp_path / "enabled"))
    found = status.of(layout)
    assert (found["installed"], found["containerd"], status.is_ready(found)) == (False, None, False)
    assert status.text(found).splitlines()[0] == f"no version is installed in {layout.home}"
    for name in ("1", "2"):
        Path(layout.home, name).mkdir(parents=True)
    for link, name in (("current", "2"), ("previous", "1"), ("rejected", "1")):
        Path(layout.home, link).symlink_to(name)
    found = status.of(layout)
    assert (found["current"], found["previous"], found["rejected"], status.is_ready(found)) == ("2", "1", "1", True)
    record = {"path": "/etc/c.toml", "how": place.LINES, "head": "", "made": False, "kind": "k3s", "socket": "/none"}
    Path(layout.home, handling.CONFIGURED).write_text(json.dumps(record))
    found = status.of(layout)
    assert not status.is_ready(found)
    assert status.text(found).splitlines() == [
        f"installed   2 in {layout.home}",
        "previous    1: the version that pouchrich node rollback restores",
        "rejected    1: was rolled back",
        "containerd  k3s at /none: no process listens there",
        "handler     /etc/c.toml (lines in the file)",
        "AppArmor    not in force",
        "needed by   0 pods and records of poststop hooks",
    ]


def dumped(**handlers: str) -> dict:
    runtimes = {name: {"runtime_type": kind} for name, kind in handlers.items()}
    return {"plugins": {"io.containerd.grpc.v1.cri": {"containerd": {"runtimes": runtimes}}}}


def test_a_trial_is_judged_by_what_else_it_changes():
    ours = {"pouchrich": "io.containerd.pouchrich.v2"}
    before = dumped(runc="io.containerd.runc.v2")
    trial.judge(dumped(runc="io.containerd.runc.v2", **ours), before, "f")
    with pytest.raises(InstallError, match="f: containerd would not read the handler there"):
        trial.judge(before, before, "f")
    with pytest.raises(InstallError, match="f: the handler there would change more than itself: plugins"):
        trial.judge(dumped(**ours), before, "f")
    with pytest.raises(InstallError, match="found one of another program, of type 'x'"):
        trial.judge(dumped(pouchrich="x"), before, "f")


def test_it_is_the_nodes_own_program_that_settles_what_is_owed(tmp_path: Path):
    """What it leaves behind must outlive a pod that gives the node back, and see the node's mounts."""
    layout = Layout.below(str(tmp_path))
    program = Path(layout.target("pouchrich"))
    program.parent.mkdir(parents=True)
    program.write_text(f'#!/bin/sh\necho "$@" >{tmp_path}/said\n')
    program.chmod(0o755)
    membership._settle(layout)
    assert (tmp_path / "said").read_text() == "node settle\n"
    program.unlink()
    membership._settle(layout)  # there is none any more

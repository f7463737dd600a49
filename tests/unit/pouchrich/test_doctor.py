"""pouchrich doctor: its judgements of files; what it finds out about a kernel is the root tests' business."""

import argparse
import json
import os

import pytest

from pouchrich import checks, containerd_checks, containers, node_agents, owed
from pouchrich.__main__ import main
from pouchrich.checks import FAIL, OK, WARN, Check
from pouchrich.commands import doctor
from pouchrich.output import plain
from pouchrich.program import Program
from runtime import config
from runtime.hooks.journal import Journal, path_of
from runtime.spec.cri import CONTAINER_NAME
from tests.unit.pouchrich.nodes import DUMB, SYSTEMD

TABLE = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rich]\n'
GOOD = (
    TABLE
    + 'runtime_type = "io.containerd.pouchrich.v2"\n'
    + 'pod_annotations = ["pouchrich.io/*"]\n'
    + 'container_annotations = ["io.kubernetes.pod.terminationGracePeriod"]\n'
)
OPTIONS = '[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.rich.options]\n'


def judged(tmp_path, text, version=(1, 7)):
    path = tmp_path / "config.toml"
    path.write_text(text)
    found = list(containerd_checks.containerd(str(path), version))
    return [(one.level, one.found) for one in found if one.level != OK], found


def test_a_good_handler_has_nothing_against_it(tmp_path):
    bad, found = judged(tmp_path, GOOD)
    assert bad == []
    assert [one.found for one in found][-1] == "configured by the node's file"


@pytest.mark.parametrize(("seconds", "level"), [(45, WARN), (1, OK)])
def test_how_long_a_lease_may_hold_up_agents_is_told_where_there_are_any(tmp_path, seconds, level):
    (tmp_path / "time").write_text(f"{seconds}\n")
    body = "[rich]\nlxcfs = false\n"
    agent = '[[agents]]\nname = "a"\ncommand = ["/x"]\nmounts = [{ source = "/srv/a", target = "/x" }]\n'
    assert list(checks.leases(config.parse(f"version = 1\n{body}", source="c"), str(tmp_path / "time"))) == []
    (one,) = checks.leases(config.parse(f"version = 1\n{body}{agent}", source="c"), str(tmp_path / "time"))
    assert one.level == level
    assert f"a file of /srv/a may wait for {seconds} s" in one.found


@pytest.mark.parametrize("name", ["cri", "io.containerd.grpc.v1.cri", "io.containerd.cri.v1.runtime"])
def test_a_containerd_for_docker_alone_needs_no_handler(tmp_path, name):
    """Docker's packages bring such a containerd, and name the shim themselves."""
    without = f'disabled_plugins = ["{name}"]\n'
    bad, found = judged(tmp_path, without)
    assert bad == []
    assert "disables the CRI plugin, so only clients that name the shim" in found[-1].found
    bad, _ = judged(tmp_path, without + GOOD)
    assert bad == [(FAIL, f"{tmp_path}/config.toml: disabled_plugins: no kubelet can use them")]
    assert judged(tmp_path, 'disabled_plugins = ["io.containerd.internal.v1.opt"]\n' + GOOD)[0] == []


@pytest.mark.parametrize("line", ['sandboxer = "shim"', 'io_type = "streaming"'])
def test_a_handler_of_another_kind_of_shim_is_a_failure(tmp_path, line):
    bad, _ = judged(tmp_path, f"{GOOD}{line}\n", (2, 3))
    assert bad == [(FAIL, f"{line}: for another kind of shim, with which no pod of this handler can run")]
    usual = line.replace("shim", "podsandbox").replace("streaming", "fifo")
    assert judged(tmp_path, f"{GOOD}{usual}\n", (2, 3))[0] == []


def test_a_configuration_that_containerd_refuses_is_a_failure(tmp_path):
    """2.3.4 does a file of version 3 below one of version 2."""
    (tmp_path / "config.toml").write_text(GOOD)
    program = tmp_path / "containerd"
    program.write_text("#!/bin/sh\necho 'containerd: drop-in config version 3 higher than 2' >&2\nexit 1\n")
    program.chmod(0o755)
    found = containerd_checks.others(str(tmp_path / "config.toml"), Program(str(program)))
    assert (found.level, found.advice) == (FAIL, "correct it before containerd is restarted")
    assert "containerd would not start with this: " in found.found
    assert found.found.endswith("config dump: containerd: drop-in config version 3 higher than 2")


def test_no_handler_is_a_failure_with_the_remedy(tmp_path):
    bad, found = judged(tmp_path, "version = 2\n")
    assert bad == [(FAIL, f"{tmp_path}/config.toml: none for this shim")]
    assert found[-1].advice.startswith("pouchrich runtimeclass --containerd here prints")
    (missing,) = containerd_checks.containerd(str(tmp_path / "none"), None)
    assert (missing.level, missing.found) == (FAIL, f"{tmp_path}/none: no such file or directory")


def test_annotations_that_containerd_keeps_are_named(tmp_path):
    (lost, cut), _ = judged(tmp_path, TABLE + 'runtime_type = "io.containerd.pouchrich.v2"\n')
    assert lost == (
        FAIL,
        "pod_annotations does not pass pouchrich.io/KEY: pods' settings have no effect, and no error says so",
    )
    assert cut[0] == WARN


def test_containerd_1_6_drops_inline_options(tmp_path):
    inline = GOOD + OPTIONS + "version = 1\n"
    bad, _ = judged(tmp_path, inline, (1, 6))
    assert [level for level, _ in bad] == [FAIL]
    assert "containerd 1.6 passes no other key" in bad[0][1]
    assert judged(tmp_path, inline, (1, 7))[0] == []


@pytest.mark.parametrize(
    ("kind", "advice"),
    [("pouchrich", "put the shim on containerd's PATH"), ("runc", "pods get containerd's own shim: use 1.7")],
)
def test_containerd_1_6_does_not_look_at_a_shims_path(tmp_path, kind, advice):
    shim = tmp_path / checks.SHIM
    shim.write_text("")
    shim.chmod(0o755)
    text = GOOD.replace("io.containerd.pouchrich.v2", f"io.containerd.{kind}.v2") + f'runtime_path = "{shim}"\n'
    ((level, found),), checked = judged(tmp_path, text, (1, 6))
    assert (level, found.partition(":")[0]) == (WARN, "runtime_path")
    assert [one.advice for one in checked if one.found == found] == [advice]
    assert judged(tmp_path, text, (1, 7))[0] == []


def test_inline_options_are_validated(tmp_path):
    bad, _ = judged(tmp_path, GOOD + OPTIONS + "version = 1\nnonsense = 2\n")
    assert bad[0][1].startswith("options: handler options: nonsense: found ")
    bad, _ = judged(tmp_path, GOOD + OPTIONS + "version = 1\nrich = { mode = 'auto' }\n")
    assert bad == []


def test_a_profile_that_a_handler_names_is_looked_for(tmp_path, monkeypatch):
    text = GOOD + OPTIONS + "version = 1\nrich = { apparmor-profile = 'ours' }\n"
    for file, content in (("enabled", "Y\n"), ("profiles", "")):
        (tmp_path / file).write_text(content)
    named = doctor.apparmor_node.named
    places = {file: str(tmp_path / file) for file in ("enabled", "profiles")}
    monkeypatch.setattr(doctor.apparmor_node, "named", lambda found: named(found, **places))
    bad, found = judged(tmp_path, text)
    assert [level for level, _ in bad] == [FAIL]
    assert "rich.apparmor-profile: profile ours is not loaded" in bad[0][1]
    assert [one.what for one in found if one.level == FAIL] == ["handler rich"]


def test_what_agents_lack_on_this_node_is_a_failure_of_the_node_and_of_a_handler(tmp_path, monkeypatch):
    monkeypatch.setattr(node_agents.os, "geteuid", lambda: 0)
    agents = f"agents = [{{ command = ['/x'], mounts = [{{ source = '{tmp_path}/none', target = '/x' }}] }}]\n"
    (found,) = node_agents.checks(config.parse(f"version = 1\n{agents}", source="c"))
    assert (found.level, found.what) == (FAIL, "agents of the configuration")
    assert found.found.startswith(f"c: agents[0].mounts[0].source: found nothing at {tmp_path}/none, allowed")
    bad, checked = judged(tmp_path, f"{GOOD}{OPTIONS}version = 1\n{agents}")
    assert [level for level, _ in bad] == [FAIL]
    assert f"handler options: agents[0].mounts[0].source: found nothing at {tmp_path}/none" in bad[0][1]
    assert [one.what for one in checked if one.level == FAIL] == ["agents of handler rich"]
    (found,) = node_agents.checks(config.parse("version = 1\nagents = [{ command = ['/x'] }]\n", source="c"))
    assert (found.level, found.found) == (OK, "1, this node has what they need")
    assert list(node_agents.checks(config.parse("version = 1\n", source="c"))) == []


def test_doctor_looks_at_the_agents_of_the_file_that_it_is_given(tmp_path, monkeypatch):
    monkeypatch.setattr(node_agents, "checks", lambda node: [Check(FAIL, "agents", node.source)])
    found = doctor.collect(None, None, str(tmp_path / "none"), str(tmp_path), str(tmp_path))
    assert ("configuration", FAIL) in [(area, one.level) for area, one in found if one.what == "agents"]


def test_a_configuration_that_is_not_in_place_is_judged(capsys, tmp_path, monkeypatch):
    """As from a checkout: by a relative path, and of a user."""
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "rich.toml"
    file.write_text("version = 1\n")
    file.chmod(0o666)

    def node(*words):
        main(["doctor", "--address", str(tmp_path / "none"), "--config", "rich.toml", "--json", *words])
        found = json.loads(capsys.readouterr().out)["checks"]
        return next((one["level"], one["found"]) for one in found if one["what"] == "node configuration")

    level, found = node()
    assert (level, found.partition(": ")[2].endswith("; --any-owner accepts it here, the shim does not")) == (
        FAIL,
        True,
    )
    assert node("--any-owner") == (OK, str(file))
    file.write_text('version = 1\n[[hooks.prestart]]\nwhere = "host"\ncommand = ["/no/such/hook"]\n')
    level, found = node("--any-owner")
    assert (level, "hooks.prestart[0].command[0]: found /no/such/hook: no such file" in found) == (FAIL, True)


def test_a_config_path_is_read_and_a_shim_that_is_missing_named(tmp_path):
    text = GOOD + f'runtime_path = "{tmp_path}/shim"\n' + OPTIONS + f'ConfigPath = "{tmp_path}/none.toml"\n'
    bad, _ = judged(tmp_path, text)
    assert bad == [
        (FAIL, f"runtime_path {tmp_path}/shim is no executable file"),
        (FAIL, f"options: handler options: ConfigPath: {tmp_path}/none.toml: no such file or directory"),
    ]


def test_lines_say_level_finding_and_remedy():
    found = [("kernel", Check(OK, "a", "fine", "unneeded")), ("kernel", Check(WARN, "b", "so so", "do this"))]
    found.append(("hooks", Check(FAIL, "c", "bad\x1b", "do that")))
    assert plain(doctor.document(found)) == (
        "kernel\n  ok   a: fine\n  warn b: so so\n       -> do this\nhooks\n  fail c: bad\\x1b\n       -> do that\n"
    )


def test_a_failure_is_exit_status_1_and_json_tells_which(capsys, tmp_path):
    (tmp_path / "node.toml").write_text("version = 2\n")
    parser = argparse.ArgumentParser()
    doctor.add(parser)
    words = ["--json", "--config", str(tmp_path / "node.toml"), "--containerd-config", str(tmp_path / "none")]
    given = parser.parse_args(words)
    assert doctor.run(given, records=str(tmp_path / "records")) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["version"], found["healthy"]) == (1, False)
    failed = {(one["area"], one["what"]) for one in found["checks"] if one["level"] == FAIL}
    assert {("configuration", "node configuration"), ("containerd", "handlers")} <= failed
    assert all(set(one) == {"area", "level", "what", "found", "advice"} for one in found["checks"])


@pytest.fixture
def record(tmp_path):
    """A record of two owed hooks, whose first was started."""
    head = {
        "boot": owed.journal.boot_id(),
        "subject": {"id": "abc", "containerd_namespace": "k8s.io"},
        "hooks": [{"name": "one", "owner": "node"}, {"name": "two", "owner": "pod"}],
    }
    made = Journal.create(path_of(str(tmp_path), "k8s.io", "abc"), head)
    made.owe()
    made.start(0)
    yield made
    made.close()


def test_a_record_with_a_living_holder_is_in_good_hands(record, tmp_path):
    (found,) = owed.read(str(tmp_path))
    assert (found.holder, found.before_boot) == (os.getpid(), False)
    assert found.hooks == (("one", "node", "started", ""), ("two", "pod", "owed", ""))
    assert list(checks.hooks(str(tmp_path))) == [
        Check(OK, "poststop hooks", "1 records, 1 of them held by a running process")
    ]


def test_a_record_without_a_holder_is_told_of_and_left_alone(record, tmp_path):
    record.close()
    warning, _ = checks.hooks(str(tmp_path))
    assert (warning.level, warning.found) == (
        WARN,
        f"k8s.io/abc: owed two of the pod, interrupted one: {record.path} is there and no process acts on it",
    )
    assert Journal.open(record.path) is not None


def test_the_spawners_directory_must_be_roots_alone(tmp_path):
    tmp_path.chmod(0o777)
    (found,) = checks.spawner(config.DEFAULT, str(tmp_path))
    assert found.level == FAIL
    assert "0777" in found.found


@pytest.mark.skipif(os.geteuid() != 0, reason="the directory has to be root's")
def test_dead_and_living_spawners_are_told_apart(tmp_path):
    tmp_path.chmod(0o711)
    (tmp_path / "spawner-1.sock.lock").write_text(str(os.getpid()))
    (tmp_path / "spawner-2.sock.lock").write_text("99999999")
    assert [(one.level, one.found) for one in checks.spawner(config.DEFAULT, str(tmp_path))] == [
        (WARN, "1 of 2 were killed"),
        (OK, f"alive, pid {os.getpid()}"),
    ]


@pytest.mark.parametrize(
    ("kind", "options", "version", "found"),
    [
        ("runc", "", (2, 1), "works where the OCI runtime has ID-mapped mounts"),
        ("pouchrich", OPTIONS, (2, 3), "is refused, because the handler has an options table"),
        ("pouchrich", "", (2, 1), "is refused: this containerd asks only its own runtime type"),
        ("pouchrich", "", (2, 3), "works with containerd 2.2.7, 2.3.4, 2.4 and later"),
        ("pouchrich", "", None, "works with containerd 2.2.7, 2.3.4, 2.4 and later"),
    ],
)
def test_what_becomes_of_a_pod_with_a_user_namespace(tmp_path, kind, options, version, found):
    shim = f'runtime_path = "{tmp_path}/{checks.SHIM}"\n'
    text = GOOD.replace("io.containerd.pouchrich.v2", f"io.containerd.{kind}.v2") + shim
    if options:
        text += f'{options}ConfigPath = "{tmp_path}/none.toml"\n'
    _, checked = judged(tmp_path, text, version)
    assert [one.found for one in checked if one.found.startswith(f"hostUsers: false {found}")]


def test_a_containerd_without_user_namespaces_is_not_asked_about_them(tmp_path):
    assert not [one for one in judged(tmp_path, GOOD, (1, 7))[1] if "hostUsers" in one.found]


def test_doctor_names_annotations_for_containers_that_a_pod_has_not(node):
    sandbox = {"io.kubernetes.cri.sandbox-id": "s1", "io.kubernetes.cri.sandbox-name": "web-0"}
    about = {**sandbox, "io.kubernetes.cri.sandbox-namespace": "shop", "pouchrich.io/mode.db": "auto"}
    about |= {"pouchrich.io/mode.side": "auto", "pouchrich.io/rich": "true"}
    for name in ("app", "web"):
        node.bundle(name, DUMB, annotations={**about, "io.kubernetes.cri.container-name": name})
    plain = node.top / "state/k8s.io/other"  # which has no plan of ours
    plain.mkdir()
    (plain / "config.json").write_text(json.dumps({"annotations": {**sandbox, CONTAINER_NAME: "side"}}))
    found = list(checks._unclaimed(containers.every(root=node.index)))
    assert [(one.level, one.what) for one in found] == [(WARN, "shop/web-0")]
    assert found[0].found == (
        "annotation pouchrich.io/mode.db is for none of the containers that the pod has now: app, side, web"
    )


def test_doctor_repeats_what_plans_warn_of(node):
    node.bundle("abc", DUMB)
    found = list(checks.containers(node.index))
    assert [(one.level, one.what, one.found) for one in found] == [
        (WARN, "k8s.io/abc", "one warning"),
        (OK, "rich containers", "1"),
    ]


def test_a_plan_of_another_version_keeps_no_other_from_being_judged(node):
    record = node.bundle("abc", SYSTEMD) / "pouchrich.json"
    found = json.loads(record.read_text())
    found["plan"]["boot"]["later"] = 1
    record.write_text(json.dumps(found))
    node.bundle("def", DUMB)
    one, other, *_, whole = checks.containers(node.index)
    assert (one.level, one.what, one.found[:39]) == (WARN, "k8s.io/abc", "its plan was made by another version of")
    assert (other.what, whole.found) == ("k8s.io/def", "2")


def test_an_oci_runtime_is_looked_for_where_containerd_does(tmp_path):
    (found,) = checks.oci(config.DEFAULT, search=str(tmp_path))
    assert found.level == FAIL
    (tmp_path / "crun").write_text("#!/bin/sh\necho crun version 1\n")
    (tmp_path / "crun").chmod(0o755)
    (found,) = checks.oci(config.DEFAULT, search=str(tmp_path))
    assert (found.level, found.found.startswith(f"{tmp_path}/crun (crun version 1)")) == (OK, True)


def test_the_areas_are_those_that_its_help_names(tmp_path):
    areas = {area for area, _ in doctor.collect(None, None, str(tmp_path / "none"), str(tmp_path), str(tmp_path))}
    assert doctor.__doc__ is not None
    named = doctor.__doc__.partition('"area": ')[2].partition(",")[0]
    assert areas <= set(named.replace("|", " ").split())

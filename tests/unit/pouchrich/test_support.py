"""pouchrich support: a bundle that tells of a node, and not of who uses it."""

import argparse
import json
import tarfile
import time
import tomllib

import pytest

from pouchrich import running
from pouchrich.commands import support
from pouchrich.redaction import GONE, Redaction
from pouchrich.survey import Survey
from runtime import config, ended, index, paths
from runtime.bundle_log import BundleLog
from tests.unit.pouchrich.nodes import SYSTEMD

CRI = {
    "io.kubernetes.cri.sandbox-name": "acme-ledger-0",
    "io.kubernetes.cri.sandbox-namespace": "acme-payments",
    "io.kubernetes.cri.container-name": "reconciler",
    "io.kubernetes.cri.image-name": "registry.acme.example/ledger:7",
}


@pytest.fixture
def written(node, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(running, "SOCKETS", ())
    path = node.bundle("0123abcd" * 8, SYSTEMD, annotations=CRI, init=10, state={"init": 10, "application": 11})
    node.process(10, 5, "systemd", "/sbin/init", cgroup="/p")
    node.process(11, 10, "app", "/srv/acme/bin/app", "--token=hunter2", cgroup="/p")
    BundleLog(str(path)).write("agent", "audit", ["acme-ledger-0 has password=hunter2 from 10.1.2.3"])

    monkeypatch.setattr(paths, "ENDED", str(tmp_path / "ended"))

    def write(*words):
        parser = argparse.ArgumentParser()
        support.add(parser)
        file = str(tmp_path / f"b{len(words)}.tar.gz")
        given = parser.parse_args(["--output", file, "--json", *words])
        survey = Survey(proc=node.proc, tickets=str(tmp_path / "none"))
        assert support.run(given, root=node.index, records=str(tmp_path / "records"), survey=survey) == 0
        about = json.loads(capsys.readouterr().out)
        assert (tmp_path / file).stat().st_mode & 0o777 == 0o600
        with tarfile.open(file) as archive:
            found = {one.name: archive.extractfile(one).read().decode() for one in archive}
        assert [f"pouchrich-support/{name}" for name in about["entries"]] == list(found)
        return found

    return write


def test_names_commands_and_secrets_are_taken_out(written):
    found = written()
    everything = "\n".join(found.values())
    for secret in ("acme", "reconciler", "0123abcd0123", "hunter2", "10.1.2.3", "--token"):
        assert secret not in everything, secret
    (container,) = json.loads(found["pouchrich-support/containers.json"])
    assert (container["state"], container["mode"], container["pod"]["name"]) == ("running", "systemd", "name-1")
    assert container["parts"][1]["command"] == f"app {GONE}"
    assert container["log"][0].endswith(f"agent: name-1 has password={GONE} from ADDRESS")
    assert {"pouchrich-support/doctor.json", "pouchrich-support/config.toml", "pouchrich-support/versions.json"} <= set(
        found
    )


def test_a_private_key_in_a_log_is_taken_out_whatever_is_written_between_its_lines(written, node):
    log = BundleLog(str(node.top / "state/k8s.io" / ("0123abcd" * 8)))
    for name, line in (
        ("fetch", "-----BEGIN PRIVATE KEY-----"),
        ("audit", "all is well"),
        ("fetch", "hunter2"),
        ("fetch", "-----END PRIVATE KEY-----"),
        ("fetch", "done"),
    ):
        log.write("hook", name, [line])
    container, *_ = json.loads(written()["pouchrich-support/containers.json"])
    texts = [line.partition(" ")[2] for line in container["log"][-5:]]
    assert texts == [f"hook: {GONE}", "hook: all is well", f"hook: {GONE}", f"hook: {GONE}", "hook: done"]


@pytest.mark.parametrize("words", [(), ("--names",)], ids=["without names", "with names"])
def test_what_is_kept_of_containers_that_failed_is_there_too(written, tmp_path, words):
    bundle = tmp_path / "gone"
    bundle.mkdir()
    BundleLog(str(bundle)).write("init", "", ["Failed to mount /srv/cellar for token=hunter2"])
    (bundle / "hooks.json").write_text(json.dumps({"hooks": [{"name": "prepare-cellar", "result": "timed out"}]}))
    cri = CRI | {"io.kubernetes.cri.sandbox-name": "cellar-0", "io.kubernetes.cri.container-name": "cellar"}
    ended.keep(
        "k8s.io", "ce11a" * 12, str(bundle), annotations=cri, mode="systemd", init="/sbin/init",
        reason="hook prepare-cellar timed out", root=str(tmp_path / "ended"),
    )  # fmt: skip
    found = written(*words)["pouchrich-support/ended.json"]
    (one,) = json.loads(found)
    assert one["mode"] == "systemd"
    assert one["reason"] == ("hook prepare-cellar timed out" if words else "hook name-5 timed out")
    assert one["log"][0].partition(" ")[2].startswith("init: Failed to mount /srv/")
    assert "hunter2" not in found
    assert ("cellar" in found) == bool(words)
    assert [hook["result"] for hook in one["hooks"]] == ["timed out"]


def test_names_stay_where_they_are_asked_for_and_secrets_do_not(written):
    found = written("--names")
    (container,) = json.loads(found["pouchrich-support/containers.json"])
    assert container["pod"]["name"] == "acme-ledger-0"
    assert container["parts"][1]["command"] == f"app {GONE}"
    assert container["log"][0].endswith(f"agent: acme-ledger-0 has password={GONE} from ADDRESS")
    everything = "\n".join(found.values())
    for secret in ("hunter2", "10.1.2.3", "--token"):
        assert secret not in everything, secret


HOOK = """
version = 1
[[hooks.prestart]]
name = "acme-fetch"
where = "host"
command = ["/bin/fetch", "--password", "hunter2"]
env = { API_KEY = "k3y", DSN = "postgres-of-acme" }
when = { namespace = ["acme-payments"] }
"""


def test_no_name_keeps_a_secret_in_the_file(written, node):
    """A container chooses what its processes are called, and a pod what its containers are."""
    for number, name in enumerate(("pass", "secre", "toke", "auth")):
        cri = CRI | {"io.kubernetes.cri.container-name": name}
        node.bundle(f"{number}" * 64, SYSTEMD, annotations=cri, init=20 + number, state={"init": 20 + number})
        node.process(20 + number, 5, name, name, cgroup=f"/{name}")
    found = written()
    assert "hunter2" not in "".join(found.values())


def test_the_names_of_containers_that_are_not_rich_are_taken_out_too(written, node):
    about = CRI | {"io.kubernetes.cri.sandbox-id": "s", "pouchrich.io/mode.nobody": "systemd"}
    node.bundle("1" * 64, SYSTEMD, annotations=about, init=30, state={"init": 30})
    node.bundle("2" * 64, SYSTEMD, annotations=about | {"io.kubernetes.cri.container-name": "proxy-of-a"})
    index.unregister("k8s.io", "2" * 64, root=node.index)
    found = written()["pouchrich-support/doctor.json"]
    assert "is for none of the containers" in found
    assert "proxy-of-a" not in found


def test_processes_names_are_told_of_nothing_but_processes(written):
    found = written()
    first, *_ = json.loads(found["pouchrich-support/containers.json"])
    assert (first["mode"], first["init"]) == ("systemd", "systemd")
    assert "systemd" in found["pouchrich-support/config.toml"]


def test_the_nodes_configuration_loses_arguments_variables_and_names(written, monkeypatch):
    monkeypatch.setattr(support, "load_node", lambda **_: config.parse(HOOK, source="/etc/pouchrich/config.toml"))
    found = written()["pouchrich-support/config.toml"]
    (hook,) = tomllib.loads(found)["hooks"]["prestart"]
    assert (hook["command"], hook["env"]) == ([f"fetch {GONE}"], GONE)
    for secret in ("acme", "hunter2", "k3y"):
        assert secret not in found, secret


def test_a_file_that_is_there_is_not_overwritten(written):
    written()
    with pytest.raises(FileExistsError):
        written()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x=password=hunter2 y", f"x=password={GONE} y"),
        ("--db-Password:\thunter2", f"--db-Password:\t{GONE}"),
        ("key=rich.mode tokens", "key=rich.mode tokens"),
        ("see git+https://me:hunter2@host/x", f"see {GONE}@host/x"),
        ('password = "x y" z', f"password = {GONE} z"),
        ("password='x y' z", f"password={GONE} z"),
        ('password="x y', f"password={GONE} y"),
        (r'DB_PASSWORD = "ab\"cd-rest" z', f"DB_PASSWORD = {GONE} z"),
        ("""PASSWORD='it'"'"'s-rest' z""", f"PASSWORD={GONE} z"),
        ('password="ab"cdef', f"password={GONE}"),
        ('PASSWORD=""hunter2', f"PASSWORD={GONE}"),
        (
            '{"password":"hunter2","Authorization":"Bearer abc","n":[{"token": "x"}]}',
            f'{{"password":{GONE},"Authorization":{GONE},"n":[{{"token": {GONE}}}]}}',
        ),
        ('Authorization: Digest username="u", response="66"\nnext', f"Authorization: {GONE}\nnext"),
        ('"Authorization": "Digest a, b", "c": 1', f'"Authorization": {GONE}, "c": 1'),
        ("auth: abc", f"auth: {GONE}"),
        ("Authorization: Bearer abc.def z\nnext", f"Authorization: {GONE}\nnext"),
        ("Authorization: Token hunter2", f"Authorization: {GONE}"),
        ("cookie: session=hunter2; id=hunter3", f"cookie: {GONE}"),
        ('{"auth": {"password": "hunter2", "x": "hunter3"}} z', f'{{"auth": {GONE}}} z'),
        ("auth: password: hunter2 z", f"auth: {GONE} z"),
        (r"{\"password\": \"hunter2 x\", \"a\": 1}", rf"{{\"password\": {GONE}, \"a\": 1}}"),
        ('tokens = ["aa", "hunter2"] z', f"tokens = {GONE} z"),
        ("token => hunter2 z", f"token => {GONE} z"),
        ("password := hunter2 z", f"password := {GONE} z"),
        ("password == hunter2 z", f"password == {GONE} z"),
        ("\x1b[31mpassword\x1b[0m=hunter2 z", f"password={GONE} z"),
        ("API_KEY=hunter2 X-Api-Key: hunter2", f"API_KEY={GONE} X-Api-Key: {GONE}"),
        ("db_pwd=hunter2 z", f"db_pwd={GONE} z"),
        ("curl --password hunter2 --user-token 'a b' z", f"curl --password {GONE} --user-token {GONE} z"),
        ("--password = hunter2 z", f"--password = {GONE} z"),
        ("HTTPS://u:hun@ter2@h/x postgres://u:hun/ter2@h", f"{GONE}@h/x {GONE}@h"),
        ("-----BEGIN RSA PRIVATE KEY-----\nhunter2\n-----END RSA PRIVATE KEY-----\nz", f"{GONE}\nz"),
        ("Authorization: basic", f"Authorization: {GONE}"),
        ("said eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2ln to it", f"said {GONE} to it"),
        ("https://user:pw@host/x", f"{GONE}@host/x"),
        ("at 192.168.7.250:80", "at ADDRESS:80"),
        ("Author wrote", "Author wrote"),
    ],
)
def test_texts_lose_what_looks_like_a_secret(text, expected):
    assert Redaction().text(text) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("dial tcp [fd00:1:2::5]:443: refused", "dial tcp [ADDRESS]:443: refused"),
        ("2001:DB8:0:1:0:0:0:7/64 dev eth0", "ADDRESS/64 dev eth0"),
        ("via fe80::1%eth0, fd00::", "via ADDRESS%eth0, ADDRESS"),
        ("::ffff:10.1.2.3, 64:ff9b:1::10.1.2.3.", "ADDRESS, ADDRESS."),
        ("ping: fd00::5: No route, 2001:db8::1: down", "ping: ADDRESS: No route, ADDRESS: down"),
        ("fd00:1:2:3:4:5:6:7: x", "ADDRESS: x"),
        ("{IP:fd00:10::5 Port:80} addr:fd00::5", "{IP:ADDRESS Port:80} addr:ADDRESS"),
        ("0::/kubepods/pod1 and ::1 and std::move and ::", "0::/kubepods/pod1 and ::1 and std::move and ::"),
        ("at 12:34:56, 1:2:3, cafe:babe", "at 12:34:56, 1:2:3, cafe:babe"),
        (":" * 9, ":" * 9),
    ],
)
def test_addresses_of_version_6_are_replaced_and_nothing_that_looks_alike(text, expected):
    assert Redaction().text(text) == expected


def test_values_of_variables_and_secrets_are_gone_and_structure_is_kept():
    found = Redaction().value(
        {
            "env": ["A=1", "B=2"],
            "annotations": {"x": "y"},
            "apiKey": "k",
            "api_key": "k",
            "n": [1, {"token": 5}],
            "t": True,
        }
    )
    assert found == {
        "env": [GONE, GONE],
        "annotations": GONE,
        "apiKey": "k",
        "api_key": GONE,
        "n": [1, {"token": GONE}],
        "t": True,
    }


@pytest.mark.parametrize(
    "run",
    [
        "pass-",
        "a-",
        "1.",
        "-----BEGIN PRIVATE KEY-----",
        "-----END PRIVATE KEY-----",
        "A/",
        "\n",
        "pass=",
        " = ",
        "x://",
        "eyJa.",
        "eyJ-",
    ],
)
@pytest.mark.parametrize(
    "more", ["", 'pass="', 'pass="\\', "pass=[", 'pass={"', "--pass ", "cookie: ", "x://a@", "\x1b["]
)
def test_a_text_costs_time_by_its_length_alone(run, more):
    """A container writes what is in logs. Seconds of processor time, of which some took minutes."""
    began = time.process_time()
    Redaction().text(run * (1 << 14) + more * (1 << 14) + (run + more) * (1 << 13))
    assert time.process_time() - began < 2

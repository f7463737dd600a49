"""The handler put into the configuration of real containerds and taken out, with a real restart, killed at any step."""

import itertools
import json
import os
import shutil
import signal
import socket
import stat
import subprocess
import sys
import time
import tomllib
from contextlib import suppress
from pathlib import Path

import pytest

from pouchrich import containerd_config, containerd_dump, running
from pouchrich.cluster import block, handling, host, membership, place, preflight, restart, status, trial
from pouchrich.node import InstallError, uninstall
from pouchrich.node.layout import Layout
from pouchrich.node.lock import locked
from pouchrich.program import Program
from pouchrich.running import Running
from runtime.config.render import toml
from runtime.linux import mountinfo
from tests.integration import processes
from tests.root.containerd_site import NEW, OLD, SITE, program

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

CASES = [
    ("1.6", 2, "imports"),
    ("1.7", 2, "imports"),
    ("2.1", 2, "imports"),
    ("2.1", 3, "imports"),
    ("2.1", 3, "alone"),
    ("1.7", 2, "no end of line"),
    ("1.7", None, "no file"),
    ("2.1", None, "no file"),
    ("1.7", 2, "k3s"),
    ("2.1", 3, "k3s"),
    ("2.1", 3, "old k3s"),
    ("2.1", 3, "templates"),
    ("1.7", 2, "no handlers"),
    ("1.6", 2, "no handlers"),
]
if os.path.isdir(OTHER := os.environ.get("POUCHRICH_CONTAINERD", "")):  # of 2.3 or later
    CASES += [(OTHER, 4, "imports"), (OTHER, 4, "alone")]
STEPS = ("os.mkdir", "os.remove", "os.rename", "os.rmdir")


class Site:
    """A directory with a containerd's configuration, and an installation beside it."""

    def __init__(self, base, release, version, kind):
        self.base, self.release, self.kind = base, release, kind
        base.mkdir(exist_ok=True)
        self.etc = base / "etc"
        self.etc.mkdir()
        self.config = self.etc / "config.toml"
        is_k3s = kind in ("k3s", "old k3s", "templates")
        name = {2: "config.toml.d", 3: "config-v3.toml.d"}.get(version)
        imported = name if is_k3s else "conf.d"
        text = f'version = {version}\nimports = ["{self.etc}/{imported}/*.toml"]\n{SITE.get(version)}'
        if kind in ("alone", "old k3s", "templates"):
            text = f"version = {version}\n{SITE[version]}"
        if kind == "no handlers":  # as Debian has it
            text = f'version = 2\n[plugins."{OLD}"]\n  sandbox_image = "site/pause:1"\n'
        if kind == "no end of line":
            text = text.rstrip("\n")
        if kind != "no file":
            self.config.write_text(text)
            self.config.chmod(0o640)
        if kind == "templates":
            (self.etc / "config-v3.toml.tmpl").write_text('{{ template "base" . }}\n# the site\'s\n')
        self.layout = Layout.below(str(base / "prefix"))
        self.one = Running(
            "k3s" if is_k3s else "containerd", "/none", os.getpid(), Program(program(release)), str(self.config)
        )

    def place(self):
        version = containerd_config.version_of(self.one.program)
        assert version is not None
        return place.find(self.one, version[0])

    def put(self):
        with locked(self.layout):
            return handling.put(self.layout, self.one, self.place())

    def take_out(self):
        with locked(self.layout):
            return handling.take_out(self.layout, self.one)

    def files(self):
        return {
            str(path.relative_to(self.etc)): (path.stat().st_mode, path.read_bytes() if path.is_file() else b"")
            for path in sorted(self.etc.rglob("*"))
        }

    def names(self):
        """All but directories that are made, which go with the installation."""
        return {name for name in self.files() if not name.endswith(".d")}

    def handlers(self):
        """What containerd sees, as it will be where a template has been rendered."""
        where = self.place()
        if where.how != place.TEMPLATE:
            return containerd_dump.handlers(containerd_dump.dump(self.one.program, self.one.config))
        rendered = self.etc / "rendered"
        base = block.read(self.one.config)
        template = block.read(where.path) or ""
        rendered.write_text(template.replace(place._BASE, base))
        try:
            return containerd_dump.handlers(containerd_dump.dump(self.one.program, str(rendered)))
        finally:
            rendered.unlink()


@pytest.fixture(params=CASES, ids=lambda case: "-".join(map(str, case)))
def site(request, tmp_path):
    return Site(tmp_path, *request.param)


def test_a_handler_is_put_where_it_belongs_and_taken_out_to_the_last_byte(site):
    before = site.files()
    where = site.place()
    assert site.put()
    handlers = site.handlers()
    assert {"runc", "pouchrich"} <= handlers.keys()
    assert handlers["pouchrich"]["pod_annotations"] == ["pouchrich.io/*"]
    assert where.how == {
        ("2.1", "imports"): {2: place.LINES, 3: place.FILE_OF_OURS}.get(where.version),
        (OTHER, "imports"): place.FILE_OF_OURS,
        ("2.1", "k3s"): place.FILE_OF_OURS,
        ("1.7", "k3s"): place.TEMPLATE,
        ("2.1", "old k3s"): place.TEMPLATE,
        ("2.1", "templates"): place.TEMPLATE,
    }.get((site.release, site.kind), place.LINES)
    if "config.toml" in before:
        assert site.files()["config.toml"][0] == before["config.toml"][0]
    there = site.files()
    assert not site.put()
    assert site.files() == there

    assert handling.owes_restart(site.layout, site.one)
    assert site.take_out()
    assert not site.take_out()
    after = site.files()
    made = {"conf.d", "config-v3.toml.d"}  # directories, which go with the installation
    assert {name: one for name, one in after.items() if name not in made} == before


def test_what_somebody_else_writes_meanwhile_stays(site):
    if site.place().how in (place.FILE_OF_OURS, place.MERGED) or site.kind == "no file":
        pytest.skip("nobody else writes there")
    site.put()
    path = Path(site.place().path)
    path.write_text("# above\n" + path.read_text() + "# below\n")
    site.take_out()
    assert path.read_text().startswith("# above\n")
    assert path.read_text().endswith("# below\n")
    assert "pouchrich" not in path.read_text()


def tables(name, table):
    """TOML of a table as go-toml writes it: a header for each table, keys in order, no comments."""
    values = "".join(
        f"  {json.dumps(key)} = {toml(value)}\n" for key, value in sorted(table.items()) if not isinstance(value, dict)
    )
    inner = [tables([*name, key], value) for key, value in sorted(table.items()) if isinstance(value, dict)]
    header = f"\n[{'.'.join(map(json.dumps, name))}]\n" if name else ""
    return "".join([header, values, *inner])


def rewrite(site, changed=lambda document: None):
    """Have another program write the configuration anew, as nvidia-ctk does, with what `changed` makes of it."""
    document = tomllib.loads(site.config.read_text())
    changed(document)
    site.config.write_text(tables([], document))
    assert "pouchrich: begin" not in site.config.read_text()


def runtimes(document):
    return document["plugins"][next(iter(set(document["plugins"]) & {OLD, NEW}))]["containerd"]["runtimes"]


def add_nvidia(document):
    runtimes(document)["nvidia"] = {"runtime_type": "io.containerd.runc.v2", "options": {"BinaryName": "/usr/bin/n"}}


def test_a_handler_whose_marks_another_program_has_dropped_is_known_and_taken_out(site):
    if site.place().how != place.LINES:
        pytest.skip("nobody writes that file anew")
    before = site.handlers() if site.config.exists() else None
    site.put()
    record = handling.recorded(site.layout)
    rewrite(site, add_nvidia)
    with locked(site.layout):
        handling.settle(site.layout)
    there = site.files()
    assert not site.put()
    assert (site.files(), handling.recorded(site.layout), handling.owed(site.layout)) == (there, record, None)
    named = {key: value for key, value in tomllib.loads(site.config.read_text()).items() if key != "plugins"}
    assert site.take_out()
    assert handling.recorded(site.layout) is None
    assert handling.owes_restart(site.layout, site.one)
    text = site.config.read_text()
    assert "pouchrich" not in text
    assert {key: value for key, value in tomllib.loads(text).items() if key != "plugins"} == named
    after = site.handlers()
    assert after.pop("nvidia")["options"]["BinaryName"] == "/usr/bin/n"
    assert before is None or after == before
    assert "runc" in after
    assert not site.take_out()


def test_one_of_ours_that_is_no_longer_right_is_replaced_there(tmp_path):
    site = Site(tmp_path, "1.7", 2, "imports")
    before = tomllib.loads(site.config.read_text())
    site.put()
    rewrite(site, lambda document: runtimes(document)["pouchrich"].update(runtime_path="/opt/former/shim"))
    assert site.put()
    assert site.place().is_done()
    assert "runtime_path" not in site.config.read_text()
    site.take_out()
    assert tomllib.loads(site.config.read_text()) == before


def test_one_in_another_form_is_as_good(tmp_path):
    site = Site(tmp_path, "1.7", 2, "imports")
    site.put()
    ours = runtimes(tomllib.loads(site.config.read_text()))["pouchrich"]
    inline = ", ".join(f"{key} = {toml(value)}" for key, value in ours.items())
    site.config.write_text(f'version = 2\n[plugins."{OLD}".containerd.runtimes]\n  pouchrich = {{ {inline} }}\n')
    there = site.files()
    assert not site.put()
    assert (site.files(), handling.recorded(site.layout).path) == (there, str(site.config))


def test_a_file_that_was_made_and_written_anew_goes(tmp_path):
    site = Site(tmp_path, "2.1", None, "no file")
    site.put()
    rewrite(site)
    site.take_out()
    assert site.names() == set()


@pytest.mark.parametrize("name", ["pouchrich", "mine"])
def test_a_handler_that_somebody_else_wrote_is_none_of_ours(tmp_path, name):
    site = Site(tmp_path, "1.7", 2, "imports")
    site.put()
    other = {"runtime_type": "io.x.v1"} if name == "pouchrich" else {"runtime_type": "io.containerd.pouchrich.v2"}
    rewrite(site, lambda document: runtimes(document).update({name: other}))
    site.take_out()
    assert runtimes(tomllib.loads(site.config.read_text())).keys() == {"runc", name}


def test_a_handler_without_marks_in_another_form_is_left_to_the_operator_and_not_forgotten(tmp_path):
    for number, (case, text) in enumerate(
        (
            (("1.7", 2, "imports"), 'version = 2\n[plugins."{OLD}".containerd.runtimes]\n  pouchrich = {{{type}}}\n'),
            (
                ("1.7", 2, "k3s"),
                '{{{{ template "base" . }}}}\n[plugins."{OLD}".containerd.runtimes.pouchrich]\n{type}\n',
            ),
        )
    ):
        site = Site(tmp_path / str(number), *case)
        site.put()
        with locked(site.layout):
            handling.settle(site.layout)
        record = handling.recorded(site.layout)
        path = Path(record.path)
        path.write_text(text.format(OLD=OLD, type='runtime_type = "io.containerd.pouchrich.v2"'))
        there = site.files()
        for act in (site.put, site.take_out):
            with pytest.raises(InstallError) as caught:
                act()
            assert str(caught.value) == (
                f"{path}: found the handler pouchrich without pouchrich's marks, in a form that cannot be removed: "
                "remove its table by hand, then run this again"
            )
            assert (site.files(), handling.recorded(site.layout), handling.owed(site.layout)) == (there, record, None)
        path.write_text(text.partition("[")[0].format())  # by hand
        assert site.take_out()
        assert handling.recorded(site.layout) is None


def test_another_handler_of_the_name_and_a_wrong_configuration_are_refused(tmp_path):
    site = Site(tmp_path, "2.1", 3, "imports")
    kept = site.config.read_text()
    site.config.write_text(f'{kept}[plugins."{NEW}".containerd.runtimes.pouchrich]\n  runtime_type = "io.x.v1"\n')
    before = site.files()
    with pytest.raises(InstallError, match=r"handler pouchrich: found one of another program, of type 'io\.x\.v1'"):
        site.put()
    assert site.files() == before
    site.config.write_text(f"{kept}[plugins\n")
    with locked(site.layout), pytest.raises(InstallError, match="containerd refuses its present configuration"):
        handling.put(site.layout, site.one, place.Place(str(site.config), place.LINES, 3, ""))
    site.config.write_text("version = 1\n")
    with pytest.raises(InstallError, match="version: found 1, allowed 2, 3 or 4"):
        site.place()


def test_a_handler_that_would_take_the_sites_away_is_refused_and_nothing_stays(tmp_path):
    site = Site(tmp_path, "1.7", 2, "imports")
    there = site.place()
    wrong = place.Place(f"{site.etc}/conf.d/pouchrich.toml", place.FILE_OF_OURS, 2, there.lines, "version = 2\n")
    before = site.files()
    with (
        locked(site.layout),
        pytest.raises(InstallError, match=r"the handler there would change more than itself: .*site/pause:1"),
    ):
        handling.put(site.layout, site.one, wrong)
    assert (site.files(), handling.recorded(site.layout)) == (before, None)


def test_a_handler_by_hand_is_kept(tmp_path, capsys):
    site = Site(tmp_path, "2.1", 3, "imports")
    site.config.write_text(site.config.read_text() + place.find(site.one, 2).lines)
    before = site.files()
    assert not site.put()
    assert f"kept the handler that is already in {site.config}" in capsys.readouterr().out
    assert site.files() == before


def test_a_place_that_moves_takes_the_handler_along(tmp_path):
    site = Site(tmp_path, "2.1", 3, "alone")
    before = site.config.read_bytes()
    site.put()
    rest = site.config.read_text()
    site.config.write_text(rest.replace("version = 3\n", f'version = 3\nimports = ["{site.etc}/conf.d/*.toml"]\n', 1))
    assert site.put()
    assert (site.etc / "conf.d/pouchrich.toml").exists()
    assert "pouchrich.v2" not in site.config.read_text()
    site.take_out()
    assert site.config.read_bytes().replace(f'imports = ["{site.etc}/conf.d/*.toml"]\n'.encode(), b"") == before


def test_a_trial_is_roots_alone_and_does_not_touch_anothers(tmp_path, monkeypatch):
    site = Site(tmp_path, "2.1", 3, "imports")
    dump, modes = containerd_dump.dump, {}

    def look(program, path):
        modes[Path(path).name.partition("-")[0]] = stat.S_IMODE(os.stat(path).st_mode)
        return dump(program, path)

    monkeypatch.setattr(containerd_dump, "dump", look)
    gone = subprocess.Popen(["true"])
    gone.wait()
    living, left = (site.etc / f"config.toml{trial.TRIAL}-{pid}" for pid in (os.getppid(), gone.pid))
    for path in (living, left):
        path.touch()
    assert site.put()
    assert modes == {"config.toml": 0o640, "config.toml.pouchrich": 0o600}
    assert (living.exists(), left.exists()) == (True, False)


def test_a_trial_makes_no_directory_to_stay(tmp_path):
    site = Site(tmp_path, "2.1", None, "no file")
    site.etc.rmdir()
    trial.fit(site.one, site.place(), trial.dump(site.one, 3))
    assert not site.etc.exists()
    assert site.put()
    with locked(site.layout):
        handling.take_out(site.layout, site.one)
        uninstall.remove(site.layout)
    assert not site.etc.exists()


def test_a_handler_that_cannot_be_replaced_stays(tmp_path):
    for case in (("2.1", 3, "imports"), ("2.1", 3, "alone"), ("1.7", 2, "k3s")):
        site = Site(tmp_path / case[2], *case)
        site.put()
        with locked(site.layout):
            handling.settle(site.layout)
        there = site.place()._replace(lines="# other\n")
        site.config.write_text(f"{site.config.read_text()}\n[plugins\n")
        before = site.files()
        with locked(site.layout), pytest.raises(InstallError, match="containerd refuses its present configuration"):
            handling.put(site.layout, site.one, there)
        assert site.files() == before
        assert (handling.recorded(site.layout).path, handling.owed(site.layout)) == (there.path, None)


def test_a_handler_whose_record_is_gone_is_known_again(site):
    before = site.names()
    site.put()
    there = site.files()
    shutil.rmtree(site.layout.home)
    assert not site.put()
    assert site.files() == there
    assert site.take_out()
    kept = {"config.toml", "config.toml.tmpl", "config-v3.toml.tmpl"}  # nobody knows any more who made one
    assert site.names() - before <= kept


def test_a_second_containerd_does_not_get_the_handler_of_one_that_runs(tmp_path):
    site, other = (Site(tmp_path / name, "2.1", 3, "imports") for name in ("first", "second"))
    other.layout = site.layout
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(f"{tmp_path}/s")
        listening.listen()
        site.one = site.one._replace(socket=f"{tmp_path}/s")
        site.put()
        before = site.files(), other.files()
        with pytest.raises(InstallError, match=f"found the handler of containerd at {tmp_path}/s, allowed one"):
            other.put()
        assert (site.files(), other.files()) == before
    assert other.put()
    assert "conf.d/pouchrich.toml" not in site.files()


def killed_at(step, action):
    """Run `action` in a child that is killed before its step of that number; whether there was one so late."""
    pid = os.fork()
    if pid == 0:
        steps = itertools.count()

        def look(event, arguments):
            writes = event == "open" and isinstance(arguments, tuple) and arguments[2] & os.O_ACCMODE != os.O_RDONLY
            if (event in STEPS or writes or event == "subprocess.Popen") and next(steps) == step:
                os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(look)
        try:
            action()
            os._exit(0)
        except BaseException as err:
            sys.stderr.write(repr(err))
            os._exit(1)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert status in (0, -signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize(
    ("case", "every"),
    [(("2.1", 3, "imports"), 4), *(pytest.param(case, 1, marks=pytest.mark.full) for case in CASES)],
    ids=lambda one: "-".join(map(str, one)) if isinstance(one, tuple) else "",
)
def test_killed_at_any_step_the_next_run_comes_to_the_same_end(case, every, tmp_path):
    site = Site(tmp_path, *case)
    before = site.names()
    site.put()
    wanted = site.files()
    site.take_out()
    for step in itertools.count(0, every):
        was_killed = killed_at(step, site.put)
        site.put()
        assert site.files() == wanted, step
        assert handling.owes_restart(site.layout, site.one)
        also_killed = killed_at(step, site.take_out)
        site.take_out()
        assert site.names() == before, step
        assert handling.recorded(site.layout) is None
        if not was_killed and not also_killed:
            break
    assert step > 8


class Daemon:
    """A containerd that is started again whenever it ends, for the length of a `with`."""

    def __init__(self, site):
        self.site = site
        self.socket = f"{site.base}/c.sock"
        head = f'root = "{site.base}/root"\nstate = "{site.base}/state"\n'
        text = site.config.read_text()
        site.config.write_text(text.replace("\n", f"\n{head}", 1) + f'\n[grpc]\n  address = "{self.socket}"\n')

    def __enter__(self):
        loop = 'while [ -e "$1" ]; do "$2" --config "$3" >>"$4" 2>&1; done'
        words = [str(self.site.etc), self.site.one.program.path, str(self.site.config), f"{self.site.base}/log"]
        self._loop = subprocess.Popen(["sh", "-c", loop, "sh", *words], cwd=self.site.base)
        end = time.monotonic() + 60
        while not (found := running.find((("containerd", self.socket),))) or not found[0].pid:
            assert time.monotonic() < end, Path(f"{self.site.base}/log").read_text()[-2000:]
            time.sleep(0.05)
        return self

    @property
    def now(self):
        (found,) = running.find((("containerd", self.socket),))
        return found

    def another(self, one):
        """Wait for the one after `one`."""
        end = time.monotonic() + 60
        while not (found := running.find((("containerd", self.socket),))) or found[0].pid in (0, one.pid):
            assert time.monotonic() < end, Path(f"{self.site.base}/log").read_text()[-2000:]
            time.sleep(0.05)
        return found[0]

    def __exit__(self, *_):
        self._loop.send_signal(signal.SIGSTOP)  # it starts no other
        left = processes.descendants(self._loop.pid)
        self._loop.kill()
        self._loop.wait()
        for pid in left:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + 60
        while any(os.path.exists(f"/proc/{pid}") for pid in left):
            assert time.monotonic() < end
            time.sleep(0.02)


@pytest.mark.parametrize("case", [("2.1", 3, "imports"), ("1.7", 2, "imports"), ("1.6", 2, "imports")], ids=str)
def test_a_containerd_is_started_anew_once_and_only_if_something_changed(case, tmp_path):
    site = Site(tmp_path, *case)
    with Daemon(site) as daemon:
        one = daemon.now
        assert running.version(one) == tuple(map(int, case[0].split(".")))
        with locked(site.layout):
            assert handling.put(site.layout, one, place.find(one, int(case[0][0])))
            assert restart.do(site.layout, one, None) is False  # nobody is to
            assert daemon.now.pid == one.pid
            assert restart.do(site.layout, one, ["kill", str(one.pid)])
            again = daemon.now
            assert again.pid != one.pid
            assert not handling.put(site.layout, again, place.find(again, int(case[0][0])))
            assert restart.do(site.layout, again, ["false"])
            handling.take_out(site.layout, again)
            with pytest.raises(InstallError, match="false: exit status 1"):
                restart.do(site.layout, again, ["false"])
        checks = list(preflight.containerd(again, site.layout, "c.toml"))
        if case[0] == "1.6":
            assert "containerd 1.6 finds a shim only by PATH" in checks[0].found


def test_systemd_is_asked_and_not_waited_for(tmp_path, monkeypatch):
    """A unit of Type=notify whose containerd is up early keeps its `systemctl restart` for as long as it likes."""
    site = Site(tmp_path, "2.1", 3, "imports")
    systemctl = tmp_path / "systemctl"
    systemctl.write_text(
        f'#!/bin/sh\necho "$*" >>{tmp_path}/said\n'
        f'case " $* " in *" --no-block "*) ;; *) exec sleep 1000;; esac\n'
        f"(sleep 0.5; kill $(cat {tmp_path}/pid)) >/dev/null 2>&1 &\n"
    )
    systemctl.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setattr(restart, "_SYSTEMD", str(tmp_path))
    monkeypatch.setattr(restart, "unit_of", lambda pid: "containerd.service")
    with Daemon(site) as daemon:
        one = daemon.now
        (tmp_path / "pid").write_text(str(one.pid))
        with locked(site.layout):
            handling.put(site.layout, one, place.find(one, 2))
            assert restart.do(site.layout, one, restart.command(one, restart.AS_FOUND))
        assert daemon.now.pid != one.pid
    assert (tmp_path / "said").read_text() == "restart --no-block containerd.service\n"


def test_one_that_comes_back_without_cri_is_known_at_once(tmp_path):
    """No patience is needed for that: containerd listens when all its plugins have been loaded or not."""
    site = Site(tmp_path, "2.1", 3, "imports")
    with Daemon(site) as daemon:
        one = daemon.now
        with locked(site.layout):
            handling.put(site.layout, one, place.find(one, 2))
            text = site.config.read_text()
            site.config.write_text(f'{text}\n[plugins."{OLD}"]\n  stream_idle_timeout = "never"\n')
            began = time.monotonic()
            with pytest.raises(InstallError, match=r"could not load io\.containerd\.grpc\.v1\.cri: see its log"):
                restart.do(site.layout, one, ["kill", str(one.pid)])
            assert time.monotonic() - began < restart.PATIENCE_S


def test_nothing_is_uninstalled_where_containerd_has_the_handler_of_an_installation_elsewhere(tmp_path, monkeypatch):
    """As by a command line that lacks the --prefix of the one that installed."""
    site, other = Site(tmp_path, "2.1", 3, "imports"), Layout.below(str(tmp_path / "other"))
    monkeypatch.setattr(uninstall, "RECORDS", str(tmp_path / "records"))
    monkeypatch.setattr(running, "SOCKETS", ())
    shim = tmp_path / "shim"
    with Daemon(site) as daemon:
        one = daemon.now
        membership.give_back(other, address=daemon.socket)
        with locked(site.layout):
            handling.put(site.layout, one, place.find(one, 2, runtime_path=str(shim)))
        membership.give_back(other, address=daemon.socket)  # what the handler leads to has been taken away: again
        shim.touch(0o755)
        there = site.files()
        with pytest.raises(InstallError) as caught:
            membership.give_back(other, address=daemon.socket)
        assert str(caught.value) == (
            f"{other.where}: nothing is installed there, but {site.config} has the handler pouchrich: give the --prefix"
            " that it was installed with, or remove the handler by hand"
        )
        assert site.files() == there
        membership.give_back(other, address=daemon.socket, force=True)
        membership.give_back(site.layout, how=f"kill {one.pid}", address=daemon.socket)
        membership.give_back(site.layout, address=daemon.socket)  # again, of nothing
        text = site.config.read_text()
        ours = f'[plugins."{NEW}".containerd.runtimes.pouchrich]\n  runtime_type = "io.x.v1"\n'
        site.config.write_text(f"{text}\n{ours}")
        membership.give_back(other, address=daemon.socket)  # another's of the name


def test_one_that_was_started_anew_before_the_change_is_started_anew_after_it(tmp_path):
    site = Site(tmp_path, "2.1", 3, "imports")
    with Daemon(site) as daemon:
        one = daemon.now
        os.kill(one.pid, signal.SIGTERM)
        again = daemon.another(one)
        with locked(site.layout):
            handling.put(site.layout, again._replace(pid=one.pid), place.find(again, 2))
            assert handling.owes_restart(site.layout, again)
            assert status.of(site.layout)["containerd"]["loaded"] is False
            assert restart.do(site.layout, one, ["kill", str(again.pid)])
        assert daemon.now.pid != again.pid
        assert status.of(site.layout)["containerd"]["loaded"] is True


def test_whoever_starts_it_anew_by_hand_is_enough(tmp_path):
    site = Site(tmp_path, "2.1", 3, "imports")
    with Daemon(site) as daemon:
        one = daemon.now
        with pytest.raises(InstallError, match="give --restart COMMAND, or give --restart never"):
            restart.command(one, restart.AS_FOUND)
        with locked(site.layout):
            handling.put(site.layout, one, place.find(one, 2))
            os.kill(one.pid, signal.SIGTERM)
            assert restart.do(site.layout, one, [])
        assert trial.has_handler(trial.dump(daemon.now))
        with pytest.raises(InstallError, match="none of kind k3s that listens"):
            preflight.the_one("k3s")
        assert preflight.the_one("kubeadm", daemon.socket).pid == daemon.now.pid
        assert membership.look(site.layout, "auto", daemon.socket)[0].pid == daemon.now.pid


def test_what_starts_containerd_is_not_in_the_cgroups_of_the_pod(tmp_path, monkeypatch):
    """A DaemonSet's pod has the host's pids, so all that is left in its cgroup is killed with it."""
    mounts = mountinfo.read(fstypes=mountinfo.CGROUPS)
    found = next((one for one in mounts if "pids" in one.options or one.fstype == "cgroup2"), None)
    if found is None:
        pytest.skip("no cgroup file system to make a cgroup in")
    own = Path(found.mount_point, f"pouchrich-test-{os.getpid()}")
    own.mkdir()
    said = tmp_path / "said"
    pid = os.fork()
    if pid == 0:
        try:
            (own / "cgroup.procs").write_text("0")
            os.environ[host.ENTERED] = "1"
            restart._run(["sh", "-c", f"cat /proc/self/cgroup >{said}"])
            os._exit(0 if own.name in Path("/proc/self/cgroup").read_text() else 2)
        finally:
            os._exit(1)
    try:
        assert os.waitpid(pid, 0)[1] == 0
        assert own.name not in said.read_text()
        assert said.read_text() == Path("/proc/1/cgroup").read_text()
    finally:
        own.rmdir()

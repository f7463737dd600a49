"""pouchrich.node: installing and uninstalling, killed at each of their steps, and what is refused."""

import errno
import itertools
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from pouchrich.node import InstallError, current, interpreter, kept, uninstall, unpacked
from pouchrich.node.layout import ARTEFACTS, BIN, LONGEST_HOME, PROGRAMS, Layout
from pouchrich.node.lock import locked
from shim.installed import replaced
from shim.installed.version import IN_USE

ROOT = Path(__file__).parents[3]
LONGEST_NAME = len("1.22.333-20260102T030405")
STEPS = ("os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink", "shutil.copyfile", "ctypes.dlsym")


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(current, "_sync", lambda directory: None)  # slow where much else is written
    monkeypatch.setattr(replaced, "_is_run", lambda path, *, mapped: False)  # each looks at every process
    monkeypatch.setattr(uninstall, "RECORDS", str(tmp_path / "records"))
    return Layout.below(str(tmp_path / "prefix"))


def install(layout: Layout, name: str, *, keep_former: bool = False) -> None:
    with locked(layout):
        try:
            current.prepare(layout)
            with current.making(layout, name) as place:
                os.mkdir(f"{place}/bin")
                for program in PROGRAMS:
                    Path(place, "bin", program).write_text(name)
                Path(place, "config.toml.default").write_text(f"the default of {name}")
                current.switch(layout, name, keep_former=keep_former)
        finally:
            current.forget_unused(layout)


def remove(layout: Layout) -> None:
    if os.path.isdir(layout.home):
        with locked(layout):
            uninstall.remove(layout)


def killed_at(step: int, action: Callable[[], None]) -> bool:
    """Run `action` in a child that is killed before its step of that number; whether there was one so late."""
    pid = os.fork()
    if pid == 0:
        steps = itertools.count()

        def look(event: str, arguments: object) -> None:
            writes = event == "open" and isinstance(arguments, tuple) and arguments[2] & os.O_ACCMODE != os.O_RDONLY
            if (event in STEPS or writes) and next(steps) == step:
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


def works(layout: Layout, *names: str) -> None:
    """Whether one of these versions is the one that is run, and its configuration or another's is there."""
    name = layout.current()
    assert name in names
    assert os.path.exists(f"{layout.home}/{name}/{IN_USE}")
    for program in PROGRAMS:
        assert Path(layout.bin, program).read_text() == name
    assert Path(layout.config).read_text() in {f"the default of {name}" for name in names}


def test_an_upgrade_that_is_killed_at_any_step_leaves_what_works_and_the_next_one_is_whole(
    layout: Layout, capsys: pytest.CaptureFixture[str]
):
    install(layout, "0")
    for step in itertools.count():
        was, is_killed = layout.current(), killed_at(step, lambda: install(layout, f"1.{step}"))  # noqa: B023
        works(layout, was, f"1.{step}")
        install(layout, f"2.{step}")
        works(layout, f"2.{step}")
        assert Path(layout.config).read_text() == f"the default of 2.{step}"
        assert "kept" not in capsys.readouterr().out
        if not is_killed:
            break
    assert step > 19
    remove(layout)
    assert not os.path.exists(layout.prefix)


def test_a_first_installation_that_is_killed_at_any_step_is_replaced_or_taken_away(layout: Layout, tmp_path: Path):
    for step in itertools.count():
        is_killed = killed_at(step, lambda: install(layout, "1"))
        if step % 2:
            install(layout, "2")
            works(layout, "2")
        remove(layout)
        assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
        shutil.rmtree(layout.prefix, ignore_errors=True)
        if not is_killed:
            break
    assert step > 20


def test_an_uninstallation_that_is_killed_at_any_step_is_ended_by_the_next(layout: Layout, tmp_path: Path):
    left = []
    for step in itertools.count():
        install(layout, "1")
        is_killed = killed_at(step, lambda: remove(layout))
        remove(layout)
        assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]
        left.append(os.path.exists(layout.prefix))
        shutil.rmtree(layout.prefix, ignore_errors=True)
        if not is_killed:
            break
    assert step > 5
    assert sum(left) <= 8  # a directory that it had made, empty: only once it had forgotten which those are
    assert not any(left[:-10])


def roll_back(layout: Layout) -> tuple[str, str]:
    with locked(layout):
        return current.roll_back(layout)


def test_a_rollback_goes_to_the_version_of_before_and_the_next_one_back(layout: Layout):
    install(layout, "1", keep_former=True)
    with pytest.raises(InstallError, match="found no version before 1"):
        roll_back(layout)
    install(layout, "2", keep_former=True)
    install(layout, "3", keep_former=True)
    os.utime(f"{layout.home}/current", (0, 0), follow_symlinks=False)
    assert replaced.remove_unused(layout.home) == [f"{layout.home}/1"]
    assert roll_back(layout) == ("3", "2")
    works(layout, "2")
    assert (layout.previous(), layout.rejected()) == ("3", "3")
    assert Path(layout.config).read_text() == "the default of 2"
    assert roll_back(layout) == ("2", "3")
    assert (layout.previous(), layout.rejected()) == ("2", "2")
    remove(layout)
    assert not os.path.exists(layout.prefix)


def test_a_rollback_that_is_killed_at_any_step_is_ended_by_the_next(layout: Layout):
    install(layout, "1", keep_former=True)
    install(layout, "2", keep_former=True)
    for step in itertools.count():
        is_killed = killed_at(step, lambda: roll_back(layout))
        works(layout, "1", "2")
        if is_killed:
            roll_back(layout)
        works(layout, "1")
        assert Path(layout.config).read_text() == "the default of 1"
        assert (layout.previous(), layout.rejected()) == ("2", "2")
        with locked(layout):
            current.switch(layout, "2", keep_former=True)
        assert layout.previous() == "1"
        if not is_killed:
            break
    assert step > 8


def test_a_version_that_cannot_be_made_leaves_nothing(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    install(layout, "1")
    before = sorted(Path(layout.prefix).rglob("*"))
    monkeypatch.setattr(current, "switch", lambda layout, name, **_: os.stat("/nonexistent"))
    with pytest.raises(FileNotFoundError):
        install(layout, "2")
    assert sorted(Path(layout.prefix).rglob("*")) == before
    works(layout, "1")


def test_directories_that_were_there_stay(layout: Layout):
    for path in (layout.bin, os.path.dirname(layout.config)):
        os.makedirs(path)
        Path(path, "another's").touch()
    before = sorted(Path(layout.prefix).rglob("*"))
    install(layout, "1")
    remove(layout)
    assert sorted(Path(layout.prefix).rglob("*")) == before


def test_a_configuration_that_was_changed_is_kept(layout: Layout, capsys: pytest.CaptureFixture[str]):
    install(layout, "1")
    Path(layout.config).write_text("mine")
    install(layout, "2")
    assert f"kept {layout.config}" in capsys.readouterr().out
    remove(layout)
    assert f"kept {layout.config}" in capsys.readouterr().out
    assert Path(layout.config).read_text() == "mine"
    assert [path for path in Path(layout.prefix).rglob("*") if path.is_file()] == [Path(layout.config)]


def test_a_configuration_that_a_power_cut_has_emptied_is_none(layout: Layout, capsys: pytest.CaptureFixture[str]):
    install(layout, "1")
    Path(layout.config).write_text("")
    install(layout, "2")
    assert (Path(layout.config).read_text(), "kept" in capsys.readouterr().out) == ("the default of 2", False)


def test_a_new_configuration_is_on_disk_before_it_has_its_name(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    """/etc may be another file system than /opt, which alone is flushed as a whole."""
    synced, renamed = [], []
    fsync, rename = os.fsync, os.rename
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "rename", lambda old, new: (renamed.append((old, list(synced))), rename(old, new)))
    install(layout, "1")
    assert [f"{layout.config}.new" in before for old, before in renamed if old == f"{layout.config}.new"] == [True]


ACCEPTS = """#!/bin/sh
[ "$1 $2" = "config show" ] && ! grep -q "key of 2" "$3" || { echo "pouchrich: $3: found an unknown key" >&2; exit 1; }
"""


def test_a_version_that_refuses_the_changed_configuration_is_not_made_current(
    layout: Layout, capsys: pytest.CaptureFixture[str]
):
    """As a rollback may, or a stricter version: every container of the node would be refused."""
    for name, text in (("1", ACCEPTS), ("2", "#!/bin/sh\n")):
        install(layout, name, keep_former=True)
        Path(layout.home, name, "bin/pouchrich").write_text(text)
        Path(layout.home, name, "bin/pouchrich").chmod(0o755)
    Path(layout.config).write_text("the key of 2")
    with pytest.raises(
        InstallError, match=f"^{layout.config}: found an unknown key; with it 1 would refuse .* so 2 stays"
    ):
        roll_back(layout)
    assert layout.current() == "2"
    Path(layout.home, "2/bin/pouchrich").write_text(ACCEPTS)
    assert roll_back(layout) == ("2", "1")
    assert "found an unknown key; with it 1 refuses every container" in capsys.readouterr().err


def test_a_version_that_does_not_answer_about_the_configuration_is_made_current(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
):
    """It looks at the programs of hooks, whose file system may hang; each Create then says so."""
    monkeypatch.setattr(kept, "ANSWERS_S", 0.1)
    for name in ("1", "2"):
        install(layout, name, keep_former=True)
        Path(layout.home, name, "bin/pouchrich").write_text("#!/bin/sh\nexec sleep 20\n")
        Path(layout.home, name, "bin/pouchrich").chmod(0o755)
    Path(layout.config).write_text("changed")
    assert roll_back(layout) == ("2", "1")


def test_where_a_file_system_is_mounted_at_home_its_mount_point_stays(layout: Layout, monkeypatch: pytest.MonkeyPatch):
    install(layout, "1")
    rmdir = os.rmdir

    def busy(path: str, **about: int) -> None:
        if str(path) == layout.home:
            raise OSError(errno.EBUSY, os.strerror(errno.EBUSY), path)
        rmdir(path, **about)

    monkeypatch.setattr(os, "rmdir", busy)
    Path(layout.home, "lost+found").mkdir()
    install(layout, "2")
    assert Path(layout.home, "lost+found").exists()
    remove(layout)
    assert os.listdir(layout.home) == []


def test_another_directory_for_the_links_is_known_again(layout: Layout, tmp_path: Path):
    install(Layout(layout.home, str(tmp_path / "elsewhere"), layout.config, layout.prefix), "1")
    found = Layout.at(layout.home)
    assert found.bin == str(tmp_path / "elsewhere")
    remove(found)
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


@pytest.mark.parametrize("cut_short", ["", "/else", "elsewhere\n"])
def test_a_note_of_the_links_that_was_cut_short_is_none(layout: Layout, cut_short: str):
    install(layout, "1")
    note = Path(layout.home, "links")
    note.write_text(cut_short)
    assert Layout.at(layout.home) == layout
    install(layout, "2")
    assert note.read_text() == f"{layout.bin}\n"
    inode = note.stat().st_ino
    install(layout, "3")
    assert note.stat().st_ino == inode, "written although it is right"
    remove(layout)


def test_who_is_killed_while_the_note_is_written_leaves_that_of_before(layout: Layout, tmp_path: Path):
    install(layout, "1")
    Path(layout.home, "links.new").write_text("/el")
    assert Layout.at(layout.home) == layout
    remove(layout)
    assert not [path for path in tmp_path.rglob("*") if not path.is_dir()]


def test_the_usual_places():
    assert Layout.at(ARTEFACTS) == Layout("/opt/pouchrich", BIN, "/etc/pouchrich/config.toml")
    assert Layout.at("/srv/lib/pouchrich").config == "/srv/etc/pouchrich/config.toml"
    with pytest.raises(InstallError, match="not a place of an installation"):
        Layout.at("/srv/x")
    with pytest.raises(InstallError, match="found a character that a #! line cannot hold"):
        Layout.below("/srv/a b")
    with pytest.raises(InstallError, match="allowed 170"):
        Layout.below("/srv/" + "x" * 170)


def test_a_record_of_owed_hooks_keeps_it(layout: Layout, tmp_path: Path):
    install(layout, "1")
    record = tmp_path / "records/k8s.io/c.jsonl"
    record.parent.mkdir(parents=True)
    record.touch()
    with pytest.raises(InstallError, match=f"poststop hooks: {record}"):
        uninstall.check(layout, force=False)
    assert "uninstalling anyway" in uninstall.check(layout, force=True)


def test_a_pod_server_keeps_it_also_where_a_symbolic_link_leads_home(layout: Layout, tmp_path: Path):
    """The kernel's names of open files have no links in them, and /opt is one on some systems."""
    install(layout, "1")
    (tmp_path / "link").symlink_to(layout.prefix)
    linked = layout._replace(home=f"{tmp_path}/link/lib/pouchrich")
    words = [PROGRAMS[0], "-ISc", "print(flush=True); input()", "-id", "pod"]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with (
        open(f"{layout.home}/1/{IN_USE}") as held,
        subprocess.Popen(words, executable=sys.executable, pass_fds=[held.fileno()], **pipes) as server,
    ):
        assert server.stdout is not None
        server.stdout.readline()  # the kernel shows a command line only some time after execve(2)
        mark = f"(pid {server.pid})"
        needs = [[one for one in uninstall.needing(where) if mark in one] for where in (layout, linked)]
        server.communicate(b"\n")
    assert [len(found) for found in needs] == [1, 1]


def test_a_loader_is_written_into_the_room_that_there_is(tmp_path: Path):
    program = tmp_path / "program"
    shutil.copy("/bin/true", program)
    usual = interpreter.read(str(program))
    assert usual.startswith("/lib")
    interpreter.write(str(program), "/lib/x")
    assert interpreter.read(str(program)) == "/lib/x"
    for text in (usual + "x", usual + "xx"):
        with pytest.raises(ValueError, match=f"allowed {len(usual)}"):
            interpreter.write(str(program), text)
    assert interpreter.read(str(program)) == "/lib/x"
    (tmp_path / "text").write_text("no program")
    with pytest.raises(ValueError, match="not a 64-bit"):
        interpreter.read(str(tmp_path / "text"))


def test_a_released_interpreter_has_the_room_that_the_longest_home_needs():
    (room,) = re.findall(r"^LOADER_ROOM=(\d+)", (ROOT / "hack/build-python.sh").read_text(), re.MULTILINE)
    assert int(room) == interpreter.ROOM
    longest = "/" + "h" * (LONGEST_HOME - 1) + "/" + "v" * LONGEST_NAME + "/" + unpacked.LOADER
    assert len(longest) < interpreter.ROOM


def test_what_is_no_artefact_is_not_installed(tmp_path: Path):
    with pytest.raises(InstallError, match="not an unpacked release"):
        unpacked.verify(str(tmp_path))


def test_another_build_of_a_version_is_known_again(tmp_path: Path):
    """By the sums of its files: a DaemonSet's pod that starts again installs nothing, and takes no rollback back."""
    layout = Layout.below(str(tmp_path / "prefix"))
    builds = {name: tmp_path / name for name in "ABC"}
    for name, build in builds.items():
        build.mkdir()
        (build / unpacked.SUMS).write_text(name)
    for directory, name in (("1.0", "A"), ("1.0-T1", "B"), ("1.0.1", "C")):
        there = Path(layout.home, directory)
        there.mkdir(parents=True)
        (there / unpacked.SUMS).write_text(name)
        (there / IN_USE).touch()
    assert unpacked.name_for(layout, str(builds["A"]), "1.0") == ("1.0", True)
    assert unpacked.name_for(layout, str(builds["B"]), "1.0") == ("1.0-T1", True)
    (Path(layout.home) / "1.0").rename(tmp_path / "removed")
    assert unpacked.name_for(layout, str(builds["B"]), "1.0") == ("1.0-T1", True)
    assert unpacked.name_for(layout, str(builds["A"]), "1.0") == ("1.0", False)
    (tmp_path / "removed").rename(Path(layout.home) / "1.0")
    name, is_there = unpacked.name_for(layout, str(builds["C"]), "1.0")
    assert (name.startswith("1.0-2"), is_there) == (True, False)
    (Path(layout.home) / "1.0-T1" / IN_USE).unlink()
    assert unpacked.name_for(layout, str(builds["B"]), "1.0")[1] is False, "its installation was interrupted"

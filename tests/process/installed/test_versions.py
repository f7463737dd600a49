"""shim.installed.version and shim.installed.replaced: a version stays while anything runs from it, and no longer."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from shim.installed import replaced, version
from shim.installed.replaced import CURRENT, LOCK, SETTLED_S
from shim.installed.version import IN_USE


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two versions, of which `2` is the current one, and has been for a while."""
    monkeypatch.setattr(version, "_held", -1)
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        (tmp_path / name / IN_USE).touch(mode=0o600)
    (tmp_path / LOCK).touch()
    (tmp_path / "config.toml.default").touch()
    (tmp_path / CURRENT).symlink_to("2")
    age(tmp_path)
    return tmp_path


def age(home: Path, *, by_s: float = SETTLED_S + 1) -> None:
    at = (home / CURRENT).lstat().st_mtime - by_s
    os.utime(home / CURRENT, (at, at), follow_symlinks=False)


def names(home: Path) -> list[str]:
    return sorted(path.name for path in home.iterdir() if path.is_dir() and not path.is_symlink())


def test_what_nothing_runs_is_removed_and_the_current_version_and_all_else_stays(home: Path):
    before = set(home.iterdir())
    assert replaced.remove_unused(str(home)) == [str(home / "1")]
    assert before - set(home.iterdir()) == {home / "1"}


def test_what_is_held_stays_until_its_last_holder_has_gone(home: Path):
    """The child has the lock by its fork; what it executes would have none."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        (fd,) = version.lock_in_use(str(home / "1"))
        grandchild = os.fork()
        if grandchild == 0:
            os.close(writer)
            os.read(reader, 1)
            os._exit(0)
        os._exit(0 if fd >= version.OUT_OF_THE_WAY and not os.get_inheritable(fd) else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert replaced.remove_unused(str(home)) == []
    os.close(writer)
    while not replaced.remove_unused(str(home)):
        pass
    os.close(reader)
    assert names(home) == ["2"]


def test_what_is_just_being_executed_has_the_time_to_be_seen(home: Path):
    age(home, by_s=-SETTLED_S)
    assert replaced.remove_unused(str(home)) == []
    age(home, by_s=-1000)
    assert replaced.remove_unused(str(home)) == [str(home / "1")], "the clock was set back"


def test_what_a_command_line_names_stays(home: Path):
    words = [sys.executable, "-IS", "-c", "input()", f"{home}/1/bin/program"]
    with subprocess.Popen(words, stdin=subprocess.PIPE) as process:
        assert replaced.remove_unused(str(home)) == []
        process.communicate(b"\n")
    assert replaced.remove_unused(str(home)) == [str(home / "1")]


def test_what_a_process_has_for_a_program_stays(home: Path):
    shutil.copy("/bin/sh", home / "1/sh")
    with subprocess.Popen(["sh", "-c", "read line"], executable=home / "1/sh", stdin=subprocess.PIPE) as process:
        assert replaced.remove_unused(str(home)) == []
        process.communicate(b"\n")
    assert replaced.remove_unused(str(home)) == [str(home / "1")]


def test_what_a_process_has_for_a_program_stays_also_where_a_symbolic_link_leads_home(home: Path):
    linked = home.with_name("link")
    linked.symlink_to(home)
    shutil.copy("/bin/sh", home / "1/sh")
    with subprocess.Popen(["sh", "-c", "read line"], executable=linked / "1/sh", stdin=subprocess.PIPE) as process:
        assert replaced.remove_unused(str(linked)) == []
        process.communicate(b"\n")
    assert replaced.remove_unused(str(linked)) == [str(linked / "1")]


MAP = "import mmap, os; held = mmap.mmap(os.open('library', os.O_RDONLY), 0, prot=1); print(flush=True); input()"


@pytest.mark.parametrize("name", ["3", "venv"])
def test_what_has_no_lock_is_the_installers_to_remove_and_stays_while_something_of_it_is_mapped(home: Path, name: str):
    (home / name).mkdir()
    (home / name / "library").write_text("text")
    (home / "1" / IN_USE).unlink()
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([sys.executable, "-ISc", MAP], cwd=home / name, **pipes) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert replaced.remove_unused(str(home)) == []
        assert replaced.remove_unused(str(home), unfinished=True) == [str(home / "1")]
        process.communicate(b"\n")
    assert replaced.remove_unused(str(home), unfinished=True) == [str(home / name)]


def test_a_directory_of_before_there_were_versions_stays_while_it_may_be_the_current_one(home: Path):
    (home / "venv").mkdir()
    age(home, by_s=-SETTLED_S)
    assert replaced.remove_unused(str(home), unfinished=True) == []
    (home / CURRENT).unlink()
    assert str(home / "venv") not in replaced.remove_unused(str(home), unfinished=True)


def test_where_no_version_is_the_current_one_all_are_the_installers_to_remove(home: Path):
    (home / CURRENT).unlink()
    assert replaced.remove_unused(str(home)) == []
    assert replaced.remove_unused(str(home), unfinished=True) == [str(home / "1"), str(home / "2")]


def test_nothing_is_removed_while_an_installer_is_at_work(home: Path):
    with (home / LOCK).open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        replaced._remove_alone(str(home))
        assert names(home) == ["1", "2"]
    replaced._remove_alone(str(home))
    assert names(home) == ["2"]


def test_a_version_that_is_being_removed_or_was_is_run_by_nobody_more(home: Path):
    with (home / "1" / IN_USE).open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(FileNotFoundError, match="try again"):
            version.lock_in_use(str(home / "1"))


def test_there_is_nothing_to_hold_in_a_checkout_or_where_it_cannot_be_locked(home: Path):
    assert version.lock_in_use() == version.lock_in_use(str(home / "absent")) == ()


def test_which_version_new_processes_run_is_known(home: Path):
    assert [replaced.is_current(str(home / name)) for name in ("1", "2")] == [False, True]
    (home / CURRENT).unlink()
    assert replaced.is_current(str(home / "1"))
    assert replaced.is_current()

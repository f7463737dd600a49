import os
import shlex
import stat

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.rich import env_file

REGULAR = stat.S_IFREG | 0o644


def exported(content):
    return [one.rpartition("; export ")[2] for one in content.splitlines() if one.startswith("[ ")]


def test_a_value_is_one_single_quoted_word():
    said = env_file.text({"GREETING": "it's $HOME \\n"})
    assert """[ "${GREETING+x}" ] || GREETING='it'\\''s $HOME \\n'; export GREETING\n""" in said


@given(st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])))
def test_a_quoted_value_reads_back_whatever_it_is(value):
    assert shlex.split(env_file.quoted(value)) == [value]


@pytest.mark.parametrize("name", ["a.b", "a-b", "1A", "", "É", "A B", "A\n", "BASH_FUNC_x%%"])
def test_names_no_shell_can_hold_are_left_out(name):
    assert exported(env_file.text({name: "x", "KEPT": "y"})) == ["KEPT"]


@pytest.mark.parametrize(
    "name",
    ["HOME", "USER", "UID", "PPID", "SHELLOPTS", "BASHOPTS", "BASH_ENV", "ENV", "IFS", "PS4", "TERM", "PWD", "_"],
)
def test_identity_and_what_a_shell_keeps_for_itself_is_left_out(name):
    assert not env_file.is_exported(name)


def test_the_order_and_empty_values_are_kept():
    assert exported(env_file.text({"B": "", "A": "1"})) == ["B", "A"]


def test_path_is_appended_to_and_relative_entries_are_not_taken():
    content = env_file.text({"PATH": "/opt/bin::bin:.:/opt/bin:/x y"})
    assert content.count("case ") == 2
    assert "'/opt/bin'" in content
    assert "'/x y'" in content
    assert content.endswith("export PATH\n")


def test_without_a_usable_path_there_is_no_line_for_it():
    assert "PATH" not in env_file.text({"PATH": "bin:"})


def test_bytes_that_are_no_text_arrive_as_they_are():
    assert b"A='\xff\xfe'" in os.fsencode(env_file.text({"A": "\udcff\udcfe"}))


@pytest.mark.parametrize("value", ["\ud800", "a\0b"])
def test_what_no_environment_can_hold_is_left_out(value):
    assert exported(env_file.text({"A": value, "PATH": f"/{value}", "B": "b"})) == ["B"]


@given(st.dictionaries(st.text(max_size=4), st.text(max_size=8), max_size=4))
def test_any_environment_gives_a_file_that_can_be_written(env):
    assert os.fsencode(env_file.text(env)).startswith(b"# The environment")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((env_file.TARGET, None, "no such file or directory", None), None),
        ((env_file.TARGET, REGULAR, "", None), None),
        ((env_file.TARGET, stat.S_IFDIR | 0o755, "", None), "regular file"),
        (("/etc/profile.d", None, "", "/etc/profile.d"), "below the mount at /etc/profile.d"),
        (("/usr/share/pouchenv.sh", None, "no such file or directory", None), "lead to /usr/share"),
        (("/etc/profile.d", None, "too many levels of symbolic links", None), "too many levels"),
    ],
)
def test_a_target_that_is_not_the_images_own_file_is_skipped_with_the_reason(found, said):
    path, mode, error, hidden_by = found
    reason = env_file.reason_to_skip(path, mode, error, hidden_by=hidden_by)
    assert (reason is None) if said is None else (said in (reason or ""))


@pytest.mark.parametrize(("mode", "error"), [(REGULAR, ""), (None, "no such file or directory")])
def test_where_no_mount_point_can_be_made_only_a_file_of_the_images_is_bound_over(mode, error):
    reason = env_file.reason_to_skip(env_file.TARGET, mode, error, hidden_by=None, writable=False)
    missing = "/etc/profile.d/pouchenv.sh: not in the image, whose file system is mounted read-only"
    assert reason == (None if mode else missing)


def test_the_step_binds_the_file_read_only():
    mount = env_file.step("/run/x/env").edit({"mounts": []})["mounts"][0]
    assert mount["destination"] == "/etc/profile.d/pouchenv.sh"
    assert mount["source"] == "/run/x/env"
    assert "ro" in mount["options"]


def test_the_file_is_for_its_owner_and_group_only(tmp_path):
    env_file.write(str(tmp_path), "export A='b'\n", group=os.getgid(), owner=os.getuid())
    found = (tmp_path / env_file.NAME).stat()
    assert stat.S_IMODE(found.st_mode) == 0o640
    assert found.st_gid == os.getgid()
    with pytest.raises(FileExistsError):
        env_file.write(str(tmp_path), "", group=os.getgid(), owner=os.getuid())

"""The environment file, read by the shells of Debian, and by users who may and may not."""

import os
import shutil
import subprocess

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runtime.rich import env_file

pytestmark = [pytest.mark.integration]

SHELLS = {
    "dash": ["/usr/bin/dash"],
    "bash": ["/usr/bin/bash", "--noprofile", "--norc"],
    "busybox": ["/usr/bin/busybox", "sh"],
    "bash-posix": ["/usr/bin/bash", "--posix"],
}
START = {"PATH": "/usr/bin:/bin"}
HOSTILE = [
    "it's",
    '"',
    "$HOME `id` $(id)",
    "\\",
    "\\\\n",
    "a\nb\n",
    "\n",
    "=",
    "a=b",
    "~",
    "*",
    "!!",
    "\r\t\x7f\x81",
    ";&|<>",
]

value = st.one_of(
    st.sampled_from(HOSTILE),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    st.binary(max_size=20).map(lambda data: os.fsdecode(data.replace(b"\0", b""))),
)
name = st.from_regex(r"[A-Za-z_][A-Za-z0-9_]{0,8}", fullmatch=True).filter(env_file.is_exported)


def read_by(shell, content, directory, *, start=START, locale="C.UTF-8"):
    """The environment of a program that `shell` starts after it read the file, by the bytes."""
    if not os.path.exists(SHELLS[shell][0]):
        pytest.skip(f"{shell} is not installed")
    path = directory / "pouchenv.sh"
    path.write_bytes(os.fsencode(content))
    done = subprocess.run(
        [*SHELLS[shell], "-euc", '. "$1"; exec /usr/bin/env -0', "sh", str(path)],
        env={**start, "LC_ALL": locale},
        capture_output=True,
        timeout=20,
        check=True,
    )
    assert done.stderr == b""
    entries = (entry.partition(b"=") for entry in done.stdout.split(b"\0")[:-1])
    return {os.fsdecode(key): os.fsdecode(value) for key, _, value in entries}


@pytest.mark.parametrize("locale", ["C.UTF-8", "C"])
@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(env=st.dictionaries(name, value, max_size=8))
def test_a_shell_exports_exactly_what_the_container_was_given(shell, locale, tmp_path, env):
    found = read_by(shell, env_file.text(env), tmp_path, locale=locale)
    assert {key: found.get(key) for key in env if key != "LC_ALL"} == {k: v for k, v in env.items() if k != "LC_ALL"}


@pytest.mark.parametrize("shell", SHELLS)
def test_every_hostile_value_at_once(shell, tmp_path):
    env = {f"V{number}": one for number, one in enumerate(HOSTILE)} | {"BIG": "x'\n" * 40_000, "EMPTY": ""}
    found = read_by(shell, env_file.text(env), tmp_path)
    assert {key: found[key] for key in env} == env


@pytest.mark.parametrize("shell", SHELLS)
def test_what_the_parent_has_set_stays(shell, tmp_path):
    """A login shell below the application, whose entry point has changed a variable, or of `kubectl exec`."""
    found = read_by(shell, env_file.text({"A": "the pod's", "B": "too"}), tmp_path, start={**START, "A": "changed"})
    assert (found["A"], found["B"]) == ("changed", "too")


@pytest.mark.parametrize("shell", SHELLS)
def test_a_variable_that_the_shell_sets_for_itself_is_exported(shell, tmp_path):
    found = read_by(shell, env_file.text({"HOSTNAME": "web-0", "COLUMNS": "80", "OSTYPE": "x"}), tmp_path)
    assert {"HOSTNAME", "COLUMNS", "OSTYPE"} <= found.keys()


@pytest.mark.parametrize("shell", SHELLS)
def test_nothing_of_the_shells_own_is_touched(shell, tmp_path):
    hostile = {"UID": "x", "EUID": "0", "PPID": "1", "SHELLOPTS": "x", "BASHOPTS": "x", "IFS": "a", "ENV": "/evil"}
    content = env_file.text({**hostile, "HOME": "/evil", "AFTER": "reached"})
    found = read_by(shell, content, tmp_path, start={**START, "HOME": "/root"})
    assert found["AFTER"] == "reached"
    assert found["HOME"] == "/root"
    assert "/evil" not in found.values()


@pytest.mark.parametrize("shell", SHELLS)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(directories=st.lists(value.map(lambda one: "/" + one.replace(":", "")), max_size=4))
def test_path_gains_what_it_lacks_once_and_at_the_end(shell, tmp_path, directories):
    content = env_file.text({"PATH": ":".join(["/bin", *directories])}) * 2
    wanted = list(dict.fromkeys(["/usr/bin", "/bin", *directories]))
    assert read_by(shell, content, tmp_path)["PATH"] == ":".join(wanted)


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_the_applications_group_reads_the_file_and_others_do_not(tmp_path):
    directory = tmp_path / "run"
    directory.mkdir(mode=0o711)
    for parent in (tmp_path, *tmp_path.parents):
        if parent.stat().st_uid == os.geteuid() and parent != parent.parent:
            parent.chmod(parent.stat().st_mode | 0o011)
    env_file.write(str(directory), "export A='b'\n", group=4242)
    cat = shutil.which("cat")
    member = subprocess.run([cat, str(directory / "env")], user=1234, group=4242, extra_groups=[], capture_output=True)
    other = subprocess.run([cat, str(directory / "env")], user=1234, group=1234, extra_groups=[], capture_output=True)
    assert member.stdout == b"export A='b'\n"
    assert b"Permission denied" in other.stderr

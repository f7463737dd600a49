"""What is printed for containerd's configuration, and what `doctor` says of it, with the real containerd."""

import os
import subprocess

import pytest

from pouchrich import containerd_checks, containerd_config, containerd_dump, handler
from pouchrich.checks import FAIL, OK
from pouchrich.program import Program
from tests.root.containerd_site import NEW, OLD, SITE, program

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]

CASES = [("1.6", 2), ("1.7", 2), ("2.1", 2), ("2.1", 3)]


@pytest.fixture
def node(tmp_path, request):
    """A containerd of a release and a site's configuration in a format version, which imports conf.d."""
    release, version = request.param
    found = program(release)
    (tmp_path / "conf.d").mkdir()
    path = tmp_path / "config.toml"
    path.write_text(f'version = {version}\nimports = ["{tmp_path}/conf.d/*.toml"]\n{SITE[version]}')
    return found, path, version, int(release[0])


def printed(path, major):
    return handler.containerd(
        major,
        handler="rich",
        runtime_path="",
        config_path="/etc/pouchrich/config.toml",
        version=containerd_config.format_version(str(path)),
        file=str(path),
    )


def dumped(containerd, path):
    done = subprocess.run([containerd, "-c", path, "config", "dump"], capture_output=True, text=True, check=True)
    return done.stdout.replace("'", '"')


@pytest.mark.parametrize("node", CASES, indirect=True, ids=lambda case: f"{case[0]}-v{case[1]}")
def test_what_is_printed_put_where_it_says_changes_nothing_else(node):
    containerd, path, _, major = node
    text = printed(path, major)
    if "itself" in text.splitlines()[0]:
        path.write_text(path.read_text() + "\n" + text)
    else:
        (path.parent / "conf.d/pouchrich.toml").write_text(text)
    found = dumped(containerd, path)
    assert all(word in found for word in ("runtimes.rich]", "runtimes.runc]", '"site/pause:1"', "pouchrich.io/*"))
    check = containerd_checks.others(str(path), Program(containerd))
    assert (check.level, check.found) == (OK, "the shim's handlers change nothing else")


@pytest.mark.parametrize("node", CASES[:3], indirect=True, ids=lambda case: f"{case[0]}-v{case[1]}")
def test_a_handler_in_a_file_of_its_own_that_takes_the_sites_away_is_a_failure(node):
    containerd, path, _, major = node
    version, plugin = (2, OLD) if major == 1 else (3, NEW)
    (path.parent / "conf.d/pouchrich.toml").write_text(
        f'version = {version}\n[plugins."{plugin}".containerd.runtimes.rich]\n'
        '  runtime_type = "io.containerd.pouchrich.v2"\n  [plugins."'
        f'{plugin}".containerd.runtimes.rich.options]\n    ConfigPath = "/x"\n'
    )
    check = containerd_checks.others(str(path), Program(containerd))
    assert check.level == FAIL
    assert 'without the shim\'s handlers "site/pause:1"' in check.found
    if major == 1:
        assert "containerd.runtimes: found nothing, without the shim's handlers it is there" in check.found
    assert "--containerd here" in check.advice


@pytest.mark.parametrize("node", [("2.1", 3)], indirect=True, ids=["2.1-v3"])
def test_a_handler_in_a_section_of_another_format_is_not_read(node):
    """containerd migrates a file by the version that the file says it has, and drops what that has not."""
    containerd, path, _, major = node
    seen = f'[plugins."{NEW}".containerd.runtimes.seen]\n  runtime_type = "io.containerd.pouchrich.v2"\n'
    path.write_text(path.read_text() + seen + seen.replace(NEW, OLD).replace("seen", "unseen"))
    assert "unseen" not in dumped(containerd, path)
    (source,) = containerd_dump.unread(str(path), major=major, containerd=Program(containerd))
    assert str(path) in source
    assert "runtimes.unseen" in source


@pytest.mark.parametrize("node", CASES[:1], indirect=True, ids=lambda case: f"{case[0]}-v{case[1]}")
def test_what_cannot_be_judged_is_said(node):
    containerd, path, _, _ = node
    inline = 'runtime_type = "io.containerd.pouchrich.v2"'
    path.write_text(f'version = 2\nplugins."{OLD}".containerd.runtimes = {{ rich = {{ {inline} }} }}\n')
    assert (
        "cannot be removed, allowed a table of its own"
        in containerd_checks.others(str(path), Program(containerd)).found
    )
    path.write_text(f"version = 2\n{printed(path, 1)}")
    assert "no such file" in containerd_checks.others(str(path), Program("/nowhere/containerd")).found.lower()
    assert containerd_checks.others(f"{path}.none", Program(containerd)).level == OK

"""doctor names the troubles with AppArmor that this node has, by what its kernel says."""

import pytest

from pouchrich import apparmor_node
from pouchrich.checks import FAIL, OK, WARN
from runtime import config


@pytest.fixture
def look(tmp_path):
    """Writes files, by their path below the directory, and says what is found."""

    def found(release="6.12.1", enabled="Y\n", **files):
        given = {"enabled": enabled, **{name.replace("__", "/"): text for name, text in files.items()}}
        for name, text in given.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        places = {name: str(tmp_path / name) for name in ("features", "profiles", "enabled", "restrict")}
        return [(one.level, one.found) for one in apparmor_node.checks(release=release, **places)]

    return found


def test_where_it_is_not_in_force_that_is_all(look):
    assert look(enabled="N\n", restrict="1\n") == [(OK, "not in force")]


def test_a_node_without_troubles(look):
    ((level, said),) = look(
        features__domain__stack="yes\n", restrict="0\n", profiles="cri (enforce)\nsshd (complain)\n"
    )
    assert (level, said) == (OK, "in force, no known problem")


@pytest.mark.parametrize(
    ("node", "named"),
    [
        ({"release": "6.17.0-5", "features__domain__stack": "yes\n"}, "containerd#12886"),
        ({"release": "7.2.13+deb14", "features__domain__stack": "yes\n"}, "containerd#12886"),
        ({"features__network__af_unix": "yes\n"}, "containerd#12726"),
        ({"restrict": "1\n"}, "restrict_unprivileged_userns is 1"),
        ({"profiles": "/usr/sbin/rsyslogd (enforce)\nx (enforce)\n"}, "profiles /usr/sbin/rsyslogd also confine"),
        ({"profiles": "sshd (enforce)\nrsyslogd (enforce)\n"}, "profiles rsyslogd, sshd also confine"),
    ],
)
def test_each_trouble_is_named(look, node, named):
    ((level, said),) = look(**node)
    assert level == WARN
    assert named in said


def test_a_kernel_that_stacks_but_is_older_is_left_alone(look):
    assert [level for level, _ in look(release="6.16.9", features__domain__stack="yes\n")] == [OK]


@pytest.mark.parametrize(
    ("enabled", "profiles", "level", "said"),
    [
        ("Y\n", "ours (enforce)\n", OK, "profile ours is loaded"),
        (
            "Y\n",
            "ours-2 (enforce)\n",
            FAIL,
            "profile ours is not loaded: rich containers whose pods name none are refused",
        ),
        ("Y\n", None, WARN, "profile ours: cannot read whether it is loaded"),
        ("N\n", None, OK, "profile ours has no effect, because AppArmor is not in force"),
    ],
)
def test_a_profile_that_a_configuration_names_is_looked_for(tmp_path, enabled, profiles, level, said):
    (tmp_path / "enabled").write_text(enabled)
    if profiles is not None:
        (tmp_path / "profiles").write_text(profiles)
    named = config.parse('version = 1\nrich.apparmor-profile = "ours"', source="/etc/c.toml")
    places = {name: str(tmp_path / name) for name in ("enabled", "profiles")}
    (found,) = apparmor_node.named(named, **places)
    assert (found.level, found.found) == (level, f"/etc/c.toml: rich.apparmor-profile: {said}")
    assert list(apparmor_node.named(config.DEFAULT, **places)) == []

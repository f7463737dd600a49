"""pouchrich.containerd_config: handlers as containerd's versions would see them."""

import pytest

from pouchrich import containerd_config
from pouchrich.containerd_config import Handler
from runtime.errors import InvalidArgument, NotFound

V2 = "io.containerd.grpc.v1.cri"
V3 = "io.containerd.cri.v1.runtime"
OURS = 'runtime_type = "io.containerd.pouchrich.v2"\n'


def section(plugin, name, text=OURS):
    return f'[plugins."{plugin}".containerd.runtimes.{name}]\n{text}'


@pytest.mark.parametrize(("plugin", "version", "major"), [(V2, 2, 1), (V2, 2, 2), (V3, 3, 2)])
def test_handlers_are_found_in_both_versions(tmp_path, plugin, version, major):
    path = tmp_path / "config.toml"
    path.write_text(
        f"version = {version}\n"
        + section(plugin, "rich", OURS + 'pod_annotations = ["pouchrich.io/*"]\n')
        + f'[plugins."{plugin}".containerd.runtimes.rich.options]\nconfigPath = "/c"\n'
        + section(plugin, "runc", 'runtime_type = "io.containerd.runc.v2"\n')
    )
    (found,) = containerd_config.handlers(str(path), major=major)
    assert (found.name, found.pod_annotations, found.config_path) == ("rich", ("pouchrich.io/*",), "/c")
    assert found.source == f'{path}: plugins."{plugin}".containerd.runtimes.rich'
    assert found.takes_our_options


def test_a_drop_in_for_runc_is_ours_by_its_path(tmp_path):
    path = tmp_path / "config.toml"
    shim = 'runtime_type = "io.containerd.runc.v2"\nruntime_path = "/opt/bin/containerd-shim-pouchrich-v2"\n'
    path.write_text(section(V2, "runc", shim))
    (found,) = containerd_config.handlers(str(path), major=1)
    assert not found.takes_our_options


def test_imports_are_merged_by_2_and_replace_the_section_in_1(tmp_path):
    path = tmp_path / "config.toml"
    (tmp_path / "conf.d").mkdir()
    path.write_text('imports = ["conf.d/*.toml"]\n' + section(V2, "rich"))
    (tmp_path / "conf.d/a.toml").write_text(section(V2, "other"))
    names = {major: [one.name for one in containerd_config.handlers(str(path), major=major)] for major in (1, 2)}
    assert names == {1: ["other"], 2: ["rich", "other"]}
    assert containerd_config.handlers(str(path), major=1)[0].source.startswith(f"{tmp_path}/conf.d/a.toml: ")


def test_imports_of_imports_are_read_once(tmp_path):
    (tmp_path / "a.toml").write_text('imports = ["b.toml"]\n')
    (tmp_path / "b.toml").write_text(f'imports = ["{tmp_path}/a.toml"]\n')
    assert [path for path, _ in containerd_config.documents(str(tmp_path / "a.toml"))] == [
        f"{tmp_path}/a.toml",
        f"{tmp_path}/b.toml",
    ]


def test_what_is_no_configuration_is_named(tmp_path):
    path = tmp_path / "config.toml"
    with pytest.raises(NotFound, match=r"config\.toml: no such file"):
        containerd_config.handlers(str(path), major=1)
    path.write_text("=")
    with pytest.raises(InvalidArgument, match="allowed TOML"):
        containerd_config.handlers(str(path), major=1)
    path.write_text("imports = 1")
    with pytest.raises(InvalidArgument, match="imports: found int, allowed a list of strings"):
        containerd_config.handlers(str(path), major=1)
    path.write_text('imports = ["none.toml"]')
    with pytest.raises(NotFound, match=r"none\.toml"):
        containerd_config.handlers(str(path), major=1)


@pytest.mark.parametrize(
    ("patterns", "passes"),
    [
        (("pouchrich.io/*",), True),
        (("other/*", "*/*"), True),
        (("*",), False),
        (("pouchrich.io/mode",), False),
        ((), False),
    ],
)
def test_patterns_are_gos_whose_star_stops_at_a_slash(patterns, passes):
    assert containerd_config.passes_pod_annotations(Handler("h", "f", "t", pod_annotations=patterns)) is passes


def test_the_grace_period_has_an_annotation_of_its_own():
    assert containerd_config.passes_grace_period(Handler("h", "f", "t", container_annotations=("io.kubernetes.*",)))
    assert not containerd_config.passes_grace_period(Handler("h", "f", "t", container_annotations=("*/*",)))

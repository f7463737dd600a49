import json
import os
from dataclasses import replace

import pytest

from runtime.agents import cgroup
from runtime.config.document import parse
from runtime.errors import InvalidArgument
from runtime.image.image import Rootfs
from runtime.init.base import MountPoint
from runtime.rich import extras
from runtime.spec import edit

SPEC = {
    "process": {"args": ["app"], "env": ["A=b c", "PATH=/opt/bin"], "user": {"uid": 1000, "gid": 1000}},
    "mounts": [{"destination": "/proc", "type": "proc", "source": "proc"}],
}
POINTS = (MountPoint("/proc", "/proc", SPEC["mounts"][0]),)
AGENTS = """
version = 1
[[agents]]
name = "probe"
command = ["/opt/probe/run"]
user = "app"
mounts = [{ source = "/srv/probe", target = "/opt/probe" }]
[[agents]]
name = "elsewhere"
command = ["/x"]
user = "nobody-knows"
when = { namespace = ["other"] }
[[routes]]
to = "10.1.0.0/16"
via = "10.0.0.1"
[[routes]]
to = "10.2.0.0/16"
via = "10.0.0.1"
when = { namespace = ["other"] }
"""


def config(text=AGENTS):
    return parse(text, source="node.toml")


@pytest.fixture
def rootfs(tmp_path):
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n")
    return tmp_path


def in_namespace(name):
    return lambda when: when.selects(mode=None, namespace=name, image="", container="")


def made(rootfs, *, units=False, text=AGENTS, namespace="shop", lxcfs_seen=(False, ())):
    settings = config(text)
    with Rootfs.open(str(rootfs)) as root:
        seen = extras.inspect(root, SPEC, settings)
    return extras.make(
        SPEC,
        config=settings,
        mode="systemd" if units else "dumb-init",
        selects=in_namespace(namespace),
        units=units,
        seen=replace(seen, lxcfs_mounted=lxcfs_seen[0], lxcfs_files=lxcfs_seen[1]),
        points=POINTS,
        run_dir="/run/pouchrich/containers/k8s.io/c1",
    )


def destinations(found):
    return [one["destination"] for one in edit.apply({"mounts": []}, found.steps)["mounts"]]


def test_without_systemd_agents_are_for_the_shim_to_supervise(rootfs):
    found = made(rootfs)
    assert [one.name for one in found.agents] == ["probe"]
    assert found.agents[0].process["user"] == {"uid": 1000, "gid": 1001, "additionalGids": []}
    assert found.files == ()
    assert destinations(found) == ["/opt/probe", "/etc/profile.d/pouchenv.sh"]


def test_a_container_that_opens_files_by_handle_and_gets_an_agents_mounts_is_warned_of(rootfs, monkeypatch):
    assert made(rootfs).warnings == ()
    process = {**SPEC["process"], "capabilities": {"bounding": ["CAP_DAC_READ_SEARCH"]}}
    monkeypatch.setitem(SPEC, "process", process)
    (warning,) = made(rootfs).warnings
    assert warning.startswith("node.toml: agents: a container with CAP_DAC_READ_SEARCH")
    assert "/srv/probe" in warning
    assert made(rootfs, text="version = 1").warnings == ()


def test_with_systemd_they_are_units_in_the_run_directory(rootfs):
    found = made(rootfs, units=True)
    assert found.agents == ()
    assert [file.name for file in found.files] == ["pouchrich-agent-probe.service", "agents.conf"]
    sources = [step.edit.operand["source"] for step in found.steps]
    assert "/run/pouchrich/containers/k8s.io/c1/pouchrich-agent-probe.service" in sources


def test_under_systemd_an_agent_with_a_memory_limit_is_for_the_shim_to_supervise(rootfs, monkeypatch):
    """In a unit it would be killed inside the container's cgroup, and containerd would call the container OOMKilled."""
    monkeypatch.setattr(cgroup, "has_v2_memory", lambda: True)
    found = made(rootfs, units=True, text=AGENTS.replace('user = "app"', 'user = "app"\nmemory = "1Mi"'))
    assert ([one.memory_bytes for one in found.agents], found.files) == ([1 << 20], ())


def test_the_environment_is_the_pods_with_the_variables_of_a_rich_container(rootfs):
    (file,) = made(rootfs).env_files
    text = file.text
    assert "A='b c'; export A\n" in text
    assert "rich_mode='true'; export rich_mode\n" in text
    assert "rich_mode_launch_manner='dumb-init'; export rich_mode_launch_manner\n" in text


def test_the_environment_file_can_be_switched_off_and_is_skipped_with_a_warning(rootfs):
    assert made(rootfs, text="version = 1\n[rich]\nenv-file = false\n").env_files == ()
    (rootfs / "usr").mkdir()
    os.symlink("/usr", rootfs / "etc/profile.d")
    found = made(rootfs)
    assert found.env_files == ()
    assert found.warnings == (
        "rich.env-file: /etc/profile.d/pouchenv.sh: the image's symbolic links lead to /usr/pouchenv.sh, skipped",
    )


def test_routes_are_those_that_select_the_container(rootfs):
    assert [one.to for one in made(rootfs).routes] == ["10.1.0.0/16"]
    assert len(made(rootfs, text=AGENTS.replace("nobody-knows", "app"), namespace="other").routes) == 2


def test_an_agents_user_that_the_image_does_not_have_matters_only_where_it_is_selected(rootfs):
    with pytest.raises(InvalidArgument, match=r"node.toml: agents\[1\]: user: found 'nobody-knows'"):
        made(rootfs, namespace="other")


def test_lxcfs_files_are_bound_over_the_containers_own_proc(rootfs):
    assert "/proc/meminfo" in destinations(made(rootfs, lxcfs_seen=(True, ("proc/meminfo",))))
    assert "does not answer" in made(rootfs, lxcfs_seen=(True, ())).warnings[0]


def test_its_steps_can_be_kept_in_a_plan(rootfs):
    steps = made(rootfs, units=True).steps
    assert all(json.loads(json.dumps(step.edit.operand)) == step.edit.operand for step in steps)

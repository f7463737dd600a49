"""runtime.init.delegate: a writable subtree for a container whose PID 1 makes no cgroups."""

from dataclasses import replace

import pytest

from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.init import delegate, dumb_init, sbin_init, systemd
from runtime.init.detect import InitFacts
from runtime.spec import edit
from tests.unit.init.settings import CAPABILITIES, setting, spec_of

SYSVINIT = InitFacts(kind="sysvinit", present=("/etc/init.d/rc",))
CGROUP = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
MODES = {"dumb-init": dumb_init.make, "sbin-init": sbin_init.make}


def wanted(mode="dumb-init", *, host=None, bounding=CAPABILITIES, **more):
    spec = spec_of(CGROUP, bounding=bounding)
    host = host or HostFacts()
    return setting(CGROUP, spec=spec, mode=mode, init=SYSVINIT, delegates="/etc/x.toml: rich.cgroup", host=host, **more)


@pytest.mark.parametrize("mode", MODES)
def test_its_own_cgroup_is_writable_and_pid_1_goes_below_it(mode):
    one = wanted(mode)
    made = MODES[mode](one)
    assert (made.cgroup.descendants, made.cgroup.depth, made.cgroup.leaf) == (1024, 8, "app")
    assert made.cgroup.parent == ""
    spec = edit.apply(one.spec, made.steps)
    (mount,) = (found for found in spec["mounts"] if found["destination"] == "/sys/fs/cgroup")
    assert "rw" in mount["options"]
    assert "ro" not in mount["options"]
    assert {"type": "cgroup"} in spec["linux"]["namespaces"]


@pytest.mark.parametrize("mode", MODES)
def test_without_nsdelegate_it_is_one_level_below_its_limits(mode):
    one = wanted(mode, host=HostFacts(nsdelegate=False))
    made = MODES[mode](one)
    assert made.cgroup.parent == "/kubepods/pod/c"
    assert edit.apply(one.spec, made.steps)["linux"]["cgroupsPath"] == "/kubepods/pod/c/pouchrich"


def test_without_nsdelegate_a_scope_of_systemds_is_refused_with_the_reason():
    one = wanted(host=HostFacts(nsdelegate=False))
    one.spec["linux"]["cgroupsPath"] = "kubepods.slice:cri-containerd:c"
    with pytest.raises(InvalidArgument, match="mounted without nsdelegate, so the limits need a cgroup above"):
        dumb_init.make(one)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cgroups", ["v1", "hybrid"])
def test_a_host_with_cgroup_v1_is_refused_with_the_key_and_the_reason(mode, cgroups):
    with pytest.raises(InvalidArgument) as found:
        MODES[mode](wanted(mode, host=HostFacts(cgroups, nsdelegate=False)))
    assert str(found.value).startswith(
        f"/etc/x.toml: rich.cgroup: found delegate, allowed on this host only pod: its cgroups are {cgroups}, and only"
    )


def test_who_could_open_any_cgroup_by_a_handle_is_refused():
    with pytest.raises(InvalidArgument, match=r"CAP_DAC_READ_SEARCH.* or use /etc/x.toml: rich.cgroup = pod"):
        dumb_init.make(wanted(bounding=(*CAPABILITIES, "CAP_DAC_READ_SEARCH")))


def test_a_mount_of_the_pods_in_the_tree_is_refused():
    volume = {"destination": "/sys/fs/cgroup/mine", "type": "bind", "source": "/srv", "options": []}
    one = wanted()
    points = setting(CGROUP, volume).mounts
    with pytest.raises(
        InvalidArgument, match=r"allowed none at or below /sys/fs/cgroup where the container's own cgroups are writable"
    ):
        dumb_init.make(replace(one, spec={**one.spec, "mounts": [CGROUP, volume]}, mounts=points))


def test_nothing_of_it_where_the_node_does_not_want_it_or_systemd_has_its_own():
    assert delegate.subtree(replace(wanted(), delegates="")) == ((), None)
    made = systemd.make(setting(CGROUP, spec=spec_of(CGROUP), delegates="rich.cgroup"))
    assert made.cgroup.leaf == ""

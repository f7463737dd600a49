"""runtime.init.cgroup: what PID 1 may write, by the form of the host's cgroups."""

import pytest

from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.init import cgroup
from runtime.init.cgroup import Delegation
from runtime.spec import edit
from tests.unit.init.settings import spec_of

DEFAULT = {"destination": "/sys/fs/cgroup", "type": "cgroup", "source": "cgroup", "options": ["ro"]}
V1 = HostFacts(cgroups="v1", nsdelegate=False, named="/sys/fs/cgroup/systemd")


def laid(host, *mounts, path="/kubepods/pod/c", version=252):
    spec = spec_of(*(mounts or (DEFAULT,)))
    spec["linux"]["cgroupsPath"] = path
    steps, delegation = cgroup.layout(spec, host, (100, 4), {}, version)
    return edit.apply(spec, steps), delegation


def test_on_v2_with_nsdelegate_the_own_cgroup_is_writable_and_the_kernel_guards_its_limits():
    after, delegation = laid(HostFacts())
    assert after["mounts"] == [
        {
            "destination": "/sys/fs/cgroup",
            "type": "cgroup",
            "source": "cgroup",
            "options": ["nosuid", "noexec", "nodev", "relatime", "rw"],
        }
    ]
    assert {"type": "cgroup"} in after["linux"]["namespaces"]
    assert (after["linux"]["cgroupsPath"], delegation) == ("/kubepods/pod/c", Delegation(100, 4))


def test_on_a_hybrid_host_a_systemd_that_knows_v1_has_its_v2_cgroup_beside_v1s_limits():
    hybrid = HostFacts(cgroups="hybrid", named="/sys/fs/cgroup/systemd")
    after, _ = laid(hybrid, version=252)
    assert [(one["destination"], one["type"], one["options"][-1]) for one in after["mounts"]] == [
        ("/sys/fs/cgroup", "cgroup", "ro"),
        ("/sys/fs/cgroup/systemd", "cgroup2", "rw"),
    ]
    for version in (258, None):
        after, _ = laid(hybrid, version=version)
        assert [(one["type"], one["options"][-1]) for one in after["mounts"]] == [("cgroup2", "rw")]


def test_without_nsdelegate_the_container_goes_one_level_below_its_limits():
    after, delegation = laid(HostFacts(nsdelegate=False))
    assert after["linux"]["cgroupsPath"] == "/kubepods/pod/c/pouchrich"
    assert delegation == Delegation(100, 4, parent="/kubepods/pod/c")


def test_without_nsdelegate_a_scope_of_systemd_cannot_be_nested():
    with pytest.raises(InvalidArgument, match="mounted without nsdelegate"):
        laid(HostFacts(nsdelegate=False), path="kubepods.slice:cri-containerd:c")


def test_where_no_systemd_makes_slices_their_form_is_a_name():
    path = "kubepods.slice:cri-containerd:c"
    after, delegation = laid(HostFacts(nsdelegate=False, systemd=False), path=path)
    assert delegation.parent == f"/{path}"
    assert after["linux"]["cgroupsPath"] == f"/{path}/pouchrich"
    old = HostFacts(cgroups="v1", nsdelegate=False, named="/sys/fs/cgroup/systemd", systemd=False)
    assert laid(old, path=path, version=219)[1].directory == f"/sys/fs/cgroup/systemd/{path}"


def test_on_v1_the_v2_tree_that_is_not_mounted_stands_where_systemd_232_had_it():
    after, delegation = laid(V1)
    assert [(one["destination"], one["type"], one["options"][-1]) for one in after["mounts"]] == [
        ("/sys/fs/cgroup", "cgroup", "ro"),
        ("/sys/fs/cgroup/systemd", "cgroup2", "rw"),
    ]
    assert (after["linux"]["cgroupsPath"], delegation.directory) == ("/kubepods/pod/c", "")
    assert delegation.unmounted.startswith("/pouchrich-kubepods!pod!c-")
    assert len(laid(V1, path="/a/" + 300 * "\u00e9")[1].unmounted.encode()) < 255
    assert "/" not in delegation.unmounted[1:]
    assert laid(V1, path="/kubepods/other/c")[1].unmounted != delegation.unmounted


@pytest.mark.parametrize(("host", "version"), [(V1, 258), (V1, None), (HostFacts(cgroups="v1"), 252)])
def test_on_v1_what_cannot_stand_there_has_the_v2_tree_alone(host, version):
    after, delegation = laid(host, version=version)
    assert [(one["destination"], one["type"], one["options"][-1]) for one in after["mounts"]] == [
        ("/sys/fs/cgroup", "cgroup2", "rw")
    ]
    assert delegation.unmounted


def test_on_v1_a_systemd_before_232_has_its_own_directory_of_the_named_hierarchy():
    after, delegation = laid(V1, version=219)
    assert [(one["destination"], one["type"], one["options"][-1]) for one in after["mounts"]] == [
        ("/sys/fs/cgroup", "cgroup", "ro"),
        ("/sys/fs/cgroup/systemd", "bind", "nodev"),
    ]
    assert after["mounts"][1]["source"] == delegation.directory == "/sys/fs/cgroup/systemd/kubepods/pod/c"


def test_a_systemd_that_knows_no_v2_gets_the_named_hierarchy_of_a_hybrid_host():
    hybrid = HostFacts(cgroups="hybrid", nsdelegate=False, named="/sys/fs/cgroup/systemd")
    assert laid(hybrid, version=219)[1].directory
    assert not laid(hybrid, version=239)[1].directory


@pytest.mark.parametrize(
    ("path", "directory"),
    [
        ("/a/../b", None),
        ("relative", None),
        (None, None),
        ("a.slice:b", None),
        ("../x.slice:p:n", None),
        ("/a//b/", "/a/b"),
        (
            "kubepods-burstable-podx.slice:cri:c",
            "/kubepods.slice/kubepods-burstable.slice/kubepods-burstable-podx.slice/cri-c.scope",
        ),
    ],
)
def test_a_cgroups_path_as_a_directory(path, directory):
    spec = {"linux": {"cgroupsPath": path}}
    if directory is None:
        with pytest.raises(InvalidArgument, match=r"linux\.cgroupsPath: found"):
            cgroup.path_of(spec)
    else:
        assert cgroup.path_of(spec) == directory


IMAGE_VOLUMES = ["/c/io.containerd.grpc.v1.cri/containers/c1/volumes/5f3a", f"/d/volumes/{'5f3a' * 16}/_data"]


@pytest.mark.parametrize("volume", IMAGE_VOLUMES, ids=["of Kubernetes", "of Docker"])
@pytest.mark.parametrize(
    "facts", [HostFacts(), HostFacts(cgroups="v1", nsdelegate=False, named="/sys/fs/cgroup/systemd")]
)
def test_a_volume_of_the_image_there_makes_room(facts, volume):
    """The client leaves its own mount out for it; images for systemd have had one since before cgroup namespaces."""
    own = {"destination": "/sys/fs/cgroup", "type": "bind", "source": volume}
    found = laid(facts, own)
    assert volume not in str(found)
    assert "/sys/fs/cgroup" in str(found)
    with pytest.raises(InvalidArgument, match="allowed none at or below /sys/fs/cgroup"):
        laid(facts, {**own, "destination": "/sys/fs/cgroup/memory"})


@pytest.mark.parametrize("destination", ["/sys/fs/cgroup", "/sys/fs/cgroup/memory"])
def test_a_volume_over_the_cgroups_is_refused(destination):
    with pytest.raises(InvalidArgument, match="allowed none at or below /sys/fs/cgroup"):
        laid(HostFacts(), {"destination": destination, "type": "bind", "source": "/sys/fs/cgroup"})

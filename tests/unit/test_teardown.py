"""runtime.teardown: what a Delete leaves is nothing, and what cannot be removed fails it only where it must."""

import pytest

from runtime import teardown
from runtime.bundle import Bundle
from runtime.cgroup import Cgroup
from runtime.errors import InvalidArgument, PouchrichError


class World:
    """A bundle with a spec, and in `said` what was removed."""

    def __init__(self, directory, monkeypatch):
        self.bundle = Bundle(str(directory))
        self.directory = directory
        self.said = []
        self.fails = None
        (directory / "config.json").write_text('{"linux": {}}')
        monkeypatch.setattr(teardown.rootfs, "unmount_all", lambda path: self.said.append(f"unmount {path}"))
        monkeypatch.setattr(teardown.interrupted, "remove_cgroups", self._remove)

    def _remove(self, spec, container_id="", *, patience_s):
        assert spec == {"linux": {}}
        self.said.append("cgroups")
        if self.fails is not None:
            raise self.fails

    def remove(self, cgroup):
        teardown.remove_mounts_and_cgroups(self.bundle, cgroup)
        return self.said


@pytest.fixture
def world(tmp_path, monkeypatch):
    return World(tmp_path, monkeypatch)


def test_where_the_cgroup_is_gone_only_the_root_is_left(world):
    assert world.remove(Cgroup(unified=str(world.directory / "gone"))) == [f"unmount {world.bundle.rootfs}"]


def test_a_cgroup_that_is_left_and_one_that_is_not_known_go_before_the_root(world):
    assert world.remove(Cgroup(unified=str(world.directory))) == ["cgroups", f"unmount {world.bundle.rootfs}"]
    world.said.clear()
    assert world.remove(None) == ["cgroups", f"unmount {world.bundle.rootfs}"]


@pytest.mark.parametrize("error", [OSError("busy"), PouchrichError("busy")])
def test_a_cgroup_that_cannot_be_removed_stays_and_the_root_goes(world, error):
    world.fails = error
    assert world.remove(None)[-1] == f"unmount {world.bundle.rootfs}"


def test_without_a_spec_the_root_goes(world):
    (world.directory / "config.json").unlink()
    with pytest.raises(InvalidArgument):
        world.bundle.load_spec()
    assert world.remove(None) == [f"unmount {world.bundle.rootfs}"]


def test_a_members_root_goes_from_containerds_bundle_too_and_its_own_bundle_last(world, tmp_path, monkeypatch):
    monkeypatch.setattr(teardown.rootfs, "hide", lambda path: world.said.append(f"hide {path}"))
    (world.directory / "given").symlink_to("/containerds")
    assert world.remove(Cgroup(unified="/gone")) == ["hide /containerds/rootfs", f"unmount {world.bundle.rootfs}"]
    world.bundle.write_record({})
    teardown.remove_record(world.bundle)
    assert not world.directory.exists()


def test_containerds_own_bundle_is_containerds_to_remove(world):
    world.bundle.write_record({})
    teardown.remove_record(world.bundle)
    assert [path.name for path in world.directory.iterdir()] == ["config.json"]

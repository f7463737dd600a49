import os
import stat

import pytest

from runtime.agents.mounts import check_sources, steps
from runtime.errors import InvalidArgument
from runtime.init.base import MountPoint
from tests.unit.agents.making import bind, selected


def point(path, fstype="bind", source="/srv/volume", options=()):
    return MountPoint(path, path, {"destination": path, "type": fstype, "source": source, "options": list(options)})


def made(*mounts, points=(), resolved=None):
    return steps([selected(mounts=mounts)], points, resolved or {}, source="node.toml")


def files(**modes):
    """An lstat of a tree whose directories are root's; `modes` are (mode, uid) by last path part."""

    def lstat(path):
        mode, uid = modes.get(os.path.basename(path), (stat.S_IFDIR | 0o755, 0))
        if mode is None:
            raise FileNotFoundError(2, "No such file or directory", path)
        return os.stat_result((mode, 1, 1, 1, uid, 0, 0, 0, 0, 0))

    return lstat


def test_a_mount_is_read_only_unless_the_node_says_otherwise():
    read, write = made(bind(), bind("/srv/log", "/var/log/probe", read_only=False))
    assert read.edit.operand["options"] == ["bind", "ro", "nosuid", "nodev", "rprivate"]
    assert write.edit.operand["options"][1] == "rw"


@pytest.mark.parametrize("target", ["/proc/x", "/sys", "/run/pouchrich", "/run/pouchrich/app", "/run"])
def test_a_mount_over_what_is_the_kernels_or_ours_is_refused(target):
    with pytest.raises(InvalidArgument, match=r"node.toml: agents\[0\].mounts\[0\].target: found"):
        made(bind(target=target))


def test_a_target_that_the_image_leads_into_proc_is_refused():
    with pytest.raises(InvalidArgument, match=r"/opt/probe \(/proc/self/probe in the image\)"):
        made(bind(), resolved={"/opt/probe": "/proc/self/probe"})


@pytest.mark.parametrize(
    "taken", [point("/opt/probe"), point("/opt/probe/conf"), point("/opt"), point("/opt", "tmpfs", "t", ["ro"])]
)
def test_a_target_that_hides_a_mount_of_the_pod_or_lies_on_its_volume_is_refused(taken):
    with pytest.raises(InvalidArgument, match=taken.destination):
        made(bind(), points=[taken])


@pytest.mark.parametrize(
    "above", [point("/opt", "tmpfs"), point("/opt", source="/v/volumes/kubernetes.io~empty-dir/x")]
)
def test_a_target_on_the_pods_own_tmpfs_or_empty_directory_is_free(above):
    assert len(made(bind(), points=[point("/opt"), above])) == 1


def test_agents_may_share_a_mount_but_not_a_target():
    assert len(made(bind(), bind())) == 1
    with pytest.raises(InvalidArgument, match=r"mounts\[1\].target: found /opt/probe, which another mount has"):
        made(bind(), bind("/srv/other"))


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ((None, 0), "found nothing at /srv/probe"),
        ((stat.S_IFDIR | 0o777, 0), "permissions: found 0777"),
        ((stat.S_IFDIR | 0o755, 1000), "owner: found uid 1000"),
        ((stat.S_IFSOCK | 0o666, 1000), "owner: found uid 1000"),
    ],
)
def test_a_source_that_others_than_root_could_change_is_refused(found, said):
    with pytest.raises(InvalidArgument, match=rf"node.toml: agents\[0\].mounts\[0\].source: .*{said}"):
        check_sources([selected(mounts=(bind(),))], source="node.toml", lstat=files(probe=found))


def test_a_source_below_a_directory_that_others_can_write_is_refused():
    with pytest.raises(InvalidArgument, match="/srv: permissions: found 0777"):
        check_sources([selected(mounts=(bind(),))], source="node.toml", lstat=files(srv=(stat.S_IFDIR | 0o777, 0)))


@pytest.mark.parametrize("mode", [stat.S_IFDIR | 0o755, stat.S_IFREG | 0o644, stat.S_IFSOCK | 0o666])
def test_roots_own_directory_file_or_socket_is_taken(mode):
    check_sources([selected(mounts=(bind(),))], source="node.toml", lstat=files(probe=(mode, 0)))
    assert made(bind())[0].edit.operand["source"] == "/srv/probe"

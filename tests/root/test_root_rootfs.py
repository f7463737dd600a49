"""Real mounts, in a private mount namespace."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from runtime import rootfs
from runtime.errors import InvalidArgument, PouchrichError
from runtime.linux import mountinfo, mounts
from runtime.rootfs import Mount

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root"),
]


def no_helper(argv):
    raise AssertionError(f"no helper was to run: {argv}")


@pytest.fixture
def bundle(isolated, tmp_path):
    """Run a function with a fresh bundle directory, isolated; afterwards nothing may be mounted in it."""

    def run(action):
        def on_tmpfs():
            mounts.syscalls.mount("bundle", tmp_path, "tmpfs", 0, "mode=0700")
            action(tmp_path)
            rootfs.unmount_all(str(tmp_path / "rootfs"))
            assert mounts.mount_points(str(tmp_path)) == (str(tmp_path),)

        isolated(on_tmpfs)

    return run


def is_mounted(path):
    return os.path.realpath(path) in mounts.mount_points(path)


def entries_below(path):
    return [entry for entry in mountinfo.read() if entry.mount_point.startswith(str(path))]


def overlay_of(base, count, *, name_length=1):
    lowers = []
    for number in range(count):
        lower = base / f"{number:0{name_length}d}" / "fs"
        lower.mkdir(parents=True)
        (lower / f"file{number}").write_text(str(number))
        lowers.append(str(lower))
    for name in ("upper", "work"):
        (base / name).mkdir()
    return Mount(
        "overlay",
        "overlay",
        "",
        ("index=off", f"workdir={base}/work", f"upperdir={base}/upper", "lowerdir=" + ":".join(lowers)),
    )


def test_an_overlay_shows_its_layers_and_takes_writes(bundle):
    def check(directory):
        root = directory / "rootfs"
        rootfs.mount_all([overlay_of(directory / "snap", 3)], str(root), run=no_helper)
        assert is_mounted(str(root))
        assert sorted(os.listdir(root)) == ["file0", "file1", "file2"]
        (root / "new").write_text("x")
        assert (directory / "snap" / "upper" / "new").read_text() == "x"

    bundle(check)


def test_an_overlay_of_100_layers_with_long_paths_is_mounted_and_the_process_stays_where_it_was(bundle):
    def check(directory):
        root = directory / "rootfs"
        before = os.getcwd()
        mount = overlay_of(directory / ("snapshotter" * 10), 100, name_length=8)
        assert len(mount.options[-1]) > 4096
        rootfs.mount_all([mount], str(root), run=no_helper)
        assert len(os.listdir(root)) == 100
        assert os.getcwd() == before

    bundle(check)


def test_an_overlay_that_is_too_long_even_so_is_refused(bundle):
    def check(directory):
        mount = overlay_of(directory / "snap", 60, name_length=100)
        with pytest.raises(InvalidArgument, match=r"rootfs mount 0: mount options is too long"):
            rootfs.mount_all([mount], str(directory / "rootfs"), run=no_helper)

    bundle(check)


def test_a_read_only_bind_refuses_writes_and_its_source_still_takes_them(bundle):
    def check(directory):
        root, source = directory / "rootfs", directory / "source"
        source.mkdir()
        rootfs.mount_all([Mount("bind", str(source), "", ("rbind", "ro"))], str(root), run=no_helper)
        with pytest.raises(OSError, match="Read-only"):
            (root / "f").write_text("x")
        (source / "f").write_text("x")
        assert (root / "f").read_text() == "x"

    bundle(check)


def test_a_bind_gets_nosuid_and_propagation_where_they_are_asked_for(bundle):
    def check(directory):
        root, source = directory / "rootfs", directory / "source"
        source.mkdir()
        words = ("bind", "nosuid", "nodev", "rshared")
        rootfs.mount_all([Mount("bind", str(source), "", words)], str(root), run=no_helper)
        flags = os.statvfs(root).f_flag
        assert flags & os.ST_NOSUID
        assert flags & os.ST_NODEV
        assert not flags & os.ST_RDONLY
        lines = Path("/proc/self/mountinfo").read_text().splitlines()
        assert [line for line in lines if f" {root} " in line and " shared:" in line]

    bundle(check)


def test_a_target_is_looked_up_inside_what_was_mounted_before(bundle):
    def check(directory):
        root = directory / "rootfs"
        base = directory / "base"
        (base / "var" / "lib").mkdir(parents=True)
        rootfs.mount_all(
            [
                Mount("bind", str(base), "", ("rbind",)),
                Mount("tmpfs", "tmpfs", "/var/lib", ("nosuid", "size=1m", "mode=0750")),
            ],
            str(root),
            run=no_helper,
        )
        assert os.stat(root / "var" / "lib").st_mode & 0o7777 == 0o750
        assert entries_below(root / "var")[0].fstype == "tmpfs"

    bundle(check)


@pytest.mark.parametrize("target", ["/link", "link/../../../../../../escape", "up", "../../../escape"])
def test_a_target_cannot_leave_the_rootfs(bundle, target):
    def check(directory):
        root, base, outside = directory / "rootfs", directory / "base", directory / "escape"
        base.mkdir()
        outside.mkdir()
        (base / "escape").mkdir()
        (base / "link").symlink_to("/escape")
        (base / "up").symlink_to("../../../../../.." + str(outside))
        mounts_wanted = [
            Mount("bind", str(base), "", ("rbind",)),
            Mount("tmpfs", "tmpfs", target, ("size=1m",)),
        ]
        if target == "up":  # inside the rootfs there is no such path
            with pytest.raises(PouchrichError, match="No such file or directory"):
                rootfs.mount_all(mounts_wanted, str(root), run=no_helper)
            assert not is_mounted(str(root))
        else:
            rootfs.mount_all(mounts_wanted, str(root), run=no_helper)
            assert is_mounted(str(root / "escape"))
        assert not is_mounted(str(outside))

    bundle(check)


def test_what_was_mounted_before_a_failure_is_unmounted(bundle):
    def check(directory):
        root = directory / "rootfs"
        with pytest.raises(PouchrichError, match=r"rootfs mount 2: nosuchfs at .*/rootfs") as caught:
            rootfs.mount_all(
                [
                    Mount("tmpfs", "tmpfs", "", ()),
                    Mount("tmpfs", "tmpfs", "", ("ro",)),
                    Mount("nosuchfs", "none", "", ()),
                ],
                str(root),
                run=no_helper,
            )
        assert isinstance(caught.value.__cause__, OSError)
        assert not is_mounted(str(root))

    bundle(check)


def test_stacked_and_hidden_mounts_all_go(bundle):
    def check(directory):
        root = directory / "rootfs"
        rootfs.mount_all([Mount("tmpfs", "tmpfs", "", ())], str(root), run=no_helper)
        (root / "a b").mkdir()
        tmpfs = Mount("tmpfs", "tmpfs", "a b", ())
        rootfs.mount_all([tmpfs, tmpfs], str(root), run=no_helper)
        rootfs.mount_all([Mount("tmpfs", "tmpfs", "", ())] * 3, str(root), run=no_helper)  # hides `a b`
        assert len(entries_below(root)) == 6
        rootfs.unmount_all(str(root))
        assert entries_below(root) == []
        rootfs.unmount_all(str(root))
        rootfs.unmount_all(str(directory / "missing" / "rootfs"))

    bundle(check)


def test_what_is_shown_elsewhere_is_the_same_until_it_is_hidden(bundle):
    def check(directory):
        root, shown = directory / "rootfs", directory / "shown"
        shown.mkdir()
        mounts.syscalls.mount(None, str(directory), None, mounts.syscalls.MS_SHARED)  # as /run is where systemd runs
        tmpfs = Mount("tmpfs", "tmpfs", "", ())
        rootfs.mount_all([tmpfs], str(root), run=no_helper)
        (root / "below").mkdir()
        rootfs.mount_all([Mount("tmpfs", "tmpfs", "below", ())], str(root), run=no_helper)
        rootfs.show(str(root), str(shown))
        (root / "below" / "file").touch()
        assert (shown / "below" / "file").exists()
        rootfs.hide(str(shown))
        assert entries_below(shown) == []
        assert (root / "below" / "file").exists()
        rootfs.hide(str(shown))
        rootfs.hide(str(directory / "missing"))
        with pytest.raises(PouchrichError, match=r"rootfs at .*missing: No such file"):
            rootfs.show(str(root), str(directory / "missing"))

    bundle(check)


def test_a_neighbour_whose_name_begins_alike_stays_mounted(bundle):
    def check(directory):
        rootfs.mount_all([Mount("tmpfs", "tmpfs", "", ())], str(directory / "rootfs"), run=no_helper)
        rootfs.mount_all([Mount("tmpfs", "tmpfs", "", ())], str(directory / "rootfs2"), run=no_helper)
        rootfs.unmount_all(str(directory / "rootfs"))
        assert is_mounted(str(directory / "rootfs2"))
        rootfs.unmount_all(str(directory / "rootfs2"))

    bundle(check)


def test_a_mount_that_stays_busy_is_an_error_after_the_patience_of_containerd(bundle, monkeypatch):
    monkeypatch.setattr(mounts, "_BUSY_PAUSE_S", 0.001)

    def check(directory):
        root = directory / "rootfs"
        rootfs.mount_all([Mount("tmpfs", "tmpfs", "", ())], str(root), run=no_helper)
        with (root / "open").open("w"), pytest.raises(PouchrichError, match=r"unmount rootfs: .*busy"):
            rootfs.unmount_all(str(root))
        rootfs.unmount_all(str(root))
        assert not is_mounted(str(root))

    bundle(check)


@pytest.mark.parametrize("words", [("loop",), ("loop", "ro")])
def test_an_image_file_is_mounted_through_a_loop_device_that_frees_itself(bundle, words):
    if not shutil.which("mkfs.ext4") or not os.path.exists("/dev/loop-control"):
        pytest.skip("needs mkfs.ext4 and loop devices")

    def check(directory):
        image, root = directory / "image", directory / "rootfs"
        with image.open("wb") as file:
            file.truncate(8 << 20)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-O", "^has_journal", image], check=True)
        rootfs.mount_all([Mount("ext4", str(image), "", words)], str(root), run=no_helper)
        assert (root / "lost+found").is_dir()
        assert bool(os.statvfs(root).f_flag & os.ST_RDONLY) == ("ro" in words)
        rootfs.unmount_all(str(root))
        backing = Path("/sys/block").glob("loop*/loop/backing_file")
        assert str(image) not in [file.read_text().strip() for file in backing]

    bundle(check)


IDMAP = ("uidmap=0:100000:65536", "gidmap=0:200000:65536")


def test_a_bind_with_id_maps_shows_shifted_owners_and_needs_one_unmount(bundle):
    def check(directory):
        root, source = directory / "rootfs", directory / "source"
        source.mkdir()
        (source / "f").write_text("x")
        os.chown(source / "f", 7, 8)
        rootfs.mount_all([Mount("bind", str(source), "", ("rbind", "ro", *IDMAP))], str(root), run=no_helper)
        stat = os.stat(root / "f")
        assert (stat.st_uid, stat.st_gid) == (100007, 200008)
        assert os.stat(source / "f").st_uid == 7
        assert len(entries_below(root)) == 1
        with pytest.raises(OSError, match="Read-only"):
            (root / "g").write_text("")

    bundle(check)


def test_an_overlay_with_id_maps_shifts_its_lower_layers_and_leaves_nothing_beside_it(bundle):
    def check(directory):
        root = directory / "rootfs"
        plain = overlay_of(directory / "snap", 2)
        mount = Mount(plain.type, plain.source, "", (*plain.options, *IDMAP))
        rootfs.mount_all([mount], str(root), run=no_helper)
        assert os.stat(root / "file1").st_uid == 100000
        assert os.stat(directory / "snap" / "1" / "fs" / "file1").st_uid == 0
        assert sorted(os.listdir(directory)) == ["rootfs", "snap"]

    bundle(check)


def test_a_file_system_without_id_maps_is_refused_and_unmounted(bundle):
    def check(directory):
        root = directory / "rootfs"
        with pytest.raises(PouchrichError, match="mount_setattr"):
            rootfs.mount_all([Mount("proc", "proc", "", IDMAP)], str(root), run=no_helper)
        assert not is_mounted(str(root))

    bundle(check)


def test_no_child_is_left_for_another_to_reap(bundle):
    def check(directory):
        (directory / "source").mkdir()
        mount = Mount("bind", str(directory / "source"), "", ("bind", *IDMAP))
        rootfs.mount_all([mount], str(directory / "rootfs"), run=no_helper)
        with pytest.raises(ChildProcessError):
            os.waitpid(-1, os.WNOHANG | 0x40000000)

    bundle(check)


def test_a_fuse_type_goes_to_its_helper_and_a_failed_helper_is_an_error(bundle):
    def check(directory):
        root = directory / "rootfs"
        seen = []

        def run(argv):
            seen.append(argv)
            return 3

        helper = directory / "mount.fuse3"
        helper.touch(0o755)
        os.environ["PATH"] = f"{os.environ['PATH']}:{directory}"
        mount = Mount("fuse3.fuse-overlayfs", "overlay", "", ("lowerdir=/a", "ro"))
        with pytest.raises(PouchrichError, match=r"mount\.fuse3 exited with status 3"):
            rootfs.mount_all([mount], str(root), run=run)
        assert seen == [[str(helper), "overlay", str(root), "-o", "lowerdir=/a", "-o", "ro", "-t", "fuse-overlayfs"]]

    bundle(check)

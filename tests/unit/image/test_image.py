"""runtime.image.image: commands found, missed and hidden, in trees whose links try to lead out."""

import gc
import os
import time

import pytest

from runtime.errors import InvalidArgument
from runtime.image import copied, image
from runtime.rich import mode
from tests.fakes import garbage
from tests.fakes.loop import open_fds


@pytest.fixture
def rootfs(tmp_path):
    root = tmp_path / "rootfs"
    for directory in ("bin", "usr/bin", "etc", "run", "data/sub", "proc"):
        (root / directory).mkdir(parents=True)
    program(root / "bin/sh")
    program(root / "usr/bin/app")
    (root / "etc/passwd").write_text("root")
    (root / "etc/passwd").chmod(0o644)
    return root


def program(path, bits=0o755, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(bits)


def facts(root, *args, cwd="/", path="PATH=/usr/bin:/bin", mounts=(), readonly=False):
    env = [path] if path is not None else []
    spec = {
        "process": {"args": list(args), "env": env, "cwd": cwd},
        "root": {"readonly": readonly},
        "mounts": [{"destination": one} for one in mounts],
    }
    return image.read_facts(str(root), spec)


def command(root, *args, **options):
    return facts(root, *args, **options).command


def test_a_name_is_found_along_path_in_order(rootfs):
    program(rootfs / "bin/app")
    assert command(rootfs, "app").path == "/usr/bin/app"
    assert command(rootfs, "app", path="PATH=/bin:/usr/bin").path == "/bin/app"


def test_a_name_that_cannot_be_executed_is_passed_over(rootfs):
    program(rootfs / "usr/bin/app", 0o644)
    program(rootfs / "bin/app", 0o001)
    assert command(rootfs, "app").path == "/bin/app"


@pytest.mark.parametrize(
    ("name", "path", "problem"),
    [
        ("nosuch", "PATH=/usr/bin:/bin", 'exec: "nosuch": executable file not found in $PATH'),
        ("sh", "PATH=", 'exec: "sh": executable file not found in $PATH'),
        ("sh", None, 'exec: "sh": executable file not found in $PATH'),
        ("/nosuch", "PATH=/bin", 'exec: "/nosuch": stat /nosuch: no such file or directory'),
        ("/etc/passwd/x", "PATH=/bin", 'exec: "/etc/passwd/x": stat /etc/passwd/x: not a directory'),
        ("/etc/passwd", "PATH=/bin", 'exec: "/etc/passwd": permission denied'),
        ("/etc", "PATH=/bin", 'exec: "/etc": is a directory'),
        ("./sh", "PATH=/bin", 'exec: "./sh": stat ./sh: no such file or directory'),
    ],
)
def test_a_command_that_cannot_be_started_is_told_in_runcs_words(rootfs, name, path, problem):
    found = command(rootfs, name, path=path)
    assert (found.problem, found.path) == (problem, None)


def test_a_relative_name_starts_at_the_working_directory(rootfs):
    program(rootfs / "data/sub/run")
    assert command(rootfs, "./sub/run", cwd="/data").target == "/data/sub/run"
    assert command(rootfs, "../sub/run", cwd="/data/sub").target == "/data/sub/run"
    assert command(rootfs, "run", cwd="/data", path="PATH=sub").target == "/data/sub/run"
    assert command(rootfs, "run", cwd="/data/sub", path="PATH=:/bin").target == "/data/sub/run"


def test_links_are_followed_inside_the_root(rootfs):
    (rootfs / "bin/a").symlink_to("/bin/b")
    (rootfs / "bin/b").symlink_to("../bin/sh")
    found = command(rootfs, "/bin/a")
    assert (found.path, found.target) == ("/bin/a", "/bin/sh")


@pytest.mark.parametrize(
    "target", ["/../../../../../../../bin/true", "../../../../../../../../../bin/true", "/proc/self/exe"]
)
def test_no_link_leads_out_of_the_root(rootfs, target):
    (rootfs / "bin/evil").symlink_to(target)
    assert command(rootfs, "/bin/evil").problem == 'exec: "/bin/evil": stat /bin/evil: no such file or directory'


def test_a_directory_that_is_a_link_out_of_the_root_stays_inside(rootfs, tmp_path):
    outside = tmp_path / "outside"
    program(outside / "app")
    (rootfs / "opt").symlink_to(outside)
    assert command(rootfs, "/opt/app").problem is not None
    (rootfs / "opt2").symlink_to("../" * 20 + "bin")
    assert command(rootfs, "/opt2/sh").target == "/bin/sh"


def test_a_circle_of_links_ends(rootfs):
    (rootfs / "bin/a").symlink_to("b")
    (rootfs / "bin/b").symlink_to("a")
    assert command(rootfs, "/bin/a").problem == 'exec: "/bin/a": stat /bin/a: too many levels of symbolic links'


def chain(root, length=38, steps=1500):
    """A link at /chain that leads to /data by way of as many others, each of them through as many parts."""
    (root / "d").mkdir(exist_ok=True)
    for number in range(length):
        leads = f"chain{number + 1}" if number < length - 1 else "data"
        (root / (f"chain{number}" if number else "chain")).symlink_to("d/../" * (steps // 2) + leads)


def test_a_chain_of_links_is_not_followed_for_ever(rootfs):
    """Each of 20 mounts below it would cost 57,000 steps."""
    chain(rootfs, length=1)
    assert facts(rootfs, "sh", mounts=["/chain/x"]).resolved["/chain/x"] == "/data/x"
    (rootfs / "chain").unlink()
    chain(rootfs)
    began = time.process_time()
    with pytest.raises(InvalidArgument, match=r"^rootfs: found more than 4096 names and symbolic links to follow"):
        facts(rootfs, "sh", mounts=[f"/chain/{number}" for number in range(20)])
    assert time.process_time() - began < 1


def test_a_deep_tree_of_names_is_not_looked_at_for_ever(rootfs):
    with pytest.raises(InvalidArgument, match="allowed at most that for all mounts, services and programs"):
        facts(rootfs, "sh", mounts=[f"/data/{number}" for number in range(5000)])


def test_many_mounts_are_no_reason_to_refuse(rootfs):
    """Names on the way are looked at once: what counts is what there is to be seen, not how often it is passed."""
    deep = "/".join(f"level{number}" for number in range(20))
    (rootfs / "data" / deep).mkdir(parents=True)
    mounts = [f"/data/{deep}/{number}" for number in range(1000)]
    assert facts(rootfs, "sh", mounts=mounts).resolved[mounts[-1]] == mounts[-1]


@pytest.mark.parametrize(
    ("name", "mounts", "hidden_by"),
    [
        ("/data/x", ["/data"], "/data"),
        ("/data/x", ["/proc", "/data/x"], "/data/x"),
        ("/data/sub/x", ["/data/sub/"], "/data/sub"),
        ("/linked/x", ["/data"], "/data"),
        ("/data/x", ["/linked"], "/data"),
        ("x", ["/usr/bin"], "/usr/bin"),
    ],
)
def test_below_a_mount_nothing_is_known(rootfs, name, mounts, hidden_by):
    (rootfs / "linked").symlink_to("/data")
    found = command(rootfs, name, mounts=mounts)
    assert (found.hidden_by, found.problem, found.target) == (hidden_by, None, None)


def test_a_mount_elsewhere_hides_nothing(rootfs):
    assert command(rootfs, "/data/x", mounts=["/dat", "/data/x/y", "/"]).problem is not None


def test_a_name_found_before_the_mount_on_path_is_known(rootfs):
    assert command(rootfs, "app", mounts=["/bin"]).path == "/usr/bin/app"


def test_mount_destinations_and_our_directory_are_resolved(rootfs):
    (rootfs / "var").mkdir()
    (rootfs / "var/run").symlink_to("../run")
    found = facts(rootfs, "sh", mounts=["/var/run/secrets/x", "proc"])
    assert found.resolved == {
        "/var/run/secrets/x": "/run/secrets/x",
        "/proc": "/proc",
        **{path: path for path in image.PLACES},
    }
    (rootfs / "run").rmdir()
    (rootfs / "run").symlink_to("../../../var/lib")
    assert facts(rootfs, "sh").resolved["/run/pouchrich"] == "/var/lib/pouchrich"


@pytest.mark.parametrize(
    ("text", "answer"),
    [("#!/command/execlineb -P\n", True), ("#!/bin/sh\nexec /package/admin/s6-overlay/x\n", True), ("x", False)],
)
def test_slash_init_is_s6s_by_its_content(rootfs, text, answer):
    program(rootfs / "init", text=text)
    assert facts(rootfs, "/init").is_s6 is answer


S6 = "#!/bin/sh -e\n# s6-overlay\nexec /package/admin/s6-overlay/libexec/preinit\n"


@pytest.mark.parametrize(
    ("args", "answer"),
    [
        (("/s6-init",), True),  # Pi-hole's
        (("/entrypoint", "/init"), True),  # serversideup/php
        (("/bin/sh", "-c", "/init"), True),
        (("/bin/sh", "-c", "exec /init"), True),
        (("/entrypoint", "/elsewhere"), False),
        (("/mounted/s6-init",), False),
    ],
)
def test_s6s_init_is_known_under_another_name_and_as_what_a_command_gets(rootfs, args, answer):
    for name in ("init", "s6-init", "mounted/s6-init"):
        (rootfs / name).parent.mkdir(exist_ok=True)
        program(rootfs / name, text=S6)
    program(rootfs / "entrypoint", text='#!/bin/sh\nexec "$@"\n')
    assert facts(rootfs, *args, mounts=["/mounted"]).is_s6 is answer


@pytest.mark.parametrize(
    ("args", "kind", "is_kept"),
    [
        (("/bin/init",), "", False),  # a script of its own
        (("/usr/bin/init",), "", False),
        (("/sbin/init",), "busybox", True),
        (("/usr/bin/also-init",), "", False),
    ],
)
def test_a_program_called_init_is_the_images_init_only_where_sbin_init_is_it(rootfs, args, kind, is_kept):
    program(rootfs / "bin/busybox", text="BusyBox v1.36")
    for link in ("sbin/init", "usr/bin/also-init"):
        (rootfs / link).parent.mkdir(parents=True, exist_ok=True)
        (rootfs / link).symlink_to("/bin/busybox")
    for name in ("bin/init", "usr/bin/init"):
        program(rootfs / name, text="#!/bin/sh\nexec nginx\n")
    found = mode.image_init(facts(rootfs, *args), args)
    assert found == (("/sbin/init", "busybox") if is_kept else None)


def test_a_distribution_without_sbin_has_its_init_in_bin(rootfs):
    """As Fedora from 42 on: /sbin is a symbolic link to /usr/bin."""
    program(rootfs / "usr/lib/systemd/systemd", text="libsystemd-shared-257")
    (rootfs / "sbin").symlink_to("usr/bin")
    (rootfs / "usr/bin/init").symlink_to("../lib/systemd/systemd")
    assert mode.image_init(facts(rootfs, "/usr/bin/init"), ("/usr/bin/init",)) == ("/usr/bin/init", "systemd")


@pytest.mark.parametrize(
    ("args", "is_kept"),
    [
        (("/usr/local/bin/ep", "/sbin/init"), True),
        (("/usr/local/bin/ep", "/sbin/init", "--log-level=info"), True),
        (("/usr/local/bin/ep", "/sbin/init", "more"), False),
        (("/usr/bin/ep", "/sbin/init"), True),
        (("/usr/bin/ldd", "/sbin/init"), False),
        (("/usr/bin/systemctl",), True),  # a replacement in Python, that does its work only as PID 1
        (("/bin/systemctl",), False),  # systemd's own
        (("/sbin/my_init",), True),
    ],
)
def test_an_entry_point_that_gets_the_images_init_is_never_wrapped(rootfs, args, is_kept):
    program(rootfs / "sbin/init", text="libsystemd-shared-257")
    for name in ("usr/local/bin/ep", "usr/bin/ep", "usr/bin/systemctl", "sbin/my_init"):
        (rootfs / name).parent.mkdir(parents=True, exist_ok=True)
        program(rootfs / name, text="#!/bin/sh\n")
    for name in ("usr/bin/ldd", "bin/systemctl"):
        program(rootfs / name, text="\x7fELF")
    assert (mode.image_init(facts(rootfs, *args), args) is not None) is is_kept


def test_a_fifo_called_init_does_not_block(rootfs):
    os.mkfifo(rootfs / "init", 0o755)
    assert facts(rootfs, "/init").is_s6 is False


def test_no_command_at_all_is_an_error(rootfs):
    with pytest.raises(InvalidArgument, match=r"process\.args: found nothing to start, allowed at least one"):
        facts(rootfs)


def test_a_root_that_is_not_there_is_named(tmp_path):
    with pytest.raises(InvalidArgument, match=r"rootfs .*/none: no such file or directory"):
        facts(tmp_path / "none", "sh")


def test_no_descriptor_is_left_open(rootfs):
    before = open_fds()
    (rootfs / "bin/a").symlink_to("/bin/sh")
    for name in ("a", "nosuch", "/etc/passwd/x"):
        command(rootfs, name)
    assert open_fds() == before


def test_a_file_system_says_whether_it_can_be_written_to(rootfs, monkeypatch):
    with image.Rootfs.open(str(rootfs)) as one:
        assert one.is_writable()
        told = os.fstatvfs(one.fd)
        monkeypatch.setattr(image.os, "fstatvfs", lambda _: os.statvfs_result((*told[:8], os.ST_RDONLY, told[9])))
        assert not one.is_writable()


def test_what_is_missed_is_freed_without_a_garbage_collection(rootfs):
    gc.collect()
    with image.Rootfs.open(str(rootfs)) as one:
        for _ in range(2):
            assert not one.has("/nowhere")
            assert one.walk("/etc/nowhere/at/all").error == "no such file or directory"
    del one
    assert garbage.of_ours() == []


# What a file system in memory begins with


@pytest.fixture
def booting(rootfs):
    program(rootfs / "usr/lib/systemd/systemd")
    return rootfs


def test_a_few_files_directories_and_links_can_be_copied(booting):
    (booting / "run/sshd").mkdir()
    (booting / "run/sshd/defaults").write_text("x")
    (booting / "run/out").symlink_to("../../../..")
    (booting / "run/lock").mkdir()
    (booting / "run/lock/link").symlink_to("x")
    (booting / "run/systemd/units").mkdir(parents=True)
    (booting / "run/systemd/units/invocation:a.service").symlink_to("1234")
    (booting / "var").mkdir()
    (booting / "var/log").write_text("no directory")
    assert facts(booting, "app", readonly=True).uncopied == {}


def test_what_no_oci_runtime_copies_is_found_below_too(booting):
    (booting / "run/lock/deep").mkdir(parents=True)
    os.mkfifo(booting / "run/lock/deep/\x1b")
    found = facts(booting, "app").uncopied
    assert set(found) == {"/run", "/run/lock"}
    assert found["/run"] == "found '/run/lock/deep/\\x1b', which is no file, directory or symbolic link"


@pytest.mark.parametrize(
    "place",
    [
        *("run/systemd", "run/systemd/system", "run/tmpfiles.d", "run/lock", "run/systemd/system.conf.d"),
        "run/systemd/system/multi-user.target.d",
    ],
)
def test_a_link_where_files_of_the_shims_are_mounted_is_not_copied(booting, place):
    (booting / place).parent.mkdir(parents=True, exist_ok=True)
    (booting / place).symlink_to("/data")
    assert facts(booting, "app").uncopied["/run"].startswith(f"found a symbolic link at /{place}")


def test_more_names_or_bytes_than_are_for_memory_are_not_copied(booting):
    for directory in ("var/log", "run/lock"):
        (booting / directory).mkdir(parents=True, exist_ok=True)
    for number in range(257):  # of which each takes a page
        (booting / f"run/lock/{number}").write_text("x")
    for number in range(copied.MOST_NAMES):
        (booting / f"var/log/{number}").touch()
    assert facts(booting, "app", readonly=True).uncopied == {"/run/lock": "found more than 1 MiB"}
    (booting / "var/log/one-more").touch()
    assert facts(booting, "app", readonly=True).uncopied["/var/log"] == "found more than 1024 names"
    assert set(facts(booting, "app").uncopied) == {"/run/lock"}, "only in a container whose root is read-only"


def test_a_hostile_depth_ends(booting):
    fd = os.open(booting / "run", os.O_RDONLY | os.O_DIRECTORY)
    for _ in range(40):
        os.mkdir("d" * 200, dir_fd=fd)
        below = os.open("d" * 200, os.O_RDONLY | os.O_DIRECTORY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    assert facts(booting, "app").uncopied == {"/run": "file name too long"}

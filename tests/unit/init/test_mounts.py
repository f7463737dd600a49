"""runtime.init.mounts: file systems in memory around the pod's own mounts, and the mounts that leave no room."""

from dataclasses import replace

import pytest

from runtime.errors import InvalidArgument
from runtime.init import mounts
from runtime.init.base import MountPoint
from runtime.spec import edit
from tests.unit.init.settings import setting, spec_of

IMAGE_VOLUME = "/var/lib/containerd/io.containerd.grpc.v1.cri/containers/c1/volumes/5f3a"
EMPTY_DIR = "/var/lib/kubelet/pods/u/volumes/kubernetes.io~empty-dir/v"


def bind(destination, source="/host", *options):
    return {"destination": destination, "type": "bind", "source": source, "options": list(options)}


def after(*points, readonly=False, **more):
    one = setting(spec=spec_of(*points, readonly=readonly), **more)
    return [mount["destination"] for mount in edit.apply(one.spec, mounts.writable(one))["mounts"]]


def test_parents_come_first_and_the_pods_mounts_below_stay_on_top():
    secret, lock = bind("/var/run/secrets/x"), bind("/run/lock/y")
    found = after(bind("/proc"), secret, lock, bind("/data"), resolved={"/var/run/secrets/x": "/run/secrets/x"})
    assert found == ["/proc", "/run", "/var/run/secrets/x", "/run/lock", "/run/lock/y", "/data"]


def test_a_tmpfs_begins_with_what_the_image_has_there_unless_that_cannot_be_copied():
    one = setting(spec=spec_of(readonly=True), uncopied={"/var/log": "found more than 16 MiB", "/tmp": "of no matter"})
    one = replace(one, mounts=(MountPoint("/tmp", "/tmp", bind("/tmp")),))
    steps = mounts.writable(one)
    made = edit.apply(one.spec, steps)["mounts"]
    copies = {mount["destination"]: "tmpcopyup" in mount["options"] for mount in made}
    assert copies == {"/run": True, "/run/lock": True, "/var/tmp": False, "/var/log": False, "/var/lib/systemd": True}
    assert mounts.hidden(one, steps) == (
        "image: /var/log: found more than 16 MiB: the container gets an empty tmpfs there, without the image's files",
    )


@pytest.mark.parametrize(
    ("limit", "run", "log"),
    [
        (1000 << 20, "size=209715200", "size=524288000"),
        (64 << 20, "size=33554432", "size=33554432"),
        (-1, "size=20%", "size=50%"),
        (9223372036854771712, "size=20%", "size=50%"),
        (None, "size=20%", "size=50%"),
    ],
)
def test_what_is_in_memory_has_a_share_of_the_containers_memory(limit, run, log):
    """journald takes a tenth of its file system, and keeps it."""
    spec = {**spec_of(readonly=True), "linux": {"resources": {"memory": {"limit": limit}}}}
    made = edit.apply(spec, mounts.writable(setting(spec=spec)))["mounts"]
    found = {one["destination"]: [word for word in one["options"] if word.startswith("size=")] for one in made}
    assert (found["/run"], found["/run/lock"], found["/var/log"], found["/tmp"]) == ([run], ["size=5m"], [log], [log])


def test_home_comes_after_everything():
    one = setting(bind("/run/secrets/x"), bind("/z"))
    made = edit.apply(one.spec, (*mounts.writable(one), *mounts.run_directory(one)))["mounts"]
    assert made[-1]["destination"] == "/run/pouchrich"
    assert made[-1]["options"] == ["bind", "ro", "nosuid", "nodev"]


@pytest.mark.parametrize(
    "own",
    [
        {"destination": "/run", "type": "tmpfs", "options": ["nosuid"]},
        bind("/run", EMPTY_DIR, "rw"),
        bind("/run", IMAGE_VOLUME, "rbind", "rprivate", "rw"),
    ],
    ids=["tmpfs", "emptyDir", "image's VOLUME"],
)
def test_a_pods_own_run_counts(own):
    assert after(own) == ["/run", "/run/lock"]
    mounts.refuse(setting(own))


@pytest.mark.parametrize(
    ("own", "resolved"),
    [
        (bind("/run", "/host/run"), {}),
        (bind("/var/run", "/host/run"), {"/var/run": "/run"}),
        (bind("/run", EMPTY_DIR, "ro"), {}),
        (bind("/run", "/etc/volumes/kubernetes.io~empty-dir"), {}),
        (bind("/run", f"{IMAGE_VOLUME}/of-another-form"), {}),
    ],
)
def test_a_volume_at_run_is_refused(own, resolved):
    with pytest.raises(
        InvalidArgument, match="allowed at /run only a writable tmpfs, emptyDir or VOLUME of the image in mode systemd"
    ):
        mounts.refuse(setting(own, resolved=resolved))


@pytest.mark.parametrize(
    ("destination", "resolved"),
    [
        ("/run/systemd", {}),
        ("/run/systemd/system/x.service", {}),
        ("/run/pouchrich", {}),
        ("/run/pouchrich/app.sock", {}),
        ("/run/../run/pouchrich", {"/run/../run/pouchrich": "/run/pouchrich"}),
        ("/data", {"/data": "/run/systemd"}),
        # The image's link below /run is gone once the tmpfs is there.
        ("/run/systemd/x", {"/run/systemd/x": "/elsewhere/x"}),
    ],
)
def test_a_mount_where_init_or_we_keep_our_own_is_refused(destination, resolved):
    with pytest.raises(
        InvalidArgument, match=r"found a mount of the pod, allowed none at or below /run/(systemd|pouchrich)"
    ):
        mounts.refuse(setting(bind(destination), resolved=resolved), "/run/systemd")


def test_systemd_resolveds_link_in_an_image_is_let_alone_and_no_other():
    """containerd mounts /etc/resolv.conf in each pod; what it mounts may else stand in for a unit."""
    own, leads = bind("/etc/resolv.conf"), "/run/systemd/resolve/stub-resolv.conf"
    mounts.refuse(setting(own, resolved={"/etc/resolv.conf": leads}), "/run/systemd")
    for path, target in (("/etc/hosts", leads), ("/etc/resolv.conf", "/run/systemd/system/a.service")):
        with pytest.raises(InvalidArgument, match="none at or below /run/systemd"):
            mounts.refuse(setting(bind(path), resolved={path: target}), "/run/systemd")


@pytest.mark.parametrize("path", ["/run", "/run/pouchrich"])
def test_an_image_whose_run_leads_elsewhere_is_refused(path):
    with pytest.raises(InvalidArgument, match=f"image: {path}: found a symbolic link to /etc, allowed a directory"):
        mounts.writable(setting(resolved={path: "/etc"}))


def test_a_read_only_root_gets_what_services_write_to():
    assert after(readonly=True) == ["/run", "/run/lock", "/tmp", "/var/tmp", "/var/log", "/var/lib/systemd"]
    assert after(readonly=False) == ["/run", "/run/lock"]


def test_with_a_read_only_root_the_pods_volumes_and_the_images_links_are_left_alone():
    found = after(bind("/var/log"), bind("/tmp/x"), readonly=True, resolved={"/var/tmp": "/tmp"})
    assert found == ["/var/log", "/tmp", "/tmp/x", "/run", "/run/lock", "/var/lib/systemd"]
    assert after(bind("/var"), readonly=True) == ["/var", "/run", "/run/lock", "/tmp"]

"""runtime.rich.unit_claims: what of image and volumes stands in for units of ours."""

import os

import pytest

from runtime.image.image import Rootfs
from runtime.rich import unit_claims

APP, PROBE = "pouchrich-app.service", "pouchrich-agent-my-probe.service"


def look(root, mounts=(), resolved=None):
    leads = {one["destination"]: one["destination"] for one in mounts} | (resolved or {})
    with Rootfs.open(str(root)) as opened:
        return unit_claims.look(opened, [APP], [PROBE], mounts, leads)


def put(root, path, *, link="", text=""):
    where = root / path.lstrip("/")
    where.parent.mkdir(parents=True, exist_ok=True)
    if link:
        where.symlink_to(link)
    else:
        where.write_text(text)


def bind(source, destination):
    return {"destination": destination, "type": "bind", "source": str(source), "options": ["rbind", "ro"]}


ETC, LIB = "/etc/systemd/system", "/usr/lib/systemd/system"


@pytest.mark.parametrize(
    ("path", "found", "units"),
    [
        (f"{ETC}/{APP}", f"{ETC}/{APP}", {APP}),
        (f"{ETC}.control/{APP}", f"{ETC}.control/{APP}", {APP}),
        (f"{ETC}/{PROBE}", f"{ETC}/{PROBE}", {PROBE}),
        (f"{LIB}/{APP}.d/x.conf", f"{LIB}/{APP}.d", {APP}),
        (f"{LIB}/pouchrich-agent-my-.service.d/x.conf", f"{LIB}/pouchrich-agent-my-.service.d", {PROBE}),
        (f"{LIB}/pouchrich-.service.d/x.conf", f"{LIB}/pouchrich-.service.d", {APP, PROBE}),
        (f"{ETC}/default.target.d/50-pouchrich.conf", f"{ETC}/default.target.d/50-pouchrich.conf", {APP}),
        (f"{ETC}/multi-user.target.d/60-agents.conf", f"{ETC}/multi-user.target.d/60-agents.conf", {PROBE}),
        (f"{LIB}/{APP}", "", set()),
        (f"{LIB}/service.d/10-timeout.conf", "", set()),
        (f"{ETC}/other.service", "", set()),
    ],
)
def test_what_comes_before_a_unit_or_is_added_to_it_is_found(tmp_path, path, found, units):
    put(tmp_path, path)
    assert look(tmp_path) == dict.fromkeys(units, found)


def test_a_link_that_leads_nowhere_is_found_and_none_is_followed_out(tmp_path):
    put(tmp_path, "/etc/systemd/system/pouchrich-app.service", link="/dev/null")
    assert set(look(tmp_path)) == {APP}
    outside = tmp_path / "outside"
    put(outside, "/system/pouchrich-app.service")
    put(tmp_path / "image", "/etc/systemd", link=f"{'../' * 12}{outside}")
    assert look(tmp_path / "image") == {}


def test_volumes_lie_over_the_image(tmp_path):
    image, volume = tmp_path / "image", tmp_path / "volume"
    put(image, "/etc/systemd/system/pouchrich-app.service")
    volume.mkdir()
    assert look(image, [bind(volume, "/etc/systemd")]) == {}
    put(volume, "/system/pouchrich-agent-my-probe.service", link="..data/x")
    assert look(image, [bind(volume, "/etc/systemd")]) == {PROBE: f"/etc/systemd/system/{PROBE}"}
    empty = tmp_path / "empty"
    empty.mkdir()
    assert look(image, [bind(volume, "/etc/systemd"), bind(empty, "/etc/systemd/system")]) == {}


def test_a_volume_of_one_file_is_found(tmp_path):
    file = tmp_path / "file"
    file.write_text("")
    image = tmp_path / "image"
    image.mkdir()
    inside = f"/etc/systemd/system/{APP}.d/10.conf"
    assert look(image, [bind(file, inside)]) == {APP: f"/etc/systemd/system/{APP}.d"}


def test_a_run_that_had_a_life_before_is_looked_at(tmp_path):
    image, volume = tmp_path / "image", tmp_path / "volume"
    image.mkdir()
    put(volume, "/systemd/system.control/pouchrich-app.service", link="/dev/null")
    assert look(image, [bind(volume, "/var/run")], {"/var/run": "/run"}) == {APP: f"/run/systemd/system.control/{APP}"}


def test_a_volume_that_is_no_directory_or_not_there_is_nobodys_business(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    image = tmp_path / "image"
    image.mkdir()
    for source in (tmp_path / "fifo", tmp_path / "missing"):
        assert look(image, [bind(source, "/etc/systemd")]) == {}


def test_a_file_system_of_its_own_shows_nothing_of_its_source(tmp_path):
    image, volume = tmp_path / "image", tmp_path / "volume"
    put(image, f"{ETC}/{APP}")
    put(volume, f"/{PROBE}")
    disk = {"destination": ETC, "type": "ext4", "source": str(volume), "options": []}
    assert look(image, [disk]) == {APP: f"{ETC}/{APP}"}

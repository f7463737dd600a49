import os
import stat
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.errors import InvalidArgument
from runtime.init import services
from runtime.init.services import Request

NODE = "node.toml: services.enable"
POD = "annotation pouchrich.io/services"


class Image:
    """A root by the paths of its regular files; `links` lead elsewhere."""

    def __init__(self, *files, links=()):
        self.files, self.links = files, dict(links)

    def walk(self, path, mounts=()):
        path = self.links.get(path, path)
        return type("Found", (), {"path": path, "mode": stat.S_IFREG | 0o644 if path in self.files else None})()

    def names(self, path, at_most):
        found = [file.rpartition("/") for file in self.files]
        return [name for directory, _, name in found if directory == path][:at_most]


def check(image, init, *names, pod=False, masked=()):
    requests = [Request(name, POD if pod else NODE, is_pod=pod) for name in names]
    found = services.find_services(image, init, names)
    close = services.near(image, [name for name, path in found.items() if not path])
    return services.check(requests, init=init, found=found, masked=masked, close=close)


@pytest.mark.parametrize(
    ("files", "name", "unit"),
    [
        (["/lib/systemd/system/cron.service"], "cron", "cron.service"),
        (["/etc/systemd/system/cron.service"], "cron.service", "cron.service"),
        (["/usr/lib/systemd/system/ssh.socket"], "ssh.socket", "ssh.socket"),
        (["/usr/lib/systemd/system/job@.service"], "job@a:b", "job@a:b.service"),
        (["/usr/lib/systemd/system/a.b.service"], "a.b", "a.b.service"),
        (["/etc/init.d/old", "/usr/lib/systemd/system-generators/systemd-sysv-generator"], "old", "old.service"),
    ],
)
def test_a_unit_of_the_image_is_wanted_by_its_full_name(files, name, unit):
    assert check(Image(*files), "systemd", name) == ((unit,), ())


@pytest.mark.parametrize("init", ["sysvinit", "openrc"])
def test_a_script_of_the_image_is_started_by_its_own_name(init):
    assert check(Image("/etc/init.d/cron"), init, "cron", "cron.service") == (("cron",), ())
    assert services.commands(("cron",)) == ("/etc/init.d/cron start",)


def test_a_script_without_systemds_generator_is_no_unit():
    assert check(Image("/etc/init.d/old"), "systemd", "old")[0] == ()


def test_an_instance_whose_template_is_missing_is_missing():
    assert check(Image("/lib/systemd/system/job.service"), "systemd", "job@a")[0] == ()


@pytest.mark.parametrize("init", ["systemd", "sysvinit", "openrc", "busybox", "dumb-init"])
def test_what_cannot_be_started_is_a_warning_to_the_node_and_an_error_to_a_pod(init):
    names, warnings = check(Image(), init, "cron")
    assert names == ()
    assert warnings[0].startswith(f"{NODE}: found cron, allowed ")
    with pytest.raises(InvalidArgument, match=f"config.json: {POD}: found cron, allowed "):
        check(Image(), init, "cron", pod=True)


@pytest.mark.parametrize("init", ["busybox", "dumb-init"])
def test_an_init_that_manages_no_services_says_so(init):
    assert f"{init} manages no services" in check(Image("/etc/init.d/cron"), init, "cron")[1][0]


def test_a_unit_the_image_masks_cannot_be_enabled():
    masked = Image("/lib/systemd/system/cron.service", links={"/etc/systemd/system/cron.service": "/dev/null"})
    assert "does not mask" in check(masked, "systemd", "cron")[1][0]


@pytest.mark.parametrize("name", ["chronyd", "getty@tty1"])
def test_a_unit_the_node_masks_cannot_be_enabled(name):
    image = Image("/lib/systemd/system/chronyd.service", "/lib/systemd/system/getty@.service")
    with pytest.raises(InvalidArgument, match=r"rich\.mask"):
        check(image, "systemd", name, pod=True, masked=("chronyd.service", "getty@.service"))


@pytest.mark.parametrize(
    "name", ["..", ".", "a b", "a\nb", "a/b", "%n", "$x", "", "x" * 300, "poweroff.target", "a.mount"]
)
@pytest.mark.parametrize("init", ["systemd", "sysvinit"])
def test_a_name_that_could_mean_something_else_is_refused_whatever_the_image_has(init, name):
    image = Image(f"/lib/systemd/system/{name}", f"/lib/systemd/system/{name}.service", f"/etc/init.d/{name}")
    with pytest.raises(InvalidArgument, match="allowed a"):
        check(image, init, name, pod=True)


class AnyFile(Image):
    """A root in which each path is that of a regular file."""

    def walk(self, path, mounts=()):
        return type("Found", (), {"path": path, "mode": stat.S_IFREG | 0o644})()


@pytest.mark.parametrize("init", ["systemd", "sysvinit"])
@given(name=st.one_of(st.text(max_size=20), st.text("./@ser", max_size=4).map("{}.service".format)))
def test_no_text_but_a_checked_name_gets_into_a_unit_or_an_inittab(init, name):
    try:
        names, _ = check(AnyFile(), init, name, pod=True)
    except InvalidArgument:
        return
    assert names
    assert set("".join(names)) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789@_.:-")
    assert not {"", ".", "..", ".service"} & set(names)
    text = services.dropin(names) + "".join(services.commands(names))
    assert text.count("\n") == 3


@pytest.mark.parametrize("length", [192, 193, 200])
def test_the_longest_name_that_is_allowed_gets_into_the_drop_in(length):
    name = "x" * length
    names, _ = check(Image(f"/etc/systemd/system/{name}.service"), "systemd", name, pod=True)
    assert names == (f"{name}.service",)
    assert f"Wants={name}.service\n" in services.dropin(names, names)
    assert f"Requires={name}.service\n" in services.gate(names)


def test_the_drop_in_starts_services_before_the_application_and_binds_it_to_none():
    text = services.dropin(("cron.service", "ssh.socket"))
    assert text == "[Unit]\nWants=cron.service\nAfter=cron.service\nWants=ssh.socket\nAfter=ssh.socket\n"


def test_the_image_itself_is_looked_at_below_its_root(tmp_path):
    image = pytest.importorskip("runtime.image.image")
    directory = tmp_path / "usr/lib/systemd/system"
    directory.mkdir(parents=True)
    (directory / "cron.service").write_text("[Service]\n")
    os.symlink("/usr/lib", tmp_path / "lib")
    (tmp_path / "etc").mkdir()
    os.symlink("../../../../../../etc", tmp_path / "etc/systemd")
    with image.Rootfs.open(str(tmp_path)) as root:
        found = services.find_services(root, "systemd", ["cron", "passwd"])
    assert found == {"cron": "/usr/lib/systemd/system/cron.service", "passwd": ""}


def test_without_a_mandatory_service_the_application_is_not_started():
    text = services.dropin(("a.service", "b.service"), ("b.service",))
    assert "Wants=a.service\n" in text
    assert "Wants=b.service\nAfter=b.service\n" in text
    assert f"Requires={services.GATE}\nAfter={services.GATE}\n" in text
    assert "Requires=b.service" not in text, "what stops the service would stop the application"
    assert "Requires=b.service\nAfter=b.service\n" in services.gate(("b.service",))
    assert "OnFailure=poweroff.target\n" in text
    assert "OnFailure" not in services.dropin(("a.service",))


@pytest.mark.parametrize(
    ("init", "why"),
    [
        ("systemd", "a unit of the image"),
        ("sysvinit", "only where systemd is PID 1"),
        ("dumb-init", "only where systemd is PID 1"),
    ],
)
def test_a_mandatory_service_that_cannot_be_is_an_error_that_names_the_nodes_key(init, why):
    requests = [Request("gone", "node.toml: services.mandatory", must=True)]
    with pytest.raises(InvalidArgument, match=f"^node.toml: services.mandatory: found gone, allowed {why}"):
        services.check(requests, init=init, found={})


@pytest.mark.parametrize(
    ("files", "init", "name", "meant"),
    [
        (["/lib/systemd/system/rsyslog.service", "/lib/systemd/system/cron.service"], "systemd", "rsyslogd", "rsyslog"),
        (["/lib/systemd/system/cron.service"], "systemd", "crond.service", "cron"),
        (["/etc/init.d/cron"], "sysvinit", "crn", "cron"),
        (["/etc/init.d/cron"], "sysvinit", "sshd", None),
    ],
)
def test_a_service_that_is_nearly_one_of_the_images_is_suggested(files, init, name, meant):
    with pytest.raises(InvalidArgument) as caught:
        check(Image(*files), init, name, pod=True)
    assert str(caught.value).partition(" (did")[2] == ("" if meant is None else f" you mean {meant})")


def test_an_image_cannot_make_the_hint_expensive():
    long = [f"/lib/systemd/system/{'ab' * 24}{number:03}.service" for number in range(2000)]
    names = [f"{'ba' * 20}{number}" for number in range(64)]
    began = time.process_time()
    found = services.near(Image(*long, *(f"/etc/init.d/{'ba' * 20}x{number}" for number in range(2000))), names)
    assert len(found) <= 3
    assert time.process_time() - began < 5

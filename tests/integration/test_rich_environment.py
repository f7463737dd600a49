"""The pod's environment where a machine has it: sessions of ssh and su, cron's jobs, the init's services."""

import json

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import rich_images
from tests.integration.images import Entry
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, variables
from tests.integration.test_many_boots import inspected
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_sshd import MAKE_KEY, SSH
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
EVERYWHERE = 'env-file = ["profile", "pam", "units", "cron"]\nenv-exclude = ["*_TOKEN"]'

AWKWARD = {
    "EQUALS": "a=b=c",
    "QUOTES": "\"single ' double \" both '\"'",
    "DOLLAR": "$HOME ${PATH} @{HOME} $(id) `id`",
    "BACKSLASH": "\\n \\\\ \\",
    "SPACES": "  two  ",
    "PERCENT": "%h %% 100%",
    "SEMICOLON": "a;b ; ! ~ * ?",
    "UNICODE": "köln €",
    "EMPTY": "",
}
LINES = {"LINES": "one\ntwo\n\n", "HASH": "a #b#"}
"""What no line of pam_env's can hold."""
NEVER = {"HOME": "/evil", "USER": "evil", "LOGNAME": "evil", "SHELL": "/evil", "PWD": "/evil", "MAIL": "/evil"}
SECRET = {"A_TOKEN": "hidden"}
GIVEN = {**AWKWARD, **LINES, **NEVER, **SECRET, "dotted.name": "left out", "PATH": "/opt/pod/bin:/usr/bin:/bin:."}

AT_BOOT = Entry("etc/cron.d/at-boot", b"@reboot root env -0 >/var/job.new; mv /var/job.new /var/job\n", mode=0o644)
WRITES_ITS_OWN = "env -0 >/var/{name}.new; mv /var/{name}.new /var/{name}"


def read(container: Container, path: str) -> dict[str, str]:
    """The variables that a program wrote to `path` as `env -0` does, once it has."""
    until(lambda: container.exec("test", "-e", path).exit_code == 0, f"{path} to be written", timeout_s=20)
    return parsed(container.exec("cat", path).stdout)


def parsed(text: bytes) -> dict[str, str]:
    return dict(one.partition("=")[::2] for one in text.decode().split("\0") if one)


def assert_has(found: dict[str, str], wanted: dict[str, str], *, path: bool = True) -> None:
    """`found` has `wanted`, and nothing that says who somebody is, or that is a secret."""
    assert {name: found.get(name) for name in wanted} == wanted
    assert not {name for name in (*SECRET, "dotted.name") if name in found}
    assert "evil" not in "".join(found.values())
    if path:
        directories = found["PATH"].split(":")
        assert directories[-1] == "/opt/pod/bin"
        assert "/usr/bin" in directories


@everywhere
@pytest.mark.parametrize(
    "suite",
    ["bookworm", *(pytest.param(one, marks=pytest.mark.full) for one in ("bullseye", "trixie", "sid"))],
)
def test_sessions_jobs_and_units_have_the_pods_environment_and_agents_have_not(rich_pods: RichPods, suite: str) -> None:
    script = WRITES_ITS_OWN.format(name="unit")
    unit = f"[Service]\nType=oneshot\nExecStart=/bin/sh -c '{script}'\n[Install]\nWantedBy=multi-user.target\n"
    entries = [
        AT_BOOT,
        Entry("etc/systemd/system/tells.service", unit.encode(), mode=0o644),
        Entry("etc/systemd/system/multi-user.target.wants/tells.service", link="../tells.service"),
        Entry("etc/environment", b'OF_THE_IMAGE="kept"\nEQUALS=not-this\n', mode=0o644),
    ]
    image = rich_images.import_variant(rich_pods.node, System("systemd", suite), f"{suite}-environment", entries)
    agent = f"""
[[agents]]
name = "tells"
command = ["/bin/sh", "-c", {json.dumps(WRITES_ITS_OWN.format(name="agent") + "; exec sleep 1000")}]
env = {{ EQUALS = "the agent's" }}
"""
    container = rich_pods.create(
        rich_pods.pod("systemd", rich=EVERYWHERE, more=agent),
        image,
        "sh",
        "-c",
        f"echo ready; {FOREVER}",
        config=variables(GIVEN),
    )
    running(container.start())
    by_su = parsed(container.exec("/usr/bin/env", "-i", "su", "-", "-c", "env -0").stdout)
    # A login shell reads the profile too, which can hold more.
    assert_has(by_su, AWKWARD | LINES | {"OF_THE_IMAGE": "kept", "HOME": "/root", "rich_mode": "true"})
    by_plain_su = parsed(container.exec("/usr/bin/env", "-i", "su", "-s", "/bin/sh", "daemon", "-c", "env -0").stdout)
    assert_has(by_plain_su, AWKWARD | {"OF_THE_IMAGE": "kept", "LOGNAME": "daemon"})
    assert "LINES" not in by_plain_su
    assert_has(read(container, "/var/job"), AWKWARD | {"OF_THE_IMAGE": "kept"}, path=False)
    of_unit = AWKWARD | LINES
    assert_has(read(container, "/var/unit"), of_unit)
    of_agent = read(container, "/var/agent")
    assert of_agent["EQUALS"] == "the agent's"
    assert not set(of_agent) & ((set(AWKWARD) | set(LINES)) - {"EQUALS"})
    assert "/opt/pod" not in of_agent["PATH"]
    for path in ("/etc/environment", "/etc/profile.d/pouchenv.sh"):
        assert container.shell(f"stat -c '%a %u' {path}") == "640 0\n"
    warnings = [one for one in inspected(container)["warnings"] if one.startswith("rich.env-file: ")]
    line = "found a value that a line of that file cannot hold, skipped"
    assert sorted(warnings) == [f"rich.env-file: {place}: LINES, HASH: {line}" for place in ("cron", "pam")]


@pytest.mark.parametrize("places", ["cron", "pam"])
def test_jobs_and_sessions_are_asked_for_apart(rich_pods: RichPods, places: str) -> None:
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "environment-job", [AT_BOOT])
    pod = rich_pods.pod("systemd", rich=f'env-file = ["{places}"]')
    config = variables({"EQUALS": "a=b"})
    container = running(rich_pods.create(pod, image, "sh", "-c", f"echo ready; {FOREVER}", config=config).start())
    assert read(container, "/var/job")["EQUALS"] == "a=b"
    by_su = parsed(container.exec("/usr/bin/env", "-i", "su", "-", "-c", "env -0").stdout)
    assert by_su.get("EQUALS") == ("a=b" if places == "pam" else None)


def test_a_command_by_ssh_has_the_pods_environment(rich_pods: RichPods) -> None:
    pod = rich_pods.pod("systemd", rich=EVERYWHERE)
    config = variables(GIVEN)
    container = rich_pods.create(pod, System("sshd"), "sh", "-c", f"echo ready; {FOREVER}", config=config)
    running(container.start())
    container.shell(MAKE_KEY)
    until(lambda: container.exec("sh", "-c", f"{SSH} true").exit_code == 0, "sshd to answer")
    found = parsed(container.exec("/usr/bin/env", "-i", "sh", "-c", f"{SSH} env -0").stdout)
    assert_has(found, AWKWARD | {"HOME": "/root", "USER": "root", "LOGNAME": "root"})


@pytest.mark.parametrize("system", [System("sysvinit"), pytest.param(System("busybox"))], ids=["sysvinit", "busybox"])
def test_what_an_inittab_starts_has_the_pods_environment(rich_pods: RichPods, system: System) -> None:
    tells = WRITES_ITS_OWN.format(name="unit")
    if system.kind == "busybox":
        entries = [Entry("etc/init.d/rcS", f"#!/bin/sh\nmkdir -p /var\n{tells}\n".encode(), mode=0o755)]
    else:
        script = f'#!/bin/sh\n[ "$1" != start ] || {{ {tells}; }}\n'
        entries = [AT_BOOT, Entry("etc/init.d/tells", script.encode(), mode=0o755)]
    image = rich_images.import_variant(rich_pods.node, system, f"{system}-environment", entries)
    services = "" if system.kind == "busybox" else '[services]\nenable = ["tells"]'
    pod = rich_pods.pod("sbin-init", rich=EVERYWHERE, more=services)
    command = ("sh", "-c", f"echo ready; {FOREVER}")
    container = running(rich_pods.create(pod, image, *command, config=variables(GIVEN)).start())
    assert_has(read(container, "/var/unit"), AWKWARD | LINES, path=system.kind == "busybox")
    assert "NOT" not in container.shell("ls -l /run/pouchrich/environment.sh | grep -q '^-rw-------' || echo NOT")
    if system.kind == "sysvinit":
        assert_has(read(container, "/var/job"), AWKWARD, path=False)
        assert_has(parsed(container.exec("/usr/bin/env", "-i", "su", "-", "-c", "env -0").stdout), AWKWARD)


def test_a_session_in_mode_dumb_init_on_a_read_only_root_has_it_too(rich_pods: RichPods) -> None:
    config = variables(AWKWARD)
    config.linux.security_context.readonly_rootfs = True
    pod = rich_pods.pod("dumb-init", rich=EVERYWHERE)
    container = running(rich_pods.create(pod, SYSTEMD, "sh", "-c", f"echo ready; {FOREVER}", config=config).start())
    assert_has(parsed(container.exec("/usr/bin/env", "-i", "su", "-", "-c", "env -0").stdout), AWKWARD, path=False)
    assert container.shell("tail -n1 /etc/pam.d/cron").startswith("-session optional pam_env.so")


def test_a_file_of_the_image_that_leads_away_or_the_pod_mounts_is_left_alone(rich_pods: RichPods) -> None:
    own = rich_pods.node.base / "environment"
    own.write_text("OF_THE_POD=1\n")
    entries = [Entry("etc/pam.d/cron", link="/var/elsewhere")]
    image = rich_images.import_variant(rich_pods.node, SYSTEMD, "environment-hostile", entries)
    config = variables({"EQUALS": "a=b"})
    config.mounts.append(pb.Mount(container_path="/etc/environment", host_path=str(own), readonly=True))
    pod = rich_pods.pod("dumb-init", rich=EVERYWHERE)
    container = running(rich_pods.create(pod, image, "sh", "-c", f"echo ready; {FOREVER}", config=config).start())
    assert container.shell("cat /etc/environment") == "OF_THE_POD=1\n"
    assert own.read_text() == "OF_THE_POD=1\n"
    assert container.shell("readlink /etc/pam.d/cron") == "/var/elsewhere\n"
    assert [one for one in inspected(container)["warnings"] if "env-file" in one] == [
        "rich.env-file: /etc/environment: it is below the mount at /etc/environment, skipped",
        "rich.env-file: /etc/pam.d/cron: the image's symbolic links lead to /var/elsewhere, skipped",
    ]

"""What the node makes mandatory runs beside the application, whatever image and pod say; what does not run shows."""

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import rich_images
from tests.integration.images import Entry
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import FOREVER, everywhere, in_one_place, running
from tests.integration.test_rich_systemd import ONE_SHOT, failed_start
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
AGENT = '[[agents]]\nname = "guard"\ncommand = ["/bin/sleep", "77777"]\nmandatory = true\n'
OPTIONAL = AGENT.replace("mandatory = true\n", "")
UNITS = "etc/systemd/system"
MASKED = Entry(f"{UNITS}/pouchrich-agent-guard.service", link="/dev/null")


def image_of(rich_pods: RichPods, name: str, *entries: Entry) -> str:
    return rich_images.import_variant(rich_pods.node, SYSTEMD, name, entries)


def inspected(container: Container) -> dict[str, Any]:
    """What `pouchrich inspect` says."""
    program = Path(os.environ["POUCHRICH_PREFIX"], "bin/pouchrich")
    answer = subprocess.run([program, "inspect", "--json", container.id], capture_output=True, check=True)
    found: dict[str, Any] = json.loads(answer.stdout)
    return found


def guard(container: Container) -> dict[str, Any]:
    """The agent among the parts."""
    (found,) = (part for part in inspected(container)["parts"] if part["role"] == "agent")
    assert isinstance(found, dict)
    return found


def runs(container: Container) -> bool:
    return b"sleep 77777" in container.exec("ps", "-eo", "args").stdout


@pytest.mark.parametrize(
    "entry",
    [
        MASKED,
        Entry(
            f"{UNITS}/pouchrich-agent-guard.service.d/50-other.conf", b"[Service]\nExecStart=\nExecStart=/bin/true\n"
        ),
        Entry("usr/lib/systemd/system/pouchrich-agent-.service.d/50.conf", b"[Unit]\nConditionPathExists=/no\n"),
        Entry(f"{UNITS}/multi-user.target.d/60-agents.conf", link="/dev/null"),
    ],
    ids=["mask", "drop-in", "prefix", "target"],
)
def test_an_image_that_masks_a_mandatory_agent_is_refused(rich_pods: RichPods, entry: Entry) -> None:
    image = image_of(rich_pods, f"masks-{abs(hash(entry.name))}", entry)
    message = failed_start(rich_pods.create(rich_pods.pod(more=AGENT), image, "true"))
    assert f"/{entry.name.removesuffix('/50-other.conf').removesuffix('/50.conf')}" in message, message
    assert "guard" in message, message
    assert "mandatory" in message, message


def test_a_volume_that_masks_a_mandatory_agent_is_refused(rich_pods: RichPods) -> None:
    """As a ConfigMap over the directory would."""
    volume = Path(rich_pods.node.base, "units")
    volume.mkdir()
    (volume / "pouchrich-agent-guard.service").write_text("[Service]\nExecStart=/bin/true\n")
    config = pb.ContainerConfig(mounts=[pb.Mount(container_path=f"/{UNITS}", host_path=str(volume), readonly=True)])
    message = failed_start(rich_pods.create(rich_pods.pod(more=AGENT), SYSTEMD, "true", config=config))
    assert f"/{UNITS}/pouchrich-agent-guard.service" in message, message


@everywhere
def test_a_mandatory_agent_runs_although_the_image_masks_it_as_it_boots(rich_pods: RichPods) -> None:
    """A generator of the image is seen by nobody before, and runs before any unit."""
    script = b"""#!/bin/sh
ln -s /dev/null "$2/pouchrich-agent-guard.service"
"""
    image = image_of(rich_pods, "generates-masks", Entry("usr/lib/systemd/system-generators/zz-mask", script))
    container = running(rich_pods.run(image, "sh", "-c", FOREVER, more=AGENT))
    assert runs(container)
    part = guard(container)
    assert (part["name"], part["state"]) == ("guard", "running")
    assert part["pid"]


def test_a_mandatory_agent_runs_before_the_application(rich_pods: RichPods) -> None:
    for mode in ("systemd", "dumb-init"):
        pod = rich_pods.pod(mode, more=AGENT)
        container = rich_pods.create(pod, SYSTEMD, "sh", "-c", "ps -eo args | grep -q '^/bin/sleep 77777'").start()
        assert container.wait().exit_code == 0, mode


@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
@pytest.mark.parametrize(("command", "why"), [("/opt/missing", "/opt/missing"), ("/bin/false", "ended with status 1")])
def test_a_mandatory_agent_that_does_not_run_fails_the_start(
    rich_pods: RichPods, mode: str, command: str, why: str
) -> None:
    agent = AGENT.replace('"/bin/sleep", "77777"', f'"{command}"')
    message = failed_start(rich_pods.create(rich_pods.pod(mode, more=agent), SYSTEMD, "sleep", "300"))
    assert "mandatory agent guard" in message, message
    assert why in message, message


MOUNTED = """
[[agents]]
name = "guard"
command = ["/opt/node/guard/bin/watch", "77777"]
mounts = [{ source = "%s", target = "/opt/node/guard" }]
mandatory = true
"""
SWAP = "mv /opt/node /opt/real; mkdir -p /opt/node/guard/bin; cp /bin/sleep /opt/node/guard/bin/watch"
"""Where the mount's parent is of the image overlayfs refuses that (EXDEV)."""


@pytest.fixture
def mounted_guard(rich_pods: RichPods) -> str:
    """The configuration of a mandatory agent whose program is on the node."""
    directory = rich_pods.node.base / "guard"
    (directory / "bin").mkdir(parents=True, exist_ok=True)
    (directory / "bin/watch").write_text("#!/bin/sh\nexec sleep 77777\n")
    for path in (rich_pods.node.base, directory, directory / "bin", directory / "bin/watch"):
        path.chmod(0o755)
    return MOUNTED % directory


@pytest.mark.parametrize("mode", ["systemd", "dumb-init"])
def test_a_pods_hook_puts_no_program_in_the_place_of_a_mandatory_agents(
    rich_pods: RichPods, mounted_guard: str, mode: str
) -> None:
    """The kernel renames no mount point, but what is above one it does."""
    about = {"pouchrich.io/prestart": json.dumps([{"name": "swap", "command": ["/bin/sh", "-c", SWAP]}])}
    pod = rich_pods.pod(mode, more=mounted_guard, annotations=about)
    message = failed_start(rich_pods.create(pod, SYSTEMD, "sleep", "300"))
    assert "mandatory agent guard: /opt/node/guard in the container: found another file than" in message, message


def test_an_agent_that_was_ended_is_not_started_again_as_another_program(
    rich_pods: RichPods, mounted_guard: str
) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER, more=mounted_guard))
    assert runs(container)
    container.shell(f"{SWAP}; pkill -f '[s]leep 77777'")
    until(lambda: guard(container)["state"].startswith("waiting"), "it not to run")
    assert b"/opt/node/guard/bin/watch" not in container.exec("ps", "-eo", "args").stdout
    program = Path(os.environ["POUCHRICH_PREFIX"], "bin/pouchrich")
    logs = [program, "logs", "--json", container.id]
    until(
        lambda: b"found another file than the node's" in subprocess.run(logs, capture_output=True, check=True).stdout,
        "the reason",
        every_s=0.2,
    )


def test_an_agent_that_the_image_masks_is_listed_as_such(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(image_of(rich_pods, "masks", MASKED), "sh", "-c", FOREVER, more=OPTIONAL))
    assert not runs(container)
    part = guard(container)
    assert (part["name"], part["pid"]) == ("guard", 0)
    assert part["state"] == f"its unit is /{MASKED.name}"
    assert any(f"/{MASKED.name}" in warning for warning in inspected(container)["warnings"])


def test_an_agent_that_was_stopped_in_the_container_is_listed_as_such(rich_pods: RichPods) -> None:
    container = running(rich_pods.run(SYSTEMD, "sh", "-c", FOREVER, more=OPTIONAL))
    until(lambda: guard(container)["state"] == "running", "the agent to run")
    container.shell("systemctl stop pouchrich-agent-guard")
    assert (guard(container)["state"], guard(container)["pid"]) == ("not running", 0)


@pytest.mark.parametrize(
    "entry",
    [
        Entry(f"{UNITS}/pouchrich-app.service", link="/dev/null"),
        Entry(f"{UNITS}.control/pouchrich-app.service.d/x.conf", b"[Service]\nExecStart=\n"),
        Entry(f"{UNITS}/default.target.d/50-pouchrich.conf", link="/dev/null"),
    ],
    ids=["mask", "drop-in", "target"],
)
def test_an_image_that_changes_the_applications_unit_is_refused(rich_pods: RichPods, entry: Entry) -> None:
    image = image_of(rich_pods, f"app-{abs(hash(entry.name))}", entry)
    message = failed_start(rich_pods.create(rich_pods.pod(), image, "true"))
    assert f"/{entry.name.removesuffix('/x.conf')}" in message, message
    assert "pouchrich-app.service" in message, message


def test_an_image_boots_into_any_target(rich_pods: RichPods) -> None:
    other = b"[Unit]\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n"
    entries = (Entry(f"{UNITS}/other.target", other), Entry(f"{UNITS}/default.target", link="other.target"))
    container = rich_pods.run(image_of(rich_pods, "other-target", *entries), "sh", "-c", FOREVER, more=OPTIONAL)
    until(lambda: runs(running(container)), "the agent to run")


# Services


def test_a_mandatory_service_that_fails_fails_the_start_at_once(rich_pods: RichPods) -> None:
    unit = ONE_SHOT.format(more="", command="/bin/false").encode()
    image = image_of(rich_pods, "failing-service", Entry(f"{UNITS}/needed.service", unit))
    pod = rich_pods.pod(rich='start-timeout = "10m"', more='[services]\nmandatory = ["needed"]')
    message = failed_start(rich_pods.create(pod, image, "true"))
    assert "PID 1 ended" in message, message
    assert "[DEPEND] Dependency failed for" in message, message


def test_a_mandatory_service_is_up_before_the_application_or_there_is_none(rich_pods: RichPods) -> None:
    more = '[services]\nmandatory = ["cron"]'
    container = rich_pods.run(SYSTEMD, "systemctl", "is-active", "--quiet", "cron", more=more)
    assert container.wait().exit_code == 0
    masked = image_of(rich_pods, "masks-cron", Entry(f"{UNITS}/cron.service", link="/dev/null"))
    message = failed_start(rich_pods.create(rich_pods.pod(more=more), masked, "true"))
    assert "services.mandatory" in message, message
    assert "cron" in message, message


@pytest.mark.parametrize("key", ["rich", "mode"])
def test_a_pod_does_not_get_past_a_mandatory_service(rich_pods: RichPods, key: str) -> None:
    about = {f"pouchrich.io/{key}": "false" if key == "rich" else "dumb-init"}
    pod = rich_pods.pod(more='[services]\nmandatory = ["cron"]', annotations=about)
    assert "services.mandatory" in failed_start(rich_pods.create(pod, SYSTEMD, "true"))

"""Resource limits that a spec names, which no pod can: the application has exactly those, whatever its init changes."""

from pathlib import Path
from typing import Any

import pytest

from tests.integration import configuration, rich_images, specs
from tests.integration.ctr import Ctr
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods, configure, mode_of, security
from tests.integration.test_rich_application import each_init, everywhere, in_one_place
from tests.integration.test_rich_hooks import MODES, Hooked, hook
from tests.integration.test_rich_systemd import failed_start
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place]

SYSTEMD = System("systemd")
LIMITS = {"RLIMIT_NOFILE": (333, 444), "RLIMIT_CORE": (0, 4096), "RLIMIT_NPROC": (2000, 3000)}
NAMES = {"RLIMIT_NOFILE": "Max open files", "RLIMIT_CORE": "Max core file size", "RLIMIT_NPROC": "Max processes"}


def limit(spec: dict[str, Any]) -> None:
    spec["process"]["rlimits"] = [{"type": name, "soft": soft, "hard": hard} for name, (soft, hard) in LIMITS.items()]


def limits_of(text: str) -> dict[str, tuple[int, int]]:
    """Those of LIMITS, soft and hard, from the text of /proc/PID/limits."""
    found = {}
    for line in text.splitlines():
        for name, words in NAMES.items():
            if line.startswith(words):
                soft, hard = line.removeprefix(words).split()[:2]
                found[name] = int(soft), int(hard)
    return found


def as_runc_gives(limits: dict[str, tuple[int, int]]) -> dict[str, tuple[int, int]]:
    """Without the soft number of open files: an exec by runc 1.1 now and then has it raised, in any container."""
    return {**limits, "RLIMIT_NOFILE": (0, limits["RLIMIT_NOFILE"][1])}


def printed(container: Container) -> dict[str, tuple[int, int]]:
    """The limits that the application has printed."""
    until(lambda: len(limits_of(container.output().decode())) == len(LIMITS), "the limits")
    return limits_of(container.output().decode())


@everywhere
@each_init
def test_the_application_has_exactly_the_limits_of_its_spec(rich_pods: RichPods, system: System) -> None:
    config = security(uid=1000)
    for mode in ("dumb-init", mode_of(system)):
        pod = rich_pods.pod(mode)
        container = rich_pods.create(pod, system, "sh", "-c", "cat /proc/self/limits; exec sleep 300", config=config)
        specs.edit(rich_pods.node, container.id, limit)
        container.start()
        assert printed(container) == LIMITS
        assert as_runc_gives(limits_of(container.shell("cat /proc/self/limits"))) == as_runc_gives(LIMITS)
        assert limits_of(Path(f"/proc/{container.pid()}/limits").read_text())["RLIMIT_NOFILE"][1] <= 444


@pytest.mark.parametrize("mode", MODES)
def test_hooks_have_the_limits_too(rich_pods: RichPods, mode: str) -> None:
    hooked = Hooked(rich_pods)
    stages = ("prestart", "poststop")
    more = "".join(hook(stage, "container", f"cat /proc/self/limits >/shared/{stage}") for stage in stages)
    container = hooked.create(mode, "true", more=more)
    specs.edit(rich_pods.node, container.id, limit)
    assert container.start().wait().exit_code == 0
    for stage in stages:
        found = limits_of((hooked.directory / stage).read_text())
        assert as_runc_gives(found) == as_runc_gives(LIMITS), stage


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"type": "RLIMIT_NOFILE", "soft": 10, "hard": 5}, ["process.rlimits[0].soft", "10", "5"]),
        ({"type": "RLIMIT_COLOUR", "soft": 1, "hard": 1}, ["process.rlimits[0].type", "RLIMIT_COLOUR", "NOFILE"]),
    ],
)
def test_a_limit_that_cannot_be_is_refused_by_name(
    rich_pods: RichPods, mode: str, entry: dict[str, Any], words: list[str]
) -> None:
    container = rich_pods.create(rich_pods.pod(mode), SYSTEMD, "true")
    specs.edit(rich_pods.node, container.id, lambda spec: spec["process"].update(rlimits=[entry]))
    message = failed_start(container)
    assert mode == "dumb-init" or all(word in message for word in words), message


def test_ctr_sets_the_number_of_open_files(ctr: Ctr) -> None:
    """By a spec of its own: ctr has no flag for it that all releases know."""
    container = created(ctr, "sleep", "300", mode="systemd")
    specs.edit(ctr.node, container, limit, namespace="default")
    ctr.check("tasks", "start", "--detach", container)
    look = ("sh", "-c", "cat /proc/$(pgrep -x sleep)/limits")
    until(lambda: ctr.exec(container, *look).code == 0, "the application to run")
    assert limits_of(ctr.look(container, *look).decode()) == LIMITS
    ctr.kill(container, "SIGKILL")
    ctr.wait_stopped(container)
    assert ctr.delete(container) == 137


def created(ctr: Ctr, *command: str, mode: str) -> str:
    """A container that has no task yet."""
    image = rich_images.import_system(ctr.node, SYSTEMD, namespace="default")
    configure(ctr.node, f'mode = "{mode}"')
    container = ctr.new_id()
    runtime = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", configuration.TEST_FILE)
    place = ("--snapshotter", ctr.node.settings.snapshotter)
    ctr.check("containers", "create", *runtime, *place, image, container, *command)
    return container

"""Rich containers by Docker's engine, which names the shim's type itself and knows nothing of pods."""

import json
import os
from collections.abc import Iterator

import pytest

from tests.integration import docker as engine
from tests.integration.docker import RUNTIME, TYPE, Docker
from tests.integration.node import Node
from tests.integration.rich_images import System
from tests.integration.rich_pods import configure
from tests.integration.test_rich_hooks import hook
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich", containerd="2.1"), pytest.mark.usually("2.1-crun-pouchrich")]

MODES = {"dumb-init": System("systemd"), "systemd": System("systemd"), "sbin-init": System("sysvinit")}
WAITING = "trap 'echo bye; exit 5' TERM; echo ready; while :; do sleep 0.1; done"


@pytest.fixture
def docker(node: Node) -> Iterator[Docker]:
    with engine.running(node) as found:
        yield found


@pytest.mark.parametrize("mode", MODES)
def test_the_application_has_its_own_streams_and_exit_code(docker: Docker, mode: str) -> None:
    configure(docker.node, f'mode = "{mode}"')
    image = docker.hold(MODES[mode])
    script = "cat /proc/1/comm; id -u; cat; echo aside >&2; exit 7"
    done = docker.run(
        "--interactive", "--runtime", RUNTIME, "--user", "65534", image, "sh", "-c", script, given=b"in\n"
    )
    init = {"dumb-init": "dumb-init", "systemd": "systemd", "sbin-init": "init"}[mode]
    assert (done.stdout.decode(), done.stderr, done.returncode) == (f"{init}\n65534\nin\n", b"aside\n", 7)


def test_a_container_is_configured_by_annotations(docker: Docker) -> None:
    """Without a runtime of its own configuration the node's file holds, in which these tests have plain containers."""
    configure(docker.node)
    image = docker.hold(System("systemd"))
    rich = ["--annotation", "pouchrich.io/rich=true", "--annotation", "pouchrich.io/mode=systemd"]
    for words, init in ((["--runtime", TYPE], "cat"), (["--runtime", RUNTIME, *rich], "systemd")):
        done = docker.run(*words, image, "cat", "/proc/1/comm")
        assert (done.stdout.decode().strip(), done.returncode) == (init, 0), done


@pytest.mark.parametrize("mode", MODES)
def test_a_life_with_hooks_execs_limits_and_a_stop(docker: Docker, mode: str) -> None:
    seen = docker.node.base / f"docker-{mode}"
    hooks = "".join(hook(stage, "host", f"cat >/dev/null; echo {stage} >>{seen}") for stage in ("prestart", "poststop"))
    configure(docker.node, f'mode = "{mode}"', hooks)
    name = docker.begin(docker.hold(MODES[mode]), "sh", "-c", WAITING)
    until(lambda: "ready" in docker.said("logs", name), "the application")
    assert docker.call("exec", "--interactive", name, "sh", "-c", "cat; exit 9", given=b"x").returncode == 9
    script = "id -u; echo $A"
    assert docker.said("exec", "--user", "65534", "--env", "A=b", name, "sh", "-c", script) == "65534\nb"
    docker.said("update", "--memory", "300m", "--memory-swap", "300m", name)
    docker.said("pause", name)
    assert docker.state(name, "State.Status") == "paused"
    docker.said("unpause", name)
    assert "sh -c" in docker.said("top", name)
    assert json.loads(docker.said("stats", "--no-stream", "--format", "json", name))["PIDs"] != "0"
    docker.said("stop", "--time", "20", name)
    assert docker.state(name, "State.ExitCode") == "5"
    assert docker.said("logs", name).split() == ["ready", "bye"]
    until(lambda: seen.read_text().split() == ["prestart", "poststop"], "the hooks")
    docker.said("start", name)
    until(lambda: docker.said("logs", name).split() == ["ready", "bye", "ready"], "the application once more")
    docker.said("rm", "--force", name)
    until(lambda: seen.read_text().split() == ["prestart", "poststop"] * 2, "the hooks once more")


def test_an_application_that_fails_is_started_again_as_docker_was_told(docker: Docker) -> None:
    configure(docker.node, 'mode = "systemd"')
    image = docker.hold(System("systemd"))
    name = docker.begin("--restart", "on-failure:2", image, "sh", "-c", "echo run; exit 3")
    until(lambda: docker.state(name, "RestartCount") == "2", "the restarts", timeout_s=30)
    until(lambda: docker.state(name, "State.Status") == "exited", "the end", timeout_s=30)
    assert docker.state(name, "State.ExitCode") == "3"
    assert docker.said("logs", name).split() == ["run"] * 3


def test_a_container_over_its_memory_limit_was_killed_for_that(docker: Docker) -> None:
    configure(docker.node, 'mode = "dumb-init"')
    limits = ["--memory", "30m", "--memory-swap", "30m"]
    image = docker.hold(System("systemd"))
    name = docker.said("create", "--network", "none", "--runtime", RUNTIME, *limits, image, "tail", "/dev/zero")
    assert docker.call("start", "--attach", name).returncode == 137
    assert docker.state(name, "State.OOMKilled") == "true"


@pytest.mark.parametrize("mode", ["dumb-init", "systemd"])
def test_containers_outlive_an_engine_that_is_restarted(docker: Docker, mode: str) -> None:
    configure(docker.node, f'mode = "{mode}"')
    script = "until [ -e /tmp/go ]; do sleep 0.05; done; echo gone; exit 11"
    name = docker.begin(docker.hold(MODES[mode]), "sh", "-c", script)
    docker.stop()
    docker.start()
    assert docker.state(name, "State.Status") == "running"
    docker.said("exec", name, "touch", "/tmp/go")
    assert docker.said("wait", name) == "11"
    assert docker.said("logs", name) == "gone"


def test_a_system_boots_in_the_engines_user_namespace(node: Node) -> None:
    """`userns-remap`: root in each container is a user of its own on the node."""
    node.write_files({f"/etc/{file}": "nobody:200000:65536\n" for file in ("subuid", "subgid")})
    configure(node, 'mode = "systemd"')
    with engine.running(node, **{"userns-remap": "nobody:nogroup", "live-restore": False}) as docker:
        script = "cat /proc/self/uid_map; systemctl is-system-running --wait; exit 7"
        done = docker.run("--runtime", RUNTIME, docker.hold(System("systemd")), "sh", "-c", script)
        assert (done.stdout.split(), done.returncode) == ([b"0", b"200000", b"65536", b"running"], 7), done


@pytest.mark.parametrize("mode", ["dumb-init", "systemd"])
def test_root_of_a_user_namespace_does_not_own_the_nodes_null(node: Node, mode: str) -> None:
    """The container's /dev/null is the node's file there. crun makes the container's root the owner of its streams."""
    node.write_files({f"/etc/{file}": "nobody:200000:65536\n" for file in ("subuid", "subgid")})
    configure(node, f'mode = "{mode}"')
    before = os.stat(os.devnull)
    with engine.running(node, **{"userns-remap": "nobody:nogroup", "live-restore": False}) as docker:
        image = docker.hold(System("systemd"))
        done = docker.run(
            "--runtime", RUNTIME, image, "sh", "-c", "read line; chmod 600 /dev/null; stat -c %u /dev/null"
        )
    found = os.stat(os.devnull)
    assert (found.st_uid, found.st_mode) == (before.st_uid, before.st_mode)
    assert (done.returncode, done.stdout) == (0, b"65534\n"), done


def test_an_images_volumes_do_not_keep_its_systemd_from_booting(docker: Docker) -> None:
    """Images made for systemd have had them since before cgroup namespaces."""
    configure(docker.node, 'mode = "systemd"')
    base, image = docker.hold(System("systemd")), "volumes:1"
    made = docker.said("create", "--network", "none", base, "true")
    docker.said("commit", "--change", "VOLUME /sys/fs/cgroup /run", made, image)
    done = docker.run("--runtime", RUNTIME, image, "sh", "-c", "cat /proc/1/comm; exit 7")
    assert (done.stdout, done.returncode) == (b"systemd\n", 7), done


def test_what_cannot_be_started_says_why(docker: Docker) -> None:
    configure(docker.node, 'mode = "systemd"')
    done = docker.run("--runtime", RUNTIME, docker.hold(System("systemd")), "nosuch")
    assert done.returncode == 127
    assert b'exec: "nosuch": executable file not found in $PATH' in done.stderr

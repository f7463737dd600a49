"""Agents' units run by a real systemd as PID 1: exact words and variables, user, restart; and the environment file."""

import os
import shutil
import time
from pathlib import Path

import pytest

from runtime.agents import unit
from runtime.image.passwd import User
from runtime.rich import env_file
from tests.root import rootfs_images
from tests.root.oci_bundle import cgroups_of, running, spec
from tests.unit.agents.making import selected

pytestmark = [
    pytest.mark.integration,
    pytest.mark.timeout(240),
    pytest.mark.skipif(os.geteuid() != 0 or shutil.which("runc") is None, reason="needs root and runc"),
]

PARENT = f"/pouchagents-{os.getpid()}"
WORDS = ("", "it's", '"q"', ";", "$HOME ${X} $$", "%n %%", "a\nb\tc\x01", "\\x41 \\", "é", "#c", "-x")
VARIABLES = (("A", "x 'y' \"z\" $H %n \\ é\n2"), ("B", ";"), ("EMPTY", ""))
TELL = 'printf "%s\\0" "$@" >/tmp/told; env -0 >/tmp/env; id -u >/tmp/id; exec sleep 600'


def write_units(container, agents):
    """Put the files where the plan binds them, and have systemd read them."""
    made = unit.units(agents, source="node.toml")
    texts = {file.name: file.text for file in made.files}
    for bind in made.binds:
        path = Path(f"/proc/{container.pid}/root{bind.target}")
        path.parent.mkdir(exist_ok=True)
        path.write_text(texts[bind.name])
    container.exec("systemctl", "daemon-reload", check=True)
    container.exec("systemctl", "start", "multi-user.target", check=True)


def shown(container, name, *properties):
    text = container.exec("systemctl", "show", "-p", ",".join(properties), unit.unit_name(name))
    return dict(line.split("=", 1) for line in text.splitlines())


def told(container, name):
    path = Path(f"/proc/{container.pid}/root/tmp/{name}")
    deadline = time.monotonic() + 20
    while not (path.exists() and path.stat().st_size) and time.monotonic() < deadline:
        time.sleep(0.05)
    return path.read_bytes()


def check(container):
    container.until("systemctl", "is-system-running", says=("running", "degraded"))
    daemon = User(1, 1, (4,), "daemon", "/")
    write_units(
        container,
        (
            selected(
                daemon, name="tell@x", user="daemon", env=VARIABLES, command=("/bin/sh", "-c", TELL, "sh", *WORDS)
            ),
            selected(name="dies", command=("/bin/sh", "-c", "echo x >>/tmp/dies; exit 3")),
            selected(name="done", restart="on-failure", command=("/bin/true",)),
            selected(name="gone", restart="no", command=("/bin/nothing",)),
        ),
    )
    assert told(container, "told").split(b"\0")[:-1] == [word.encode() for word in WORDS]
    assert told(container, "id") == b"1\n"
    variables = dict(entry.split(b"=", 1) for entry in told(container, "env").split(b"\0")[:-1])
    assert {name: variables[name.encode()].decode() for name, _ in VARIABLES} == dict(VARIABLES)
    main = shown(container, "tell@x", "MainPID", "ActiveState")
    assert main["ActiveState"] == "active"
    assert container.exec("ps", "-o", "ppid=", "-p", main["MainPID"]) == "1"
    assert "4" in container.exec("ps", "-o", "supgid=", "-p", main["MainPID"]).split(",")

    deadline = time.monotonic() + 20
    while int(shown(container, "dies", "NRestarts")["NRestarts"]) < 2 and time.monotonic() < deadline:
        time.sleep(0.2)
    assert int(shown(container, "dies", "NRestarts")["NRestarts"]) >= 2
    assert shown(container, "done", "ActiveState", "Result") == {"ActiveState": "inactive", "Result": "success"}
    # No end of an agent reached the application.
    assert container.exec("systemctl", "is-active", "pouchrich-app.service") == "active"
    assert container.poweroff()


def test_systemd_runs_agents_word_for_word_and_the_application_is_none_of_their_business(isolated, tmp_path):
    lower = rootfs_images.debian("systemd")
    before = spec(cgroup=f"{PARENT}/agents", annotations={"pouchrich.io/mode": "systemd"})

    def act():
        with running("runc", tmp_path / "c", lower, before) as container:
            check(container)

    try:
        isolated(act)
    finally:
        for directory in cgroups_of(PARENT):
            os.rmdir(directory)


def test_a_login_shell_of_debian_reads_the_environment_file(isolated, tmp_path):
    lower = rootfs_images.debian("systemd")
    env = {"A": "it's\n$x", "PATH": "/opt/bin:/usr/bin", "HOME": "/evil", "a.b": "c"}
    source = tmp_path / env_file.NAME
    tmp_path.chmod(0o755)
    env_file.write(str(tmp_path), env_file.text(env), group=0)
    mount = env_file.step(str(source)).edit.operand
    before = spec(cgroup=f"{PARENT}/env", annotations={"pouchrich.io/mode": "systemd"}, mounts=[mount])

    def act():
        with running("runc", tmp_path / "c", lower, before) as container:
            script = container.exec("/bin/sh", "-lc", 'printf %s "$A|$HOME"; printf "|%s" "$PATH"')
            assert script.startswith("it's\n$x|")
            assert "/evil" not in script
            assert script.endswith(":/opt/bin")
            assert container.exec("/bin/sh", "-c", "echo x >>/etc/profile.d/pouchenv.sh || echo refused") == "refused"

    try:
        isolated(act)
    finally:
        for directory in cgroups_of(PARENT):
            os.rmdir(directory)

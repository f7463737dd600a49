"""Services that people run, as Debian ships them, beside the application of a systemd pod: each works and all stop.

docs/modes.md has the table.
"""

import time

import pytest

from tests.integration import rich_images
from tests.integration.images import Entry
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import in_one_place, running
from tests.integration.test_rich_sshd import MAKE_KEY, SSH
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place, pytest.mark.full, pytest.mark.timeout(600)]

GRACE_S = 60
BOOT_TIMEOUT_S = 120.0
APPLICATION = "trap 'exit 7' TERM; echo ready; while :; do sleep 0.1; done"

# A daemon of the old kind: it forks, its child forks again, and the grandchild says by a file who it is.
TWICE = b"""#!/bin/sh
sh -c 'sh -c "echo \\$\\$ >/run/twice.pid; exec sleep 100000" &' &
"""
UNIT = b"""[Service]
Type=forking
PIDFile=/run/twice.pid
ExecStart=/usr/local/sbin/twice
[Install]
WantedBy=multi-user.target
"""
ENTRIES = (
    Entry("etc/apache2/ports.conf", b"Listen 8080\n", mode=0o644),
    Entry("etc/cron.d/at-boot", b"@reboot root id -un >/var/log/cron-ran\n", mode=0o644),
    Entry("usr/local/sbin/twice", TWICE, mode=0o755),
    Entry("etc/systemd/system/twice.service", UNIT, mode=0o644),
    Entry("etc/systemd/system/multi-user.target.wants/twice.service", link="/etc/systemd/system/twice.service"),
)

WORKS = {
    "nginx": ("curl -sI http://127.0.0.1/", "Server: nginx"),
    "Apache": ("curl -sI http://127.0.0.1:8080/", "Server: Apache"),
    "PostgreSQL": ("su postgres -c \"psql -tAc 'select 41 + 1'\"", "42"),
    "MariaDB": ("mariadb -NBe 'select 41 + 1'", "42"),
    "Redis": ("redis-cli ping", "PONG"),
    "rsyslog": ("logger -t legacy said-$$; sleep 0.2; grep legacy /var/log/syslog", "said-"),
    "cron": ("cat /var/log/cron-ran", "root"),
    "postfix": ("[ -e /sent ] || echo hello | sendmail root@localhost; touch /sent; cat /var/mail/root", "hello"),
    "sshd, a session of logind's": (f"{SSH} loginctl list-sessions --no-legend", "root"),
    "systemctl --user with linger": (
        "XDG_RUNTIME_DIR=/run/user/$(id -u worker) setpriv --reuid worker --regid worker --init-groups"
        " systemctl --user is-system-running",
        "running",
    ),
    "a daemon that forks twice": (
        "systemctl show -p ActiveState,MainPID twice; ps -o args= -p $(cat /run/twice.pid)",
        "sleep 100000",
    ),
}


def works(container: Container, service: str) -> bool:
    script, expected = WORKS[service]
    answer = container.exec("sh", "-c", script, timeout_s=20)
    return expected in answer.stdout.decode(errors="replace")


@pytest.mark.parametrize("suite", ["bookworm", "trixie"])
def test_the_services_of_an_image_work_and_stop_within_the_grace_period(rich_pods: RichPods, suite: str) -> None:
    base = System("services", suite)
    rich_pods.node.removal_s = 300.0  # two images of a gigabyte
    image = rich_images.import_variant(rich_pods.node, base, f"{suite}-services-set-up", ENTRIES)
    began = time.monotonic()
    container = running(rich_pods.run(image, "sh", "-c", APPLICATION, rich='start-timeout = "120s"'))
    ready_s = time.monotonic() - began
    container.shell(MAKE_KEY)
    container.shell("useradd -m worker && loginctl enable-linger worker")
    for service in WORKS:
        until(lambda service=service: works(container, service), f"{service} to work", timeout_s=BOOT_TIMEOUT_S)
    failed = container.exec("systemctl", "list-units", "--failed", "--no-legend", "--plain").stdout.decode()
    assert failed == "", failed
    began = time.monotonic()
    container.stop(grace_s=GRACE_S)
    stopped_s = time.monotonic() - began
    assert container.status().exit_code == 7
    assert stopped_s < GRACE_S
    print(f"{suite}: ready in {ready_s:.1f} s, {len(WORKS)} services, stopped in {stopped_s:.1f} s")

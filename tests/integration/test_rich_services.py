"""Services that people run, as Debian ships them, beside the application of a rich pod: each works and all stop.

docs/modes.md has the table.
"""

import subprocess
import time
from dataclasses import dataclass

import pytest

from tests.integration import bare_crun, rich_images
from tests.integration.images import Entry
from tests.integration.pods import Container
from tests.integration.rich_images import System
from tests.integration.rich_pods import RichPods
from tests.integration.test_rich_application import in_one_place, running
from tests.integration.test_rich_sshd import MAKE_KEY, SSH
from tests.integration.waiting import until

pytestmark = [pytest.mark.only(runtime="pouchrich"), in_one_place, pytest.mark.full, pytest.mark.timeout(900)]

GRACE_S = 60
BOOT_TIMEOUT_S = 100
TIMES = 'start-timeout = "120s"\nstop-timeout = "50s"'
APPLICATION = "trap 'echo stops; exit 7' TERM; echo ready; while :; do sleep 0.1; done"

# A daemon of the old kind: it forks, its child forks again, and the grandchild says by a file who it is.
TWICE = b"""#!/bin/sh
sh -c 'sh -c "echo \\$\\$ >/run/twice.pid; exec sleep 100000" </dev/null >/dev/null 2>&1 &' &
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
)
OF_SYSTEMD = (
    Entry("usr/local/sbin/twice", TWICE, mode=0o755),
    Entry("etc/systemd/system/twice.service", UNIT, mode=0o644),
    Entry("etc/systemd/system/multi-user.target.wants/twice.service", link="/etc/systemd/system/twice.service"),
)
OF_SYSVINIT = (
    Entry("usr/local/sbin/twice", TWICE, mode=0o755),
    Entry("etc/rc.local", b"#!/bin/sh -e\n/usr/local/sbin/twice\n", mode=0o755),
)
PREPARE = {"systemd": f"{MAKE_KEY}useradd -m worker && loginctl enable-linger worker\n", "sysvinit": MAKE_KEY}
LOGS = "cat /var/log/syslog /var/log/messages /var/log/{0} 2>/dev/null; journalctl --no-pager -q 2>/dev/null"


@dataclass(frozen=True, slots=True)
class Service:
    """A script that asks the service something and part of the answer, and the same of what it writes to a log."""

    asks: str
    answer: str
    log: str
    logged: str


WORKS = {
    "nginx": Service(
        "curl -sI http://127.0.0.1/", "Server: nginx", "cat /var/log/nginx/access.log", '"HEAD / HTTP/1.1" 200'
    ),
    "Apache": Service(
        "curl -sI http://127.0.0.1:8080/", "Server: Apache", "cat /var/log/apache2/*access.log", '"HEAD / HTTP/1.1" 200'
    ),
    "PostgreSQL": Service(
        "su postgres -c \"psql -tAc 'select 41 + 1'\"", "42", "cat /var/log/postgresql/*.log", "ready to accept"
    ),
    "MariaDB": Service("mariadb -NBe 'select 41 + 1'", "42", LOGS.format("mysql/error.log"), "ready for connections"),
    "Redis": Service("redis-cli ping", "PONG", "cat /var/log/redis/redis-server.log", "eady to accept connections"),
    "rsyslog": Service(
        "logger -t legacy said-$$; sleep 0.2; grep legacy /var/log/syslog", "said-", "cat /var/log/syslog", "rsyslogd"
    ),
    "cron": Service("cat /var/log/cron-ran", "root", LOGS.format("cron.log"), "id -un >/var/log/cron-ran"),
    "postfix": Service(
        "[ -e /sent ] || echo hello | sendmail root@localhost; touch /sent; cat /var/mail/root",
        "hello",
        LOGS.format("mail.log"),
        "status=sent",
    ),
}
LINGER = "systemctl --user with linger"
"""A user's manager cannot have its cgroup where crun alone gives systemd the v1 ones."""
BY_SYSTEMD = {
    "sshd with a session of logind": Service(
        f"{SSH} loginctl list-sessions --no-legend", "root", LOGS.format("auth.log"), "Accepted publickey for root"
    ),
    LINGER: Service(
        "XDG_RUNTIME_DIR=/run/user/$(id -u worker) setpriv --reuid worker --regid worker --init-groups"
        " systemctl --user is-system-running",
        "running",
        "journalctl --no-pager -q _SYSTEMD_UNIT=user@$(id -u worker).service",
        "Startup finished",
    ),
    "a daemon that forks twice": Service(
        "systemctl show -p ActiveState,MainPID twice; ps -o args= -p $(cat /run/twice.pid)",
        "sleep 100000",
        LOGS.format(""),
        "Started twice.service",
    ),
}
BY_SYSVINIT = {
    "sshd": Service(f"{SSH} id -un", "root", LOGS.format("auth.log"), "Accepted publickey for root"),
    "a daemon that forks twice": Service(
        "ps -o ppid=,args= -p $(cat /run/twice.pid) | tr -s ' '", "1 sleep 100000", "cat /run/twice.pid", ""
    ),
}
ALL = {"systemd": WORKS | BY_SYSTEMD, "sysvinit": WORKS | BY_SYSVINIT}


def timed(init: str) -> str:
    """A script that returns once the services work that work under crun alone too, and prints the time of day then."""
    checks = "".join(
        f"until case $({one.asks}) in *'{one.answer}'*) ;; *) false ;; esac; do\n"
        f"late || {{ echo '{name}' | tr -d '\n'; exit 1; }}; done 2>/dev/null\n"
        for name, one in ALL[init].items()
        if name != LINGER
    )
    late = f"end=$(($(date +%s) + {BOOT_TIMEOUT_S}))\nlate() {{ sleep 0.1; [ $(date +%s) -lt $end ]; }}\n"
    return f"{PREPARE[init]}{late}{checks}date +%s.%N"


def missing(container: Container, init: str) -> list[str]:
    """The services that do not work, or have not said so in their logs."""
    found = []
    for name, one in ALL[init].items():
        for script, expected in ((one.asks, one.answer), (one.log, one.logged)):
            answer = container.exec("sh", "-c", script, timeout_s=20)
            if expected not in (said := answer.stdout.decode(errors="replace")):
                found.append(f"{name}: {script}: no {expected} in {said[-300:]!r}, {answer.stderr[-300:]!r}")
    return found


def bare_s(rich_pods: RichPods, image: str, init: str) -> float | None:
    """In how many seconds all services of the image work under crun alone; None where its init does not boot so."""
    if init == "systemd" and "sid" in image:
        return None  # without cgroup v1, which is all that the node's crun sees
    pod = rich_pods.pod("systemd" if init == "systemd" else "sbin-init", rich=TIMES)
    container = rich_pods.create(pod, image, "/sbin/init").start()
    spec, lower = bare_crun.bundle_of(container)
    container.stop(grace_s=0)
    began = time.time()
    with bare_crun.running(rich_pods.node, spec, lower) as bare:
        until(lambda: subprocess.run(bare.command("exec", "bare", "true"), capture_output=True).returncode == 0, "exec")
        return float(bare.shell(timed(init), timeout_s=2 * BOOT_TIMEOUT_S)) - began


@pytest.mark.parametrize("suite", ["bullseye", "bookworm", "trixie", "sid"])
@pytest.mark.parametrize("init", ["systemd", "sysvinit"])
def test_the_services_of_an_image_work_and_stop_within_the_grace_period(
    rich_pods: RichPods, suite: str, init: str
) -> None:
    base = System("services" if init == "systemd" else "sysvinit-services", suite)
    own = OF_SYSTEMD if init == "systemd" else OF_SYSVINIT
    image = rich_images.import_variant(rich_pods.node, base, f"{base}-set-up", ENTRIES + own)
    pod = rich_pods.pod("systemd" if init == "systemd" else "sbin-init", rich=TIMES)
    container = rich_pods.create(pod, image, "sh", "-c", APPLICATION)
    began = time.time()
    running(container.start())
    application_s = time.time() - began
    answer = container.exec("sh", "-c", timed(init), timeout_s=2 * BOOT_TIMEOUT_S)
    assert answer.exit_code == 0, f"{answer.stdout.decode()} does not work: {missing(container, init)}"
    services_s = float(answer.stdout) - began
    end = time.monotonic() + BOOT_TIMEOUT_S
    while (lacking := missing(container, init)) and time.monotonic() < end:
        time.sleep(0.5)
    assert not lacking, lacking
    if init == "systemd":
        failed = container.exec("systemctl", "list-units", "--failed", "--no-legend", "--plain").stdout.decode()
        assert failed == "", failed
    began = time.time()
    container.stop(grace_s=GRACE_S)
    stopped_s = time.time() - began
    assert container.status().exit_code == 7
    container.wait_output(b"ready\nstops\n")
    assert stopped_s < GRACE_S
    pod.remove()
    bare = bare_s(rich_pods, image, init)
    count = len(ALL[init].keys() - {LINGER})
    print(
        f"{suite} {init}: application in {application_s:.1f} s, {count} services in {services_s:.1f} s"
        f" (bare crun {f'{bare:.1f} s' if bare is not None else '-'}), stopped in {stopped_s:.1f} s"
    )

"""Checks of a node that enforces SELinux: run in the guest by `init` (`guest`), with our own `policy`.

containerd's CRI plugin gives each container a label with its own categories. Exit status 1 if a check failed.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pods
import policy
from guest import (
    APPLICATION,
    IMAGES,
    INITS,
    OCIS,
    PREFIX,
    STOP_TIMEOUT_S,
    check,
    configured,
    equal,
    of,
    run,
    run_checks,
    text,
    until,
)

SELINUX = Path("/sys/fs/selinux")
HIDDEN = "/srv"  # a directory of the host, whose label is not for containers
TOLD = Path("/opt/told")  # a directory that containers may write to

LABEL = "tr -d '\\0' </proc/self/attr/current; echo"
LABELLED = f"{LABEL}\n{APPLICATION}"


def label_of(pid: int) -> str:
    return text(Path(f"/proc/{pid}/attr/current")).rstrip("\0")


def labels(init: int) -> set[str]:
    """The labels of all processes in the PID namespace of `init`."""
    own = os.readlink(f"/proc/{init}/ns/pid")
    found = set()
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if os.readlink(entry / "ns/pid") == own:
                found.add(label_of(int(entry.name)))
        except OSError:
            continue
    return found


def handler(oci: str, mode: str) -> tuple[str, Path]:
    return f"{oci}-{mode}", Path(f"/etc/vm/handler-{oci}-{mode}.toml")


def beside(mode: str) -> str:
    """Configuration of hooks that report their labels, of an agent, and of services under systemd."""
    if mode == "plain":
        return ""

    def teller(stage: str) -> str:
        command = json.dumps(["/bin/sh", "-c", f"({LABEL}; grep -c ociVersion) >{TOLD}/{stage}"])
        return f'[[hooks.{stage}]]\nname = "teller"\ncommand = {command}\n'

    services = {"systemd": '[services]\nenable = ["cron", "rsyslog"]\n'}.get(mode, "")
    agent = '[[agents]]\nname = "agent"\ncommand = ["/bin/sleep", "1001"]\n'
    return "".join((teller("prestart"), teller("poststop"), agent, services))


def lives(oci: str, mode: str) -> None:
    name, file = handler(oci, mode)
    with of(f"{oci} {mode}"):
        config = configured(oci, mode, beside(mode))
        file.write_text(f"version = 1\n{config}")
        image = f"localhost/{IMAGES[mode]}:latest"
        pod = pods.Pod(name, image, "/bin/sh", "-c", LABELLED, mounts=[HIDDEN, str(TOLD)])
        until(lambda: "ready" in pod.lines())
        label, *said = pod.lines()
        check(f"the application's label {label}", label.startswith(f"system_u:system_r:{policy.CONTAINER}:s0:c"), label)
        if mode in INITS:
            equal("its parent, PID 1", said[:1], [INITS[mode]])
            check("the agent runs", until(lambda: pod.shell("pgrep -f 'sleep 1001'")), pod.shell("ps -e"))
        if mode == "systemd":
            until(lambda: pod.shell("systemctl is-system-running") not in ("starting", "initializing"))
            equal("services", pod.shell("systemctl is-active cron rsyslog systemd-journald"), "active\nactive\nactive")
        equal("an exec's label", pod.shell(LABEL), label)
        equal("labels of all its processes", labels(pod.pid()), {label})
        equal("what it sees of the host", pod.shell(f"ls {HIDDEN} 2>&1 || echo refused").splitlines()[-1:], ["refused"])
        equal("exit code after a stop", pod.end(STOP_TIMEOUT_S), 42)
        equal("its log's last line", pod.lines()[-1:], ["stopping"])
        for stage in ("prestart", "poststop") if mode in INITS else ():
            equal(f"label of the {stage} hook, and the state that it reads", text(TOLD / stage), f"{label}\n1")
            (TOLD / stage).unlink()


def enforce() -> None:
    """Load the policy, and write the files of it that containerd's CRI plugin reads."""
    source, binary = Path("/run/policy.cil"), Path("/run/policy")
    source.write_text(policy.text())
    subprocess.run(["secilc", "-o", str(binary), "-f", "/dev/null", str(source)], check=True)
    fd = os.open(SELINUX / "load", os.O_RDWR)
    os.write(fd, binary.read_bytes())
    os.close(fd)
    contexts = Path("/etc/selinux/vm/contexts")
    contexts.mkdir(parents=True)
    (contexts.parents[1] / "config").write_text("SELINUX=enforcing\nSELINUXTYPE=vm\n")
    process, content = f"system_u:system_r:{policy.CONTAINER}:s0", "system_u:object_r:container_file_t:s0"
    (contexts / "lxc_contexts").write_text(f'process = "{process}"\nfile = "{content}"\nro_file = "{content}"\n')
    # The administrator has to label any program of the host that containers execute.
    for program in ("launch", "dumb-init"):
        for path in PREFIX.rglob(f"libexec/{program}"):
            os.setxattr(path, "security.selinux", b"system_u:object_r:helper_t:s0")
    TOLD.mkdir()
    os.setxattr(TOLD, "security.selinux", content.encode())
    (SELINUX / "enforce").write_text("1")


def checks() -> None:
    with of(f"{os.uname().release} SELinux"):
        equal("enforcing", text(SELINUX / "enforce"), "1")
        equal("the host's label", label_of(os.getpid()).split(":")[2], policy.HOST)
    for oci in OCIS:
        for mode in IMAGES:
            lives(oci, mode)
    print("\n".join(line for line in run("dmesg").stdout.splitlines() if "avc:  denied" in line), flush=True)


enforce()
HANDLERS = dict(handler(oci, mode) for oci in OCIS for mode in IMAGES)
sys.exit(run_checks(checks, configuration=pods.configuration(HANDLERS, "localhost/systemd:latest", selinux=True)))

"""Checks of a node that enforces AppArmor, as Debian and Ubuntu do: run in the guest by `init` (`guest`).

containerd loads its own default profile and gives it to the containers, under the name that its CRI plugin uses. Then
follow the checks' own profiles (`profiles`). Exit status 1 if a check failed.
"""

import json
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pods
from guest import (
    APPLICATION,
    IMAGES,
    INITS,
    OCIS,
    STOP_TIMEOUT_S,
    Container,
    check,
    configured,
    equal,
    of,
    run,
    run_checks,
    text,
    until,
)
from profiles import DEFAULT, HIDDEN, OWN, enforced, label_of, labels, load

CONFINED = ("--apparmor-default-profile", DEFAULT)
LABEL = "read -r label </proc/self/attr/current; echo $label"
LABELLED = f"{LABEL}\n{APPLICATION}"
REACH = """mount -t tmpfs none /mnt && echo mounted
umount -l /proc/sys && echo vm >/proc/sys/kernel/domainname && echo wrote
echo done"""


def lines(container: Container) -> list[str]:
    return text(container.log).splitlines()


def is_ready(container: Container) -> bool:
    return until(lambda: "ready" in lines(container))


def beside(mode: str) -> str:
    """Configuration of hooks and an agent that report their labels, and of services under systemd."""
    if mode == "plain":
        return ""

    def teller(table: str, name: str, more: str = "") -> str:
        command = json.dumps(["/bin/sh", "-c", f"({LABEL}) >>/shared/{name}; {more}"])
        return f'[[{table}]]\nname = "{name}"\ncommand = {command}\n'

    hooks = teller("hooks.prestart", "prestart"), teller("hooks.poststop", "poststop")
    services = {"systemd": '[services]\nenable = ["cron", "rsyslog"]\n'}.get(mode, "")
    return "".join((*hooks, teller("agents", "agent", "exec sleep 1000"), services))


def shared(name: str) -> tuple[Path, tuple[str, ...]]:
    """A directory, and the options that mount it at /shared."""
    directory = Path(f"/run/shared/{name}")
    directory.mkdir(parents=True)
    return directory, ("--mount", f"type=bind,src={directory},dst=/shared,options=rbind:rw")


def lives(oci: str, mode: str, profile: str = DEFAULT, more: str = "") -> None:
    """Check a whole life under containerd's default profile, or another that the configuration `more` names."""
    label, image = enforced(profile), IMAGES[mode]
    with of(f"{oci} {mode} {profile}"):
        for status in (0, 7):
            config = configured(oci, mode, more)
            short = Container(
                f"{mode}-{oci}-{status}", image, config, "/bin/sh", "-c", f"{LABEL}; exit {status}", options=CONFINED
            )
            equal(f"exit status of one that exits with {status}", short.end(), status)
            equal("its label in its log", lines(short), [label])
            short.is_gone()
        name = f"{mode}-{oci}"
        directory, mount = shared(name)
        config = configured(oci, mode, more + beside(mode))
        container = Container(name, image, config, "/bin/sh", "-c", LABELLED, options=(*CONFINED, *mount))
        is_ready(container)
        said = lines(container)
        equal("the application's label", said[:1], [label])
        if mode in INITS:
            equal("its parent, PID 1", said[1:2], [INITS[mode]])
        equal("PID 1's label", label_of(container.pid()), label)
        if mode in INITS:
            check("the agent runs", until((directory / "agent").exists), text(directory))
        if mode == "systemd":
            boots(container)
        equal("an exec's label", container.shell(LABEL), label)
        equal("an exec's exit status", container.exec("/bin/sh", "-c", "exit 5").returncode, 5)
        equal("labels of all its processes", labels(container), {label})
        began = time.monotonic()
        equal("exit status after TERM", container.end("TERM"), 42)
        took = time.monotonic() - began
        check(f"init ends by itself, after {took:.0f} s", took < STOP_TIMEOUT_S, took)
        equal("its log's last line", lines(container)[-1:], ["stopping"])
        for told in ("prestart", "agent", "poststop") if mode in INITS else ():
            equal(f"label of {told}", set(text(directory / told).splitlines()), {label})
        container.is_gone()


def failed_units(container: Container) -> list[str]:
    """The failed units once the boot is over."""
    until(lambda: container.shell("systemctl is-system-running") not in ("starting", "initializing"))
    listed = container.shell("systemctl list-units --failed --plain --no-legend")
    return [line.split()[0] for line in listed.splitlines()]


def boots(container: Container) -> None:
    equal("failed units", failed_units(container), [])
    equal("systemd", container.shell("systemctl is-system-running"), "running")
    equal("services", container.shell("systemctl is-active cron rsyslog systemd-journald"), "active\nactive\nactive")
    script = "logger -t vm said; sleep 1; grep -c 'vm: said' /var/log/syslog; journalctl -t vm -o cat"
    equal("what is logged reaches rsyslog and the journal", container.shell(script), "1\nsaid")


def killed(oci: str, mode: str) -> None:
    with of(f"{oci} {mode} KILL"):
        config = configured(oci, mode)
        container = Container(f"killed-{mode}-{oci}", IMAGES[mode], config, "/bin/sh", "-c", LABELLED, options=CONFINED)
        is_ready(container)
        equal("exit status", container.end("KILL"), 137)
        container.is_gone()


def terminal(oci: str, mode: str) -> None:
    """Check `ctr run --tty` on a terminal of our own."""
    with of(f"{oci} {mode} terminal"):
        name = f"tty-{mode}-{oci}"
        file = Path(f"/etc/vm/{name}.toml")
        file.write_text(f"version = 1\n{configured(oci, mode)}")
        kind = ("--runtime", "io.containerd.pouchrich.v2", "--runtime-config-path", str(file), "--tty", "--rm")
        script = f"tty; {LABEL}; read -r word; echo got $word; exit 7"
        ours, theirs = pty.openpty()
        command = ("ctr", "run", *kind, *CONFINED, IMAGES[mode], name, "/bin/sh", "-c", script)
        client = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, start_new_session=True)
        os.close(theirs)
        said = b""
        while b"\n" not in said.partition(b"(enforce)")[2] and client.poll() is None:
            said += os.read(ours, 4096)
        os.write(ours, b"word\n")
        while b"got word" not in said and client.poll() is None:
            said += os.read(ours, 4096)
        equal("exit status", client.wait(120), 7)
        os.close(ours)
        words = said.decode(errors="replace").split()
        number = 1 if mode in ("systemd", "sbin-init") else 0  # the first is PID 1's console
        wanted = [f"/dev/pts/{number}", *enforced(DEFAULT).split(), "word", "got", "word"]
        equal("its terminal, its label, and what is typed", words, wanted)


def denies(oci: str, mode: str) -> None:
    """Check, with the capability that allows it, that the profile denies an act which is allowed without a profile."""
    for options, wanted in ((CONFINED, "done"), ((), "mounted\nwrote\ndone")):
        word = "confined" if options else "unconfined"
        with of(f"{oci} {mode} {word} with CAP_SYS_ADMIN"):
            name = f"admin-{mode}-{oci}-{word}"
            command = ("/bin/sh", "-c", f"({REACH}) 2>/dev/null; {LABELLED}")
            container = Container(
                name, IMAGES[mode], configured(oci, mode), *command, options=("--cap-add", "CAP_SYS_ADMIN", *options)
            )
            is_ready(container)
            found = [line for line in lines(container) if line in ("mounted", "wrote", "done")]
            equal("what the application may of mount, write to /proc/sys", "\n".join(found), wanted)
            if options:
                equal("what an exec may", container.shell(f"({REACH}) 2>/dev/null"), wanted)
            if mode == "systemd":
                failed = failed_units(container)
                word = "units that systemd sandboxes by mounts fail" if options else "no unit fails"
                check(f"{word}: {failed}", ("systemd-logind.service" in failed) == bool(options), failed)
            equal("exit status after TERM", container.end("TERM"), 42)
            container.is_gone()


def obeys(oci: str, mode: str) -> None:
    """Check a profile of the node that the pod names."""
    label = enforced(OWN)
    with of(f"{oci} {mode} own profile"):
        attempt = f"cat {HIDDEN} >/dev/null 2>&1 || echo denied; "
        container = Container(
            f"own-{mode}-{oci}",
            IMAGES[mode],
            configured(oci, mode),
            "/bin/sh",
            "-c",
            attempt + LABELLED,
            options=("--apparmor-profile", OWN),
        )
        is_ready(container)
        equal("what the application cannot read, and its label", lines(container)[:2], ["denied", label])
        equal("an exec cannot either", container.shell(f"cat {HIDDEN} >/dev/null 2>&1 || echo denied"), "denied")
        equal("it traces nobody", container.shell("cat /proc/1/environ >/dev/null 2>&1 || echo denied"), "denied")
        equal("labels of all its processes", labels(container), {label})
        if mode == "systemd":
            failed_units(container)
            found = container.shell("systemctl show -p LoadState --value cron rsyslog").split()
            obeyed = found[:1] != ["loaded"] and found[1:] == ["loaded"]
            check("PID 1 loads a unit, and not the one that it must not read", obeyed, found)
        equal("exit status after TERM", container.end("TERM"), 42)
        container.is_gone()


def refused(
    oci: str, mode: str, profile: str, image: str = "systemd", *, more: str = "", options: Sequence[str] = ()
) -> str:
    """The error of a container that must not start; `profile` is the pod's, unless `options` name another."""
    name = f"{profile}-{mode}-{oci}"
    options = options or ("--apparmor-profile", profile)
    config = configured(oci, mode, more).replace('start-timeout = "5m"', 'start-timeout = "40s"')
    try:
        Container(name, image, config, "/bin/sh", "-c", LABELLED, options=options)
    except RuntimeError as err:
        return str(err).partition("ctr: ")[2].strip().replace(name, "NAME")
    finally:
        run("ctr", "tasks", "rm", "--force", name)
        run("ctr", "containers", "rm", name)
    return "nothing"


def refuses(oci: str) -> None:
    with of(f"{oci} a profile that is not loaded"):
        plain = refused(oci, "plain", "vm-unknown")
        check("a plain container's error is about labels", bool(re.search("apparmor|/attr/", plain)), plain)
        for mode in INITS:
            equal(f"error in mode {mode}", refused(oci, mode, "vm-unknown", IMAGES[mode]), plain)
    for profile, word in (("vm-no-write", "Permission denied"), ("vm-no-launcher", "no progress within start-timeout")):
        with of(f"{oci} systemd {profile}"):
            said = refused(oci, "systemd", profile)
            check(f"its error says {word}", word in said, said)


def handler(oci: str, mode: str) -> tuple[str, Path]:
    return f"{oci}-{mode}", Path(f"/etc/vm/handler-{oci}-{mode}.toml")


def in_a_pod(oci: str, mode: str, profile: str = DEFAULT, more: str = "") -> None:
    """Check a pod that names no profile: the CRI plugin gives it the default profile."""
    name, file = handler(oci, mode)
    with of(f"{oci} {mode} through the CRI {profile}"):
        file.write_text(f"version = 1\n{configured(oci, mode, more)}")
        pod = pods.Pod(name, f"localhost/{IMAGES[mode]}:latest", "/bin/sh", "-c", LABELLED)
        until(lambda: "ready" in pod.lines())
        said = pod.lines()
        equal("the application's label", said[:1], [enforced(profile)])
        if mode in INITS:
            equal("its parent, PID 1", said[1:2], [INITS[mode]])
        equal("PID 1's label", pod.shell("cat /proc/1/attr/current"), enforced(profile))
        equal("an exec's label", pod.shell(LABEL), enforced(profile))
        equal("exit code after a stop", pod.end(STOP_TIMEOUT_S), 42)


def in_force() -> None:
    with of(f"{os.uname().release} AppArmor"):
        equal("the kernel's word", text(Path("/sys/module/apparmor/parameters/enabled")), "Y")
        modules = text(Path("/sys/kernel/security/lsm"))
        check(f"security modules {modules}", "apparmor" in modules.split(","), modules)
        load()


def checks() -> None:
    in_force()
    for oci in OCIS:
        for mode in IMAGES:
            for case in (lives, killed, terminal, in_a_pod):
                case(oci, mode)
        for mode in ("plain", "dumb-init", "systemd"):
            denies(oci, mode)
            obeys(oci, mode)
        refuses(oci)


def configuration() -> str:
    handlers = dict(handler(oci, mode) for oci in OCIS for mode in IMAGES)
    return pods.configuration(handlers, "localhost/systemd:latest")


if __name__ == "__main__":
    sys.exit(run_checks(checks, configuration=configuration()))

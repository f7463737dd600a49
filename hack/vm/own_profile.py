"""Checks of the shim's own AppArmor profile: loaded as by `pouchrich node install`, named by a handler, and what it
denies. Run in the guest by `init` (`guest`), with Debian's newest kernel, AppArmor and containerd.

vm.cases selects the cases; without it all run.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from apparmor import configuration, failed_units, in_a_pod, in_force, lives, refused
from attempts import ALLOWED, ATTEMPTS, DENIED, SANDBOX, SANDBOXED, UNASKED
from guest import (
    APPLICATION,
    IMAGES,
    INITS,
    OCIS,
    Container,
    check,
    configured,
    equal,
    of,
    option,
    run,
    run_checks,
    text,
    until,
)
from profiles import DEFAULT, OWN, label_of

from pouchrich.node import apparmor as profile
from pouchrich.node import uninstall
from pouchrich.node.layout import Layout
from runtime.linux import apparmor as kernel

NAME = profile.NAME
NAMED = f'apparmor-profile = "{NAME}"\n'
CONFINED = ("--apparmor-default-profile", DEFAULT)
ADMIN = ("--cap-add", "CAP_SYS_ADMIN", *CONFINED)
LAYOUT = Layout("/opt/pouchrich", "/usr/local/bin")

SIGNALS = """exec 2>/dev/null
sleep 1000 & kill $! && echo child
timeout 0.1 sleep 1000; echo $?
sleep 1000 & echo $! >/tmp/pid; wait $!; echo $?"""


def has(label: str) -> bool:
    """Whether a label has the profile in enforce mode; on kernels from 6.17 on it may be stacked."""
    names, _, mode = label.rpartition(" ")
    return NAME in names.split("//&") and mode == "(enforce)"


def installed() -> None:
    """Load the profile as an artefact's installation does, with the packages in place of a version's directory."""
    with of(f"{os.uname().release} node install"):
        said = run("apparmor_parser", "--version").stdout.split("\n")[0]
        print(f"     {said}, containerd {run('containerd', '-v').stdout.split()[2]}", flush=True)
        version = Path(f"{LAYOUT.home}/v")
        version.mkdir(parents=True)
        Path(LAYOUT.home, "current").symlink_to("v")
        (version / "site").symlink_to(sys.argv[1])
        profile.put(LAYOUT)
        check(f"the kernel has loaded {NAME}", NAME in (kernel.loaded() or ()), text(Path(kernel.PROFILES)))
        equal(
            "status",
            profile.words(profile.status(LAYOUT)),
            f"profile {NAME} is loaded, at boots from {profile.FILE}",
        )
        for parser in ("/usr/sbin/apparmor_parser", "apparmor_parser"):
            done = run(parser, "--skip-kernel-load", "--skip-cache", profile.FILE)
            equal(f"what {run(parser, '--version').stdout.split()[3]} says", (done.returncode, done.stderr), (0, ""))


def taken_away() -> None:
    with of("node uninstall"):
        equal("what needs the profile", list(profile.needing(LAYOUT)), [])
        profile.take_away(LAYOUT)
        check("it is unloaded", NAME not in (kernel.loaded() or ()), "")
        check("its file is gone", not os.path.exists(profile.FILE), "")
        shutil.rmtree(LAYOUT.home)


def signals(oci: str) -> None:
    """Check that an exec can signal its children and itself, and that others can signal it: containerd#12886."""
    with of(f"{oci} signals"):
        container = Container(
            f"signals-{oci}",
            IMAGES["dumb-init"],
            configured(oci, "dumb-init", NAMED),
            *("/bin/sh", "-c", APPLICATION),
            options=CONFINED,
        )
        until(lambda: "ready" in text(container.log))
        check("needs the profile", any(NAME in one for one in uninstall.needing(LAYOUT)), list(profile.needing(LAYOUT)))
        script = (
            f"exec 2>/dev/null; ({SIGNALS}) & until [ -s /tmp/pid ]; do sleep 0.1; done; kill $(cat /tmp/pid); wait"
        )
        equal("what becomes of an exec's children", container.shell(script), "child\n124\n143")
        label = container.shell("read -r label </proc/self/attr/current; echo $label")
        check(f"an exec's label {label}", has(label), label)
        check("PID 1's label", has(label_of(container.pid())), label_of(container.pid()))
        container.exec("/bin/sh", "-c", "sleep 1000 >/dev/null 2>&1 & echo $! >/tmp/left")
        equal("another exec ends what it left", container.shell("kill $(cat /tmp/left) && echo ended"), "ended")
        equal("exit status after TERM", container.end("TERM"), 42)


def denies(oci: str) -> None:
    """Check the denials with CAP_SYS_ADMIN, with which everything is allowed when there is no profile."""
    for options, config, wanted in (
        (ADMIN, NAMED, list(ALLOWED)),
        (
            ADMIN[:2],
            "",
            [*ALLOWED, *DENIED],
        ),
    ):
        with of(f"{oci} CAP_SYS_ADMIN {'under the profile' if config else 'unconfined'}"):
            container = Container(
                f"denies-{oci}-{len(config)}",
                IMAGES["dumb-init"],
                configured(oci, "dumb-init", config),
                *("/bin/sh", "-c", APPLICATION),
                options=options,
            )
            until(lambda container=container: "ready" in text(container.log))
            could = [line.split()[1] for line in container.shell(ATTEMPTS).splitlines() if line.startswith("could ")]
            if config:
                equal("what could be done", could, wanted)
            else:
                check(f"without it: {' '.join(could)}", set(wanted) <= set(could), sorted(set(wanted) - set(could)))
            container.end("TERM")


def unasked(_: str) -> None:
    """Calls that the kernel does not pass to AppArmor, by a process of the guest under the profile."""
    with of("calls that the kernel does not ask about"):
        attribute = Path("/proc/thread-self/attr/apparmor/exec")
        for profile_name, wanted in (
            (NAME, "fsmount open_tree mount_setattr"),
            ("", "fsmount sys/kernel/domainname sysrq-trigger move_mount open_tree mount_setattr"),
        ):
            done = subprocess.run(
                [sys.executable, "-I", "-c", UNASKED],
                preexec_fn=lambda name=profile_name: attribute.write_text(f"exec {name}") if name else None,
                capture_output=True,
                text=True,
                check=False,
            )
            equal(f"what can be done {profile_name or 'unconfined'}", done.stdout.strip() + done.stderr, wanted)


def sandboxes(oci: str) -> None:
    """Check systemd's sandboxed units: they fail under containerd's default profile, and work under ours."""
    for config, word in ((NAMED, NAME), ("", DEFAULT)):
        with of(f"{oci} systemd CAP_SYS_ADMIN {word}"):
            container = Container(
                f"sandboxes-{oci}-{len(config)}",
                IMAGES["systemd"],
                configured(oci, "systemd", config),
                *("/bin/sh", "-c", APPLICATION),
                options=ADMIN,
            )
            until(lambda container=container: "ready" in text(container.log))
            failed = failed_units(container)
            if not config:
                check(f"units fail: {failed}", "systemd-logind.service" in failed, failed)
            else:
                equal("failed units", failed, [])
                units = ("systemd-logind", "systemd-journald", "systemd-tmpfiles-setup")
                equal(
                    " ".join(units), container.shell(f"systemctl is-active {' '.join(units)}").split(), ["active"] * 3
                )
                options = " ".join(f"-p {one}" for one in SANDBOX)
                done = container.exec(
                    *("/bin/sh", "-c", f'systemd-run --wait --pipe -q {options} /bin/sh -c "$0"', SANDBOXED)
                )
                wanted = "read-only\nwritable\n0\nbound\nprivate\n0\n1"
                said = (done.stdout + done.stderr).strip()
                more = "" if said == wanted else container.shell("journalctl -n 4 -o cat")
                equal("what a unit with all of it sees", said + more, wanted)
            equal("exit status after TERM", container.end("TERM"), 42)


def refuses(oci: str) -> None:
    """Check a handler's profile that is not loaded; and a pod's own profile, which is kept."""
    with of(f"{oci} a handler's profile that is not loaded"):
        more = 'apparmor-profile = "vm-unknown"\n'
        said = refused(oci, "dumb-init", "vm-unknown", more=more, options=CONFINED)
        check(
            "the error names key and profile",
            'rich.apparmor-profile: found "vm-unknown", which the kernel has not loaded' in said,
            said,
        )
    with of(f"{oci} a pod's own profile beside a handler's"):
        container = Container(
            f"both-{oci}",
            IMAGES["dumb-init"],
            configured(oci, "dumb-init", NAMED),
            *("/bin/sh", "-c", APPLICATION),
            options=("--apparmor-profile", OWN),
        )
        equal("PID 1's label", label_of(container.pid()), f"{OWN} (enforce)")
        container.end("TERM")


def checks() -> None:
    cases = option("cases", ",".join(CASES))
    in_force()
    installed()
    for oci in OCIS:
        for name in cases:
            CASES[name](oci)
    taken_away()


def lives_of_all(oci: str) -> None:
    for mode in INITS:
        lives(oci, mode, NAME, NAMED)


def pods_of_all(oci: str) -> None:
    for mode in INITS:
        in_a_pod(oci, mode, NAME, NAMED)


CASES = {
    "lives": lives_of_all,
    "pods": pods_of_all,
    "signals": signals,
    "denies": denies,
    "unasked": unasked,
    "sandboxes": sandboxes,
    "refuses": refuses,
}

if __name__ == "__main__":
    sys.exit(run_checks(checks, configuration=configuration()))

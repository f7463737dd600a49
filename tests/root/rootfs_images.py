"""Root file systems of Debian packages, made once by mmdebstrap and kept; lower layers, never written to.

The archive is the one this machine's apt is configured with, so a mirror or a snapshot is honoured and no host is
named here. A directory's name carries what it was made of: another list of packages makes another directory.
"""

import fcntl
import hashlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

from tests.integration import isolation

CACHE = Path(os.environ.get("POUCHRICH_CACHE") or Path.home() / ".cache" / "pouchrich") / "images"

PACKAGES: Mapping[str, tuple[str, ...]] = {
    "base": (),
    "systemd": ("systemd", "systemd-sysv", "dbus", "cron", "rsyslog", "procps"),
    "sshd": ("systemd", "systemd-sysv", "dbus", "openssh-server", "procps"),
    "services": (
        *("systemd", "systemd-sysv", "dbus", "dbus-user-session", "libpam-systemd", "cron", "rsyslog", "procps"),
        *("nginx-light", "apache2", "openssh-server", "postgresql", "mariadb-server", "redis-server", "postfix"),
        *("curl", "ssl-cert"),
    ),
    "sysvinit": ("sysvinit-core", "cron", "procps"),
    "sysvinit-services": (
        *("sysvinit-core", "orphan-sysvinit-scripts", "cron", "rsyslog", "procps", "nginx-light", "apache2"),
        *("openssh-server", "postgresql", "mariadb-server", "redis-server", "postfix", "curl", "ssl-cert"),
    ),
    "openrc": ("sysvinit-core", "openrc", "cron", "procps"),
}
"""What each image has besides apt's variant of the base system; cron and rsyslog are there to be seen running."""
OPENSSH_CLIENT = ("openssh-client",)
"""No longer brought by the server."""

MORE: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("services", "sid"): OPENSSH_CLIENT,
    ("sysvinit-services", "sid"): OPENSSH_CLIENT,
}
"""What a suite's own packages do not bring with them any more."""


def _release() -> str:
    for line in Path("/etc/os-release").read_text().splitlines():
        if line.startswith("VERSION_CODENAME="):
            return line.partition("=")[2].strip('"')
    raise LookupError("/etc/os-release: no VERSION_CODENAME")


def _stanzas(directory: Path) -> Iterator[dict[str, str]]:
    """The entries of apt's sources, in both of its forms (sources.list(5))."""
    for path in sorted((directory / "sources.list.d").glob("*.sources")):
        for block in path.read_text().split("\n\n"):
            lines = [line for line in block.splitlines() if ":" in line and not line.startswith("#")]
            yield {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines)}
    for path in (directory / "sources.list", *sorted((directory / "sources.list.d").glob("*.list"))):
        for line in path.read_text().splitlines() if path.exists() else ():
            words, signed = line.split(), ""
            if words[:1] == ["deb"] and words[1].startswith("["):
                end = next(index for index, word in enumerate(words) if word.endswith("]"))
                given = " ".join(words[1 : end + 1]).strip("[] ").split()
                signed = next((one.partition("=")[2] for one in given if one.startswith("signed-by=")), "")
                words = ["deb", *words[end + 1 :]]
            if words[:1] == ["deb"] and len(words) > 3:
                yield {
                    "Types": "deb",
                    "URIs": words[1],
                    "Suites": words[2],
                    "Components": " ".join(words[3:]),
                    "Signed-By": signed,
                }


def source(suite: str, directory: Path = Path("/etc/apt")) -> str:
    """The line for `suite` of the archive that this machine's own release comes from. Raises LookupError."""
    own = _release()
    for one in _stanzas(directory):
        if own in one.get("Suites", "").split() and "main" in one.get("Components", "").split():
            key = one.get("Signed-By", "")
            return f"deb {f'[signed-by={key}] ' if key.startswith('/') else ''}{one['URIs'].split()[0]} {suite} main"
    raise LookupError(f"{directory}: no source of {own} main")


def debian(kind: str, suite: str = "bookworm") -> Path:
    """The directory of the image `kind` (a key of PACKAGES) from `suite`; made where it is missing, in 15 to 40 s."""
    packages = ",".join((*PACKAGES[kind], *MORE.get((kind, suite), ())))
    made_of = hashlib.sha256(f"{suite} {packages}".encode()).hexdigest()[:8]
    path = CACHE / f"{suite}-{kind}-{made_of}"
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / f".{path.name}.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            making = path.with_name(f".{path.name}.new")
            shutil.rmtree(making, ignore_errors=True)
            # A mirror that stands still (a snapshot, a cache) has an expired list of sid, signed all the same.
            options = ["--variant=apt", "--format=directory", '--aptopt=Acquire::Check-Valid-Until "false"']
            # A run of the integration tests has no way to the archive from its own network.
            command = [*isolation.outside(), "mmdebstrap", "--quiet", *options]
            command += [f"--include={packages}"] if packages else []
            done = subprocess.run([*command, suite, making, source(suite)], capture_output=True, text=True)
            assert done.returncode == 0, done.stderr[-4000:]
            making.rename(path)
    return path


def busybox(directory: Path) -> Path:
    """A tree with nothing but this machine's static busybox, its init and a script that it runs at boot."""
    program = shutil.which("busybox")
    assert program is not None, "busybox: not installed (busybox-static)"
    for part in ("bin", "sbin", "etc/init.d", "proc", "sys", "dev", "tmp", "run", "root"):
        (directory / part).mkdir(parents=True)
    shutil.copy2(program, directory / "bin/busybox")
    applets = subprocess.run([program, "--list"], check=True, capture_output=True, text=True).stdout.split()
    for applet in applets:
        if applet != "busybox":
            (directory / "bin" / applet).symlink_to("busybox")
    (directory / "sbin/init").symlink_to("../bin/busybox")
    (directory / "etc/init.d/rcS").write_text("#!/bin/sh\necho rcS ran\n")
    (directory / "etc/init.d/rcS").chmod(0o755)
    (directory / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    return directory

"""Which executables an environment uses, and which environments there are."""

import argparse
import os
import shutil
import subprocess
from dataclasses import dataclass
from functools import cache as remembered
from pathlib import Path

SHIM = "containerd-shim-pouchrich-v2"

CONTAINERDS = ("1.6", "1.7", "2.1")
RUNTIMES = ("runc.v2", "pouchrich", "pouchrich-rich", "dropin")
OCIS = ("runc", "crun")


@dataclass(frozen=True, slots=True)
class Environment:
    """One way to run the tests: a containerd release, an OCI runtime, and the shim between them.

    `containerd` is one of CONTAINERDS, or the absolute path of a directory that holds another (`--containerd DIR`).

    `runtime` is "runc.v2" (containerd's own shim: what the tests are calibrated with), "pouchrich" (ours under
    its own name, containers plain), "pouchrich-rich" (the same with dumb-init above every command) or "dropin" (ours in
    place of containerd's, through `runtime_path`).
    """

    containerd: str
    oci: str
    runtime: str

    @property
    def adds(self) -> int:
        """How many processes a container has beside those of its command."""
        return 1 if self.runtime == "pouchrich-rich" else 0

    @property
    def generations(self) -> tuple[str, ...]:
        """What a test's mark may call its containerd: what holds for 2.1 holds for the later ones too."""
        found = generation(self.containerd)
        return ("2.1", found) if _is_newer(found, "2.1") else (found,)

    def __str__(self) -> str:
        return f"{release(self.containerd)}-{self.oci}-{self.runtime}"


def cache() -> Path:
    """Where hack/test.sh keeps what it fetched and installed."""
    if named := os.environ.get("POUCHRICH_CACHE"):
        return Path(named)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pouchrich"


def prefix() -> Path:
    """The prefix the shim under test was installed into (`hack/install.sh --prefix`)."""
    return Path(os.environ.get("POUCHRICH_PREFIX") or cache() / "prefix")


def shim() -> Path:
    """Our executable."""
    return prefix() / "bin" / SHIM


def _system(name: str) -> Path:
    found = shutil.which(name, path="/usr/sbin:/usr/bin:/sbin:/bin")
    if found is None:
        raise FileNotFoundError(f"{name}: not installed; hack/test.sh installs it")
    return Path(found)


def _fetched(directory: str, name: str) -> Path:
    path = cache() / "runtimes" / directory / "bin" / name
    if not path.exists():
        raise FileNotFoundError(f"{path}: missing; hack/fetch-runtimes.py fetches it")
    return path


def named(text: str) -> str:
    """The containerd that a command line names: a release of CONTAINERDS, or a directory with another's executables.

    Raises ArgumentTypeError.
    """
    if text in CONTAINERDS:
        return text
    directory = Path(text).resolve()
    if not (directory / "containerd").exists():
        allowed = ", ".join(CONTAINERDS)
        raise argparse.ArgumentTypeError(f"found {text!r}, allowed {allowed} or a directory that holds containerd")
    return str(directory)


@remembered
def release(version: str) -> str:
    """The release of a containerd: `version` itself, or what the one in that directory says it is ("2.3.4")."""
    if version in CONTAINERDS:
        return version
    said = subprocess.run([f"{version}/containerd", "--version"], capture_output=True, text=True, check=True).stdout
    return said.split()[2].lstrip("v")


def generation(version: str) -> str:
    """Major and minor number of a containerd's release ("2.3"), which what tests expect goes by."""
    return ".".join(release(version).split(".")[:2])


def _is_newer(one: str, other: str) -> bool:
    return [int(part) for part in one.split(".")] > [int(part) for part in other.split(".")]


def containerd(version: str, name: str = "containerd") -> Path:
    """containerd of a release or directory, or `name` beside it. 1.6 is the distribution's own."""
    if version not in CONTAINERDS:
        return Path(version, name)
    return _system(name) if version == "1.6" else _fetched(f"containerd-{version}", name)


def oci(environment_containerd: str, name: str) -> Path:
    """The OCI runtime that goes with a containerd release: old with old, new with new.

    containerd 1.7 takes the distribution's runc and the newer crun.
    """
    found = generation(environment_containerd)
    if name == "runc" and not _is_newer("2.1", found):
        return _fetched("runc-1.3", "runc")
    if found != "1.6" and name == "crun":
        return _fetched("crun-1.21", "crun")
    return _system(name)


def docker(name: str) -> Path:
    """`docker` or `dockerd`. Raises FileNotFoundError."""
    return _fetched(f"{name}-26.1", name)


def lxcfs() -> tuple[Path, dict[str, str]]:
    """The lxcfs that hack/test.sh unpacked without its service, or the installed one, and its environment.

    Raises FileNotFoundError.
    """
    unpacked = cache() / "lxcfs"
    if (found := unpacked / "usr/bin/lxcfs").exists():
        libraries = dict.fromkeys(str(path.parent) for path in unpacked.glob("**/lib*.so*"))
        return found, {"LD_LIBRARY_PATH": ":".join(libraries)}
    return _system("lxcfs"), {}


DEFAULT = (
    Environment("1.6", "runc", "runc.v2"),
    Environment("1.6", "runc", "pouchrich"),
    Environment("1.6", "runc", "pouchrich-rich"),
    Environment("1.6", "crun", "pouchrich"),
    Environment("1.7", "runc", "pouchrich"),
    Environment("2.1", "runc", "pouchrich"),
    Environment("2.1", "crun", "pouchrich"),
    Environment("2.1", "crun", "dropin"),
)
"""What the default run is in: containerd 2.1 with crun first, 1.6 with runc for what is old."""

SHORT = (
    Environment("1.6", "runc", "runc.v2"),
    Environment("1.6", "crun", "pouchrich"),
    Environment("1.7", "runc", "pouchrich"),
    Environment("2.1", "runc", "pouchrich"),
)
"""Those of DEFAULT in which it runs the tests marked `smoke` alone: one part of each is new."""


def every(containerds: tuple[str, ...] = CONTAINERDS) -> tuple[Environment, ...]:
    """All environments of these containerds, each a release or a directory."""
    return tuple(Environment(c, o, r) for c in containerds for o in OCIS for r in RUNTIMES)

"""Which executables an environment uses, and which environments there are."""

import os
import shutil
from dataclasses import dataclass
from pathlib import Path

SHIM = "containerd-shim-pouchrich-v2"

CONTAINERDS = ("1.6", "1.7", "2.1")
RUNTIMES = ("runc.v2", "pouchrich", "pouchrich-rich", "dropin")
OCIS = ("runc", "crun")


@dataclass(frozen=True, slots=True)
class Environment:
    """One way to run the tests: a containerd release, an OCI runtime, and the shim between them.

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

    def __str__(self) -> str:
        return f"{self.containerd}-{self.oci}-{self.runtime}"


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


def containerd(version: str, name: str = "containerd") -> Path:
    """containerd of a release, or `name` beside it. 1.6 is the distribution's own."""
    return _system(name) if version == "1.6" else _fetched(f"containerd-{version}", name)


def oci(environment_containerd: str, name: str) -> Path:
    """The OCI runtime that goes with a containerd release: old with old, new with new.

    containerd 1.7 takes the distribution's runc and the newer crun.
    """
    if environment_containerd == "2.1" and name == "runc":
        return _fetched("runc-1.3", "runc")
    if environment_containerd != "1.6" and name == "crun":
        return _fetched("crun-1.21", "crun")
    return _system(name)


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
    Environment("2.1", "crun", "pouchrich"),
    Environment("2.1", "crun", "dropin"),
)
EVERY = tuple(Environment(c, o, r) for c in CONTAINERDS for o in OCIS for r in RUNTIMES)

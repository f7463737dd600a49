#!/usr/bin/env python3
"""Fetch newer containerd, runc and crun, and Docker, for the integration tests, through apt, without installing them.

Usage: hack/fetch-runtimes.py DIR [--refresh] [--kernel]

DIR/NAME/bin has the executables, and DIR/versions.json their versions ({NAME: {"package", "suite", "version"}}). Only
what is missing is fetched, so a complete DIR needs no network; --refresh fetches everything again. --kernel adds
DIR/kernel, DIR/kernel-5.10 and DIR/apparmor: Debian's newest kernel and the oldest one that the shim supports, unpacked
(usr/lib/modules/VERSION has the modules, vmlinuz and config), and Debian's newest apparmor_parser, for an emulated
machine.

The mirror is the Debian mirror that this machine's own apt uses. Package lists and downloads are in DIR/apt, so the
machine's apt state is only read. containerd and Docker need a libc no newer than bookworm's, so their files run as they
are. runc and crun need the libc of their suite: it is unpacked beside them and becomes their interpreter and library
path (patchelf), because a wrapper script would break their re-execution of /proc/self/exe.
"""

import argparse
import fcntl
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"


@dataclass(frozen=True, slots=True)
class Wanted:
    """`binaries` of `package` in `suite`, kept as DIR/`name`; `libraries` are packages unpacked beside them."""

    name: str
    package: str
    suite: str
    binaries: tuple[str, ...]
    libraries: tuple[str, ...] = ()


PARSER = Wanted(
    "apparmor", "apparmor", "sid", ("apparmor_parser",), ("libc6", "libapparmor1", "libstdc++6", "libgcc-s1")
)
KERNEL = "linux-image-cloud-amd64"
KERNELS = {"kernel": "sid", "kernel-5.10": "bullseye"}
"""Directory -> the suite of its kernel."""

CONTAINERD = ("containerd", "ctr", "containerd-shim-runc-v2")
WANTED = (
    Wanted("containerd-1.7", "containerd", "trixie", CONTAINERD),
    Wanted("containerd-2.1", "containerd", "sid", CONTAINERD),
    Wanted(
        "crun-1.21",
        "crun",
        "trixie",
        ("crun",),
        ("libc6", "libcap2", "libseccomp2", "libsystemd0", "libyajl2", "libgcc-s1"),
    ),
    Wanted("runc-1.3", "runc", "sid", ("runc",), ("libc6", "libseccomp2")),
    Wanted("dockerd-26.1", "docker.io", "trixie", ("dockerd",)),
    Wanted("docker-26.1", "docker-cli", "trixie", ("docker",)),
)


class FetchError(Exception):
    """This machine cannot provide the binaries; the message says what is missing."""


def run(*argv: str, env: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """Run argv and return its stdout. Raises FetchError with the command's stderr."""
    done = subprocess.run(argv, env=env, cwd=cwd, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise FetchError(f"{' '.join(argv)}: exit status {done.returncode}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def mirror() -> str:
    """The URI of the Debian archive in this machine's apt sources, as apt itself reads them."""
    fields = run("apt-get", "indextargets", "--format", "$(REPO_URI)", "Created-By: Packages")
    for uri in fields.splitlines():
        if re.search(r"/debian/?$", urlsplit(uri).path):
            return uri
    raise FetchError("no source whose path ends in /debian in apt's sources: later Debian suites cannot be fetched")


def private_apt(root: Path, uri: str, suites: Iterable[str] = ()) -> dict[str, str]:
    """Write an apt configuration that keeps everything below root, and return the environment that selects it.

    It knows `suites`, or those of WANTED.
    """
    for sub in ("lists/partial", "cache/archives/partial"):
        (root / sub).mkdir(parents=True, exist_ok=True)
    (root / "status").touch()
    known = sorted(set(suites) or {wanted.suite for wanted in WANTED})
    sources = "".join(f"deb [signed-by={KEYRING}] {uri} {suite} main\n" for suite in known)
    (root / "sources.list").write_text(sources)
    conf = root / "apt.conf"
    conf.write_text(
        f'Dir::Etc::SourceList "{root}/sources.list";\n'
        'Dir::Etc::SourceParts "-";\n'
        'Dir::Etc::PreferencesParts "-";\n'
        f'Dir::State::Lists "{root}/lists";\n'
        f'Dir::State::status "{root}/status";\n'
        f'Dir::Cache "{root}/cache";\n'
        'Acquire::Languages "none";\n'
        'APT::Sandbox::User "root";\n'
    )
    return {**os.environ, "APT_CONFIG": str(conf), "LC_ALL": "C"}


def unpack(package: str, suite: str, into: Path, env: dict[str, str]) -> str:
    """Download `package` of `suite` and unpack it; return its version."""
    debs = into.parent / f"{into.name}.debs"
    debs.mkdir(parents=True, exist_ok=True)
    run("apt-get", "download", "-q", f"{package}/{suite}", env=env, cwd=debs)
    (deb,) = debs.glob(f"{package}_*.deb")
    into.mkdir(parents=True, exist_ok=True)
    run("dpkg", "-x", str(deb), str(into))
    version = run("dpkg-deb", "--field", str(deb), "Version").strip()
    shutil.rmtree(debs)
    return version


def kernel(base: Path, name: str) -> None:
    """Make base/NAME of KERNELS, with one rename at the end.

    The package names contain the version, so apt is asked for them.
    """
    work, apt = base / f".{name}.new", base / "kernel-apt"
    shutil.rmtree(work, ignore_errors=True)
    work.mkdir()
    env = private_apt(apt, mirror(), [KERNELS[name]])
    run("apt-get", "update", "-q", env=env)
    todo, seen = [KERNEL], set()
    while todo:
        package = todo.pop()
        seen.add(package)
        said = run("apt-cache", "show", "--no-all-versions", package, env=env)
        needed = re.findall(r"linux-(?:image|binary|modules|base)-[a-z0-9.+-]+(?= \()", said)
        todo += sorted(set(needed) - seen - set(todo))
        unpack(package, KERNELS[name], work, env)
    shutil.rmtree(apt)
    if (work / "lib").is_dir():  # before Debian merged it with /usr
        (work / "usr/lib").mkdir(parents=True, exist_ok=True)
        (work / "lib/modules").rename(work / "usr/lib/modules")
        shutil.rmtree(work / "lib")
    (modules,) = (work / "usr/lib/modules").iterdir()
    for file in ("vmlinuz", "config"):
        if not (modules / file).exists():
            (work / "boot" / f"{file}-{modules.name}").rename(modules / file)
    shutil.rmtree(base / name, ignore_errors=True)
    work.rename(base / name)


def apparmor(base: Path) -> None:
    """Make base/apparmor."""
    apt = base / "apparmor-apt"
    env = private_apt(apt, mirror())
    run("apt-get", "update", "-q", env=env)
    fetch(PARSER, base, env)
    shutil.rmtree(apt)


def find(tree: Path, name: str) -> Path:
    """The file that ends in name, where Debian may have /sbin or /usr/sbin, /lib or /usr/lib."""
    found = [path for path in tree.rglob(name) if not path.is_dir()]
    if not found:
        raise FetchError(f"{name}: not in the unpacked packages")
    return found[0]


def relocate(binary: Path, libraries: Path, final: Path) -> None:
    """Make binary load `final`'s copy of the libraries (the directory `libraries` is moved there later)."""
    interpreter = run("patchelf", "--print-interpreter", str(binary)).strip()
    loader = find(libraries, Path(interpreter).name)
    flat = libraries.parent / "lib"
    flat.mkdir()
    for library in libraries.rglob("*.so*"):
        if library.is_file():
            shutil.copy2(library.resolve(), flat / library.name)
    shutil.copy2(loader.resolve(), flat / loader.name)
    run("patchelf", "--set-interpreter", str(final / "lib" / loader.name), str(binary))
    run("patchelf", "--force-rpath", "--set-rpath", str(final / "lib"), str(binary))


def fetch(wanted: Wanted, base: Path, env: dict[str, str]) -> dict[str, str]:
    """Make base/NAME, with one rename at the end, and return its description."""
    work = base / f".{wanted.name}.new"
    shutil.rmtree(work, ignore_errors=True)
    version = unpack(wanted.package, wanted.suite, work / "package", env)
    (work / "bin").mkdir()
    for name in wanted.binaries:
        shutil.copy2(find(work / "package", f"*bin/{name}"), work / "bin" / name)
    for library in wanted.libraries:
        unpack(library, wanted.suite, work / "libraries", env)
    final = base / wanted.name
    if wanted.libraries:
        for name in wanted.binaries:
            relocate(work / "bin" / name, work / "libraries", final)
        shutil.rmtree(work / "libraries")
    shutil.rmtree(work / "package")
    shutil.rmtree(final, ignore_errors=True)
    work.rename(final)
    for name in wanted.binaries:
        run(str(final / "bin" / name), "-v" if name.startswith("containerd-shim") else "--version")
    return {"package": wanted.package, "suite": wanted.suite, "version": version}


def known(base: Path) -> dict[str, dict[str, str]]:
    """The content of versions.json for what exists completely."""
    try:
        versions: dict[str, dict[str, str]] = json.loads((base / "versions.json").read_text())
    except (OSError, ValueError):
        return {}
    return {
        wanted.name: versions[wanted.name]
        for wanted in WANTED
        if wanted.name in versions and all((base / wanted.name / "bin" / one).exists() for one in wanted.binaries)
    }


def complete(base: Path, versions: dict[str, dict[str, str]]) -> dict[str, dict[str, str]]:
    """Fetch everything wanted that is not in `versions`, and return the versions of all."""
    missing = [wanted for wanted in WANTED if wanted.name not in versions]
    if not missing:
        return versions
    for tool in ("apt-get", "dpkg", "patchelf"):
        if shutil.which(tool) is None:
            raise FetchError(f"{tool}: not installed")
    apt = base / "apt"
    env = private_apt(apt, mirror())
    run("apt-get", "update", "-q", env=env)
    for wanted in missing:
        print(f"fetching {wanted.package} from {wanted.suite}", file=sys.stderr, flush=True)
        versions = {**versions, wanted.name: fetch(wanted, base, env)}
        (base / "versions.json").write_text(json.dumps(versions, indent=2, sort_keys=True) + "\n")
    shutil.rmtree(apt)
    return versions


def main() -> int:
    assert __doc__ is not None
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("dir", type=Path, help="where to unpack them")
    parser.add_argument("--refresh", action="store_true", help="also fetch what is there")
    parser.add_argument("--kernel", action="store_true", help="also a kernel, for the emulated machine")
    args = parser.parse_args()
    base = args.dir.resolve()
    base.mkdir(parents=True, exist_ok=True)
    with open(base / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            versions = complete(base, {} if args.refresh else known(base))
            for name in KERNELS if args.kernel else ():
                if args.refresh or not (base / name).is_dir():
                    kernel(base, name)
            if args.kernel and (args.refresh or not (base / PARSER.name).is_dir()):
                apparmor(base)
        except FetchError as error:
            print(f"fetch-runtimes: {error}", file=sys.stderr)
            return 1
    for name, entry in sorted(versions.items()):
        print(f"{name}: {entry['package']} {entry['version']} ({entry['suite']})")
    return 0


if __name__ == "__main__":
    sys.exit(main())

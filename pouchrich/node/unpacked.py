"""An unpacked artefact (made by hack/release.sh), and its copy in the directory of a version.

install          the program that runs this; beside it pouchrich, the whole command
SHA256SUMS       checksums of all other files
python/          its own interpreter, with its loader and C library in python/lib
site/            the packages, and in site/runtime/libexec the programs
"""

import hashlib
import os
import shutil
import time
from collections.abc import Iterator

from pouchrich.node import InstallError, interpreter, place
from pouchrich.node.layout import Layout
from shim.installed.version import IN_USE

SUMS = "SHA256SUMS"
PYTHON, SITE = "python/bin/python3", "site"
LOADERS = {"x86_64": "ld-linux-x86-64.so.2", "aarch64": "ld-linux-aarch64.so.1"}
"""Machine (uname(2)) -> name of the loader, for the machines that releases are made for."""

LOADER = f"python/lib/{LOADERS.get(os.uname().machine, '')}"


def verify(directory: str) -> None:
    """Raises InstallError if a file of the artefact in `directory` is missing, changed or added."""
    wanted = dict(_sums(directory))
    found = {path for path in _files(directory) if path != SUMS}
    for path in sorted(wanted.keys() | found):
        if path not in wanted:
            raise InstallError(f"{directory}/{path}: not part of the release, unpack it again")
        if path not in found or _digest(f"{directory}/{path}") != wanted[path]:
            raise InstallError(f"{directory}/{path}: missing, or not as it was released: unpack the release again")


def name_for(layout: Layout, directory: str, version: str) -> tuple[str, bool]:
    """The name of the version's directory below home, and whether this very artefact is already there. Raises OSError.

    Another build of the same version gets another name.
    """
    wanted = _read(f"{directory}/{SUMS}")
    for name in sorted(os.listdir(layout.home)):
        there = f"{layout.home}/{name}"
        if name != version and not name.startswith(f"{version}-"):
            continue
        if all(os.path.isfile(f"{there}/{one}") for one in (IN_USE, SUMS)) and _read(f"{there}/{SUMS}") == wanted:
            return name, True
    if not os.path.lexists(f"{layout.home}/{version}"):
        return version, False
    return f"{version}-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}", False


def copy(directory: str, to: str, config: str) -> None:
    """Copy the artefact in `directory` to the existing directory `to`, and make it work there.

    `config` is the node's configuration file. Raises InstallError, OSError.
    """
    try:
        shutil.copytree(directory, to, dirs_exist_ok=True)
    except shutil.Error as err:
        path, _, reason = err.args[0][0]
        raise InstallError(f"{path}: {reason}") from err
    _own(to)
    interpreter.write(f"{to}/{PYTHON}", f"{to}/{LOADER}")
    place.finish(to, python=f"{to}/{PYTHON}", site=f"{to}/{SITE}", config=config)


def _own(directory: str) -> None:
    """Make all files this user's, and readable by everybody, however they were unpacked."""
    for path, names, files in os.walk(directory):
        for name in (".", *names, *files):
            one = f"{path}/{name}"
            os.chown(one, os.geteuid(), os.getegid())
            is_program = os.path.isdir(one) or os.stat(one).st_mode & 0o100
            os.chmod(one, 0o755 if is_program else 0o644)


def _sums(directory: str) -> Iterator[tuple[str, str]]:
    try:
        text = _read(f"{directory}/{SUMS}")
    except OSError as err:
        raise InstallError(f"{directory}: not an unpacked release: found no {SUMS}") from err
    for line in text.decode().splitlines():
        digest, _, path = line.partition("  ")
        yield path, digest


def _files(directory: str) -> Iterator[str]:
    for path, _, names in os.walk(directory):
        for name in names:
            yield os.path.relpath(f"{path}/{name}", directory)


def _digest(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()

"""Writes the files of a version's directory that contain its path: the programs, and the code's own location."""

import os
import py_compile
import subprocess
from collections.abc import Sequence

from pouchrich.node import InstallError
from pouchrich.node.layout import CONFIG
from runtime.errors import text_of

_PROGRAM = """#!{python} -IS
import sys

sys.executable = "{python}"  # whatever the link named when the kernel read the line above
sys.path.insert(0, "{site}")  # first: nothing else need be searched
from {module} import main

sys.exit(main())
"""
_NODE_FILE = '''"""Where the node's configuration is: below the prefix of this installation."""

NODE_FILE = "{config}"
'''
_DIRECTORY = '''"""Where this version of the package is installed."""

VERSION_DIRECTORY = "{place}"
'''


def finish(place: str, *, python: str, site: str, config: str) -> None:
    """Write the files. `site` has the packages and `python` is the interpreter, both below `place`.

    `config` is the node's configuration file. Raises InstallError if the programs then do not work; OSError.
    """
    if config != CONFIG:
        _module(f"{site}/runtime/config/location.py", _NODE_FILE.format(config=config))
    _module(f"{site}/shim/installed/location.py", _DIRECTORY.format(place=place))
    libexec = f"{site}/runtime/libexec"
    os.makedirs(f"{place}/bin", exist_ok=True)
    _program(f"{place}/bin/pouchrich", python=python, site=site, module="pouchrich.__main__")
    # The native program looks for these two beside itself.
    _program(f"{libexec}/containerd-shim-pouchrich-v2.py", python=python, site=site, module="shim.__main__")
    os.symlink(python, f"{libexec}/python3")
    os.symlink(f"{libexec}/containerd-shim-pouchrich-v2", f"{place}/bin/containerd-shim-pouchrich-v2")
    with open(f"{place}/config.toml.default", "w") as file:
        file.write(ask(place, "config", "default"))


def ask(place: str, *words: str) -> str:
    """Run the command of the version in `place`; return its output. Raises InstallError if it fails."""
    return run([f"{place}/bin/pouchrich", *words])


def run(words: Sequence[str]) -> str:
    """Run a program; return its output. Raises InstallError if it fails."""
    try:
        done = subprocess.run(words, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except OSError as err:
        raise InstallError(f"the installed package does not work: {text_of(err)}") from err
    if done.returncode:
        raise InstallError(f"the installed package does not work: {words[0]}: {done.stderr.strip()[-2000:]}")
    return done.stdout


def _module(path: str, text: str) -> None:
    with open(path, "w") as file:
        file.write(text)
    py_compile.compile(path, doraise=True, invalidation_mode=py_compile.PycInvalidationMode.UNCHECKED_HASH)


def _program(path: str, **what: str) -> None:
    with open(path, "w") as file:
        file.write(_PROGRAM.format(**what))
    os.chmod(path, 0o755)

"""Where to put a handler into a containerd's configuration, by the distribution that made the configuration.

- kubeadm and others that use the system's containerd: for 2.x in format 3 or 4 a file of ours in a directory that the
  configuration imports, else lines in the configuration file. With 1.x always lines in the file, because 1.x replaces a
  plugin's whole section by an imported one.
- k3s and rke2 write the file at each start from a template beside it, which includes their base
  (`{{ template "base" . }}`, from v1.24.17 on); newer ones import config-v3.toml.d.
- k0s, from 1.27.1 on, merges the files in containerd.d, and restarts its containerd when they change, as long as its
  own file begins with `# k0s_managed=true`.
"""

import glob
import os
from collections.abc import Mapping
from typing import Any, NamedTuple

from pouchrich import handler
from pouchrich.cluster import block
from pouchrich.containerd_config import documents, format_version
from pouchrich.node import InstallError
from pouchrich.running import Running
from runtime.errors import NotFound

FILE_OF_OURS, LINES, TEMPLATE, MERGED = "file of its own", "lines in the file", "lines in the template", "merged by k0s"
IN_LINES = (LINES, TEMPLATE)
OURS = "pouchrich.toml"
HANDLER = "pouchrich"
_BASE = '{{ template "base" . }}\n'
_K0S = "# k0s_managed=true"


class Place(NamedTuple):
    """`path` is the file to change, `how` is the way, `lines` are the handler in format `version`.

    `head` is the beginning of a new file; `kept` are other handlers, which would be lost unless they are repeated.
    """

    path: str
    how: str
    version: int
    lines: str
    head: str = ""
    kept: str = ""

    def text(self) -> str:
        """The new text of the file. Raises InstallError, OSError."""
        if self.how in (FILE_OF_OURS, MERGED):
            return f"{self.head}{self.kept}{self.lines}"
        found = block.read(self.path)
        return block.within(self.head if found is None else found, self.kept + self.lines, self.path)

    def is_done(self) -> bool:
        """Whether the file already has this handler. Raises InstallError, OSError."""
        found = block.read(self.path)
        if self.how in (FILE_OF_OURS, MERGED):
            return found == self.text()
        lines = None if found is None else block.lines(found)
        return lines is not None and lines.endswith(self.lines)


def find(one: Running, major: int, *, runtime_path: str = "") -> Place:
    """The place for the containerd `one`, of release `major`.x. Raises InstallError where there is none; OSError."""
    version = _format(one.config, major)
    lines = handler.table(version, handler=HANDLER, runtime_path=runtime_path)
    directory = os.path.dirname(one.config)
    if one.kind in ("k3s", "rke2"):
        return _of_template(directory, version, lines, _imported(one.config, version))
    if one.kind == "k0s":
        first = (block.read(one.config) or _K0S).partition("\n")[0]
        if first != _K0S:
            raise InstallError(
                f"{one.config}: found a first line other than {_K0S!r}, without which k0s does not read containerd.d: "
                "restore that line, or add the handler by hand (pouchrich runtimeclass --containerd 2)"
            )
        return Place(f"{directory}/containerd.d/{OURS}", MERGED, version, lines, f"version = {version}\n\n")
    if one.kind != "containerd":
        raise InstallError(
            f"{one.kind}: found no known place for its handlers: add the lines of pouchrich runtimeclass by hand"
        )
    imported = _imported(one.config, version)
    if imported:
        return Place(f"{imported[0]}/{OURS}", FILE_OF_OURS, version, lines, f"version = {version}\n\n")
    return Place(one.config, LINES, version, lines, f"version = {version}\n")


def _of_template(directory: str, version: int, lines: str, imported: list[str]) -> Place:
    name = "config-v3.toml" if version >= 3 else "config.toml"
    if f"{directory}/{name}.d" in imported:
        return Place(f"{directory}/{name}.d/{OURS}", FILE_OF_OURS, version, lines, f"version = {version}\n\n")
    return Place(f"{directory}/{name}.tmpl", TEMPLATE, version, lines, _BASE)


def _format(path: str, major: int) -> int:
    found = format_version(path)
    if found is None:
        return 3 if major >= 2 else 2
    if found == 2:
        return 2
    if found in handler.AS_VERSION_3 and major >= 2:
        return 3
    allowed = "2, 3 or 4" if major >= 2 else "2"
    raise InstallError(
        f"{path}: version: found {found}, allowed {allowed}: convert it to version 2, then run this again"
    )


def _imported(path: str, version: int) -> list[str]:
    """Directories in which the configuration at `path` imports any file whose name ends in .toml."""
    try:
        imports = _top(path).get("imports") if version >= 3 else None
    except NotFound:
        return []
    if not isinstance(imports, list):  # containerd reports that
        return []
    names = [os.path.normpath(os.path.join(os.path.dirname(path), one)) for one in imports if isinstance(one, str)]
    return [os.path.dirname(one) for one in names if os.path.basename(one) in ("*.toml", "*") and not _magic(one)]


def _magic(path: str) -> bool:
    return glob.has_magic(os.path.dirname(path))


def _top(path: str) -> Mapping[str, Any]:
    return next(documents(path))[1]

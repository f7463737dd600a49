"""Where an installation is, and which directories it has made."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from typing import NamedTuple, Self

from pouchrich.node import InstallError
from shim.installed.replaced import CURRENT, LOCK, PREVIOUS

PROGRAMS = ("containerd-shim-pouchrich-v2", "pouchrich")
MADE, LINKS = "made", "links"
"""The files in home that list the directories made outside home, one per line; and the path of `bin`."""

REJECTED, ROLLING_BACK = "rejected", "rolling-back"
"""Links in home: to the version that a rollback has rejected; and, while a rollback is under way, to its target."""

CONFIG = "/etc/pouchrich/config.toml"
ARTEFACTS, CHECKOUTS, BIN = "/opt/pouchrich", "/usr/local/lib/pouchrich", "/usr/local/bin"
"""The home of artefacts, the home of hack/install.sh's installations, and the directory of the links of both."""

LONGEST_HOME = 170
"""The longest path of home, in bytes: a #! line holds 255 bytes, and splits at the first blank (execve(2)). Paths are
quoted nowhere else either."""


class Layout(NamedTuple):
    """Absolute paths: `home` holds the versions, `bin` the links to the programs; `config` is the node's file.

    `prefix` is the directory that has all of them, "" if there is none.
    """

    home: str
    bin: str
    config: str = CONFIG
    prefix: str = ""

    @classmethod
    def below(cls, prefix: str) -> Self:
        """Everything below one directory. Raises InstallError for a path that no #! line can hold."""
        path = os.path.realpath(prefix)
        return cls(f"{path}/lib/pouchrich", f"{path}/bin", f"{path}/etc/pouchrich/config.toml", path).checked()

    @classmethod
    def at(cls, home: str) -> Self:
        """The layout with its versions in `home`. Raises InstallError where `home` is no possible home; OSError."""
        known = cls(home, BIN) if home in (ARTEFACTS, CHECKOUTS) else None
        if known is None and not home.endswith("/lib/pouchrich"):
            raise InstallError(f"{home}: not a place of an installation")
        found = known or cls.below(home.removesuffix("/lib/pouchrich"))
        return found._replace(bin=_noted(f"{home}/{LINKS}") or found.bin)

    def checked(self) -> Self:
        """Return this layout. Raises InstallError for a path that no #! line can hold."""
        if re.search(r"[^A-Za-z0-9/._+@:-]", self.home):
            raise InstallError(
                f"{self.prefix or self.home}: found a character that a #! line cannot hold, "
                "allowed A-Z a-z 0-9 / . _ + @ : -"
            )
        if len(self.home) > LONGEST_HOME:
            raise InstallError(f"{self.home}: found {len(self.home)} characters, allowed {LONGEST_HOME}")
        return self

    @property
    def where(self) -> str:
        """The place in words, for messages."""
        return self.prefix or self.home

    @property
    def pristine(self) -> str:
        """The default configuration of the current version, for recognising an unchanged one."""
        return f"{self.home}/config.toml.default"

    def target(self, program: str) -> str:
        """The target of the link to a program."""
        return f"{self.home}/{CURRENT}/bin/{program}"

    def is_linked(self, program: str) -> bool:
        """Whether the link to a program is this installation's."""
        return link_of(f"{self.bin}/{program}") == self.target(program)

    def current(self) -> str:
        """The name of the current version, "" for none."""
        return link_of(f"{self.home}/{CURRENT}")

    def previous(self) -> str:
        """The name of the version before the current one, which is kept for a rollback; "" for none.

        A switch that was killed leaves the link under its temporary name. That link counts if CURRENT has been
        switched, because it then names another version than CURRENT.
        """
        current = self.current()
        found = (link_of(f"{self.home}/{name}") for name in (f"{PREVIOUS}.new", PREVIOUS))
        return next((name for name in found if name not in ("", current) and os.path.isdir(f"{self.home}/{name}")), "")

    def rejected(self) -> str:
        """The name of the version that a rollback has rejected, "" for none."""
        return link_of(f"{self.home}/{REJECTED}")

    def occupied(self) -> Iterator[str]:
        """The paths of programs with our names that are not ours."""
        for program in PROGRAMS:
            path = f"{self.bin}/{program}"
            if os.path.lexists(path) and not self.is_linked(program):
                yield path

    def make(self) -> None:
        """Make home and its parents, and note which were missing. Raises OSError."""
        made = list(missing(os.path.dirname(self.home)))
        os.makedirs(self.home, exist_ok=True)
        self._note(made)

    def keep_bin(self) -> None:
        """Note where the links are, for `at`; if this is killed, the earlier note stays. Raises OSError."""
        note = f"{self.home}/{LINKS}"
        if _noted(note) == self.bin:
            return
        with open(f"{note}.new", "w") as file:
            file.write(f"{self.bin}\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{note}.new", note)

    def make_directory_of(self, path: str) -> None:
        """Make the directory of a file outside home, and note which directories were missing. Raises OSError."""
        made = list(missing(os.path.dirname(path)))
        self._note(made)
        os.makedirs(os.path.dirname(path), exist_ok=True)

    def _note(self, paths: list[str]) -> None:
        if paths:
            with open(f"{self.home}/{MADE}", "a") as file:
                file.write("".join(f"{path}\n" for path in paths))

    def made(self) -> list[str]:
        """The directories that `make` and `make_directory_of` have made."""
        with suppress(FileNotFoundError), open(f"{self.home}/{MADE}") as file:
            return file.read().splitlines()
        return []

    def own(self) -> list[str]:
        """The directories that belong to this installation if they are empty, whoever made them."""
        below = [self.bin, f"{self.prefix}/lib", f"{self.prefix}/etc"] if self.prefix else []
        return [os.path.dirname(self.config), *below]

    def is_empty(self) -> bool:
        """Whether home has no versions or other files, except the lock and notes."""
        with suppress(FileNotFoundError):
            return set(os.listdir(self.home)) <= {LOCK, MADE, LINKS, f"{LINKS}.new"}
        return True


def _noted(path: str) -> str:
    """The directory that a note names; "" without a note, or if it is incomplete. Raises OSError."""
    with suppress(FileNotFoundError), open(path) as file:
        text = file.read()
        return text.removesuffix("\n") if text.startswith("/") and text.endswith("\n") else ""
    return ""


def link_of(path: str) -> str:
    """The target of a symbolic link, "" if there is no link."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def remove_empty(paths: list[str]) -> None:
    """Remove the empty ones of the directories `paths`, the deepest first."""
    for path in sorted(set(paths), key=len, reverse=True):
        with suppress(OSError):
            os.rmdir(path)


def missing(path: str) -> Iterator[str]:
    """The missing directories of `path`, including itself, the deepest first."""
    while not os.path.isdir(path):
        yield path
        path = os.path.dirname(path)

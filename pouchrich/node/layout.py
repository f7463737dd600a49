"""Where an installation is, and what it has made there."""

import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Self

from pouchrich.node import InstallError
from shim.installed.replaced import CURRENT, LOCK, PREVIOUS

PROGRAMS = ("containerd-shim-pouchrich-v2", "pouchrich")
MADE, LINKS = "made", "links"
"""The files in home that say which directories had to be made outside of it, one a line; and where `bin` is."""

REJECTED, ROLLING_BACK = "rejected", "rolling-back"
"""Links in home: to the version a rollback went away from, and while one is under way to the one it goes to."""

CONFIG = "/etc/pouchrich/config.toml"
ARTEFACTS, CHECKOUTS, BIN = "/opt/pouchrich", "/usr/local/lib/pouchrich", "/usr/local/bin"
"""The home of artefacts, that of what hack/install.sh installs, and where the links of both are."""

LONGEST_HOME = 170
"""A #! line holds 255 bytes and splits at the first blank (execve(2)); the rest are quoted nowhere else either."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Absolute paths: `home` holds the versions, `bin` the links to the programs; `config` is the node's file.

    `prefix` is the directory that all of them are below, "" where there is none such.
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
        """The one that has its versions in `home`. Raises InstallError where that is no place for one; OSError."""
        known = cls(home, BIN) if home in (ARTEFACTS, CHECKOUTS) else None
        if known is None and not home.endswith("/lib/pouchrich"):
            raise InstallError(f"{home}: not a place of an installation")
        found = known or cls.below(home.removesuffix("/lib/pouchrich"))
        return replace(found, bin=_noted(f"{home}/{LINKS}") or found.bin)

    def checked(self) -> Self:
        """This layout. Raises InstallError for a path that no #! line can hold."""
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
        """For messages."""
        return self.prefix or self.home

    @property
    def pristine(self) -> str:
        """The default configuration of the current version, by which an unchanged one is known."""
        return f"{self.home}/config.toml.default"

    def target(self, program: str) -> str:
        """What the link to a program says."""
        return f"{self.home}/{CURRENT}/bin/{program}"

    def is_linked(self, program: str) -> bool:
        """Whether the link to a program is this installation's."""
        return link_of(f"{self.bin}/{program}") == self.target(program)

    def current(self) -> str:
        """The name of the version that is run, "" for none."""
        return link_of(f"{self.home}/{CURRENT}")

    def previous(self) -> str:
        """The name of the version that was run before it, and is kept for a rollback; "" for none.

        A switch that was killed leaves the link's new name: it holds if CURRENT has been switched, for then it names
        another version.
        """
        current = self.current()
        found = (link_of(f"{self.home}/{name}") for name in (f"{PREVIOUS}.new", PREVIOUS))
        return next((name for name in found if name not in ("", current) and os.path.isdir(f"{self.home}/{name}")), "")

    def rejected(self) -> str:
        """The name of the version that a rollback went away from, "" for none."""
        return link_of(f"{self.home}/{REJECTED}")

    def occupied(self) -> Iterator[str]:
        """The paths of programs that are somebody else's."""
        for program in PROGRAMS:
            path = f"{self.bin}/{program}"
            if os.path.lexists(path) and not self.is_linked(program):
                yield path

    def make(self) -> None:
        """Make home and what it is in, and note what was not there. Raises OSError."""
        made = list(missing(os.path.dirname(self.home)))
        os.makedirs(self.home, exist_ok=True)
        self._note(made)

    def keep_bin(self) -> None:
        """Note where the links are, for `at`; who is killed meanwhile leaves the note of before. Raises OSError."""
        note = f"{self.home}/{LINKS}"
        if _noted(note) == self.bin:
            return
        with open(f"{note}.new", "w") as file:
            file.write(f"{self.bin}\n")
            file.flush()
            os.fsync(file.fileno())
        os.rename(f"{note}.new", note)

    def make_directory_of(self, path: str) -> None:
        """Make the directory of a file outside of home, and note what was not there. Raises OSError."""
        made = list(missing(os.path.dirname(path)))
        self._note(made)
        os.makedirs(os.path.dirname(path), exist_ok=True)

    def _note(self, paths: list[str]) -> None:
        if paths:
            with open(f"{self.home}/{MADE}", "a") as file:
                file.write("".join(f"{path}\n" for path in paths))

    def made(self) -> list[str]:
        """The directories that `make` and `make_directory_of` had to make."""
        with suppress(FileNotFoundError), open(f"{self.home}/{MADE}") as file:
            return file.read().splitlines()
        return []

    def own(self) -> list[str]:
        """Those that are this installation's where they are empty, whoever made them."""
        below = [self.bin, f"{self.prefix}/lib", f"{self.prefix}/etc"] if self.prefix else []
        return [os.path.dirname(self.config), *below]

    def is_empty(self) -> bool:
        """Whether nothing is left in home but what holds no version."""
        with suppress(FileNotFoundError):
            return set(os.listdir(self.home)) <= {LOCK, MADE, LINKS, f"{LINKS}.new"}
        return True


def _noted(path: str) -> str:
    """The directory that a note names, "" for none, and where the note was cut short. Raises OSError."""
    with suppress(FileNotFoundError), open(path) as file:
        text = file.read()
        return text.removesuffix("\n") if text.startswith("/") and text.endswith("\n") else ""
    return ""


def link_of(path: str) -> str:
    """What a symbolic link says, "" where there is none."""
    try:
        return os.readlink(path)
    except OSError:
        return ""


def remove_empty(paths: list[str]) -> None:
    """Remove those directories that are empty, the deepest first."""
    for path in sorted(set(paths), key=len, reverse=True):
        with suppress(OSError):
            os.rmdir(path)


def missing(path: str) -> Iterator[str]:
    """The directories that a directory lacks to be there, itself among them, the deepest first."""
    while not os.path.isdir(path):
        yield path
        path = os.path.dirname(path)

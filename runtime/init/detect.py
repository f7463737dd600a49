"""Which kind of init a program is, judged by its name and by strings in it. Nothing is executed or read here."""

import posixpath
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

SYSTEMD_PATHS = ("/usr/lib/systemd/systemd", "/lib/systemd/systemd")
SBIN_INIT = "/sbin/init"
INITTAB = "/etc/inittab"
MACHINE_ID = "/etc/machine-id"

RC_PATHS = (
    "/etc/init.d/rc",
    "/etc/init.d/rcS",
    "/etc/rc.d/rc",
    "/etc/rc.d/rc.sysinit",
    "/sbin/openrc",
    "/sbin/halt",
    "/sbin/sulogin",
)
"""The paths of the known distributions' start scripts and tools; those that exist show which style an image has."""

_BY_NAME = {"systemd": "systemd", "busybox": "busybox"}
_FOREIGN = {
    "runit-init": "runit",
    "runit": "runit",
    "openrc-init": "openrc-init",
    "upstart": "upstart",
    "s6-svscan": "s6",
}
_BY_CONTENT = (
    (b"libsystemd-shared-", "systemd"),
    (b"BusyBox v", "busybox"),
    (b"upstart", "upstart"),
    (b"no more processes left in this runlevel", "sysvinit"),
)
_SHARED = re.compile(rb"libsystemd-shared-(\d{3})\b")
_BANNER = re.compile(rb"systemd (\d{3})\b")

SUPPORTED = ("systemd", "sysvinit", "openrc", "busybox")

S6_INIT = "/init"

_INIT_PATHS = frozenset(f"{directory}/init" for directory in ("/sbin", "/usr/sbin", "/usr/local/sbin"))
_MAYBE_INIT_PATHS = frozenset({"/bin/init", "/usr/bin/init"})
"""The paths of an init where /sbin is a symbolic link to them, and of an application's own script elsewhere."""

_SMALL = frozenset({"tini", "tini-static", "docker-init", "dumb-init", "catatonit"})
_INIT_NAMES = _SMALL | {"systemd", "runit", "runit-init", "openrc-init", "my_init"}
"""Programs that expect to be PID 1. As a child, tini and dumb-init warn, systemd and s6's /init refuse, and phusion's
my_init does not wait for the daemons that it has started."""

_INIT_SCRIPTS = frozenset({"systemctl"})
"""The same where they are scripts: docker-systemctl-replacement, which as a child starts nothing."""


class InitFacts(NamedTuple):
    """What an image has for PID 1.

    `systemd` is systemd's path, or empty; `version` its major number where known. `kind` is what `/sbin/init` is: one
    of SUPPORTED, another init's name, or empty, and `target` where it leads; `problem` is why it cannot be used, where
    it cannot be examined.
    `inittab` is the text of /etc/inittab. `present` has those of RC_PATHS that exist. `services` says where systemd
    finds each requested service, `scripts` where sysvinit and OpenRC find it (`runtime.init.services.find_services`),
    and `near` has hints for requested services that neither finds. `home` is the home directory of the spec's user.
    `machine_id`: the image has a machine-id (machine-id(5)), or a symbolic link in its place.
    """

    systemd: str = ""
    version: int | None = None
    kind: str = ""
    target: str = ""
    problem: str = ""
    inittab: str | None = None
    present: tuple[str, ...] = ()
    services: tuple[tuple[str, str], ...] = ()
    scripts: tuple[tuple[str, str], ...] = ()
    near: tuple[tuple[str, str], ...] = ()
    home: str | None = None
    machine_id: bool = True


def is_machine_id(content: bytes) -> bool:
    """Whether `content` is that of a valid machine-id file."""
    return re.fullmatch(rb"[0-9a-f]{32}\n?", content) is not None


def kind_of(path: str, content: bytes) -> str:
    """What the program at `path` (symbolic links followed) is, by its name and the beginning of its content.

    Returns one of SUPPORTED, the name of another init, or "" where nothing is known about it.
    """
    name = posixpath.basename(path)
    if known := _BY_NAME.get(name) or _FOREIGN.get(name):
        return known
    return next((kind for word, kind in _BY_CONTENT if word in content), "")


_SYSTEM = frozenset({"/bin", "/sbin", "/usr/bin", "/usr/sbin"})
_SHELLS = frozenset({"sh", "ash", "bash", "dash"})
_WORDS = re.compile(r"\s*(?:exec\s+)?([A-Za-z0-9/._+@:=-]+(?:\s+[A-Za-z0-9/._+@:=-]+)*)\s*")


def replaces_shell(args: Sequence[str]) -> tuple[str, ...]:
    """The words of a command that a shell only executes, as in an image's CMD in shell form; () for another command.

    Also () for tini and similar programs: the shell may be their parent.
    """
    if len(args) != 3 or posixpath.basename(args[0]) not in _SHELLS or args[1] != "-c":
        return ()
    found = _WORDS.fullmatch(args[2])
    words = tuple(found[1].split()) if found else ("",)
    return () if posixpath.basename(words[0]) in ("", *_SMALL) else words


def applet(args: Sequence[str]) -> tuple[str, str] | None:
    """The init that a multi-call binary is told to be (`busybox init`), and its kind, or None."""
    if len(args) > 1 and (posixpath.basename(args[0]), args[1]) == ("busybox", "init"):
        return f"{args[0]} init", "busybox"
    return None


def given_init(args: Sequence[str], path: str, *, is_script: bool) -> str:
    """The path of an init that an image's entry point gets as its argument, with options after it, or "".

    `path` is where `args[0]` is. Programs in a distribution's own directories that are no scripts, such as ldd, do not
    execute the init.
    """
    if len(args) < 2 or (posixpath.dirname(path) in ("", *_SYSTEM) and not is_script):
        return ""
    if not all(word.startswith("-") for word in args[2:]):
        return ""
    return args[1] if args[1] in (*_INIT_PATHS, *_MAYBE_INIT_PATHS, *SYSTEMD_PATHS) else ""


def is_s6(head: bytes, *, is_init: bool = False) -> bool:
    """Whether a program that begins so is the init of s6-overlay, under whatever name. `is_init`: it is S6_INIT."""
    if is_init:
        return b"s6" in head or b"execline" in head
    return head.startswith(b"#!") and (b"s6-overlay" in head or b"execlineb" in head)


def own_init(
    paths: Iterable[str | None], *, kind: str, is_images: bool = False, is_script: bool = False
) -> tuple[str, str] | None:
    """The init that a command is: its path, and its kind, or "" for a kind that is not supported.

    `paths` are the paths that the command leads along, `kind` is what the image's /sbin/init is. `is_images`: the
    command is the same program as /sbin/init; `is_script`: it is a script. None where the command is no init.
    """
    for path in filter(None, paths):
        if posixpath.basename(path) == "systemd":
            return path, "systemd"
        if path in _INIT_PATHS or (is_images and path in _MAYBE_INIT_PATHS):
            return path, kind if kind in SUPPORTED else ""
        if posixpath.basename(path) in (*_INIT_NAMES, *(_INIT_SCRIPTS if is_script else ())):
            return path, ""
    return None


def version_of(content: bytes) -> int | None:
    """systemd's major version: since 231 in the name of the library it links to, before that only in its banner."""
    found = _SHARED.search(content) or _BANNER.search(content)
    return int(found[1]) if found else None


def refined(kind: str, present: tuple[str, ...]) -> str:
    """`kind`, but "openrc" for a sysvinit that starts OpenRC.

    OpenRC is no init: sysvinit's inittab starts it, on Debian by scripts with the names of sysvinit's own.
    """
    return "openrc" if kind == "sysvinit" and "/sbin/openrc" in present else kind

"""Examines a container's root filesystem before the container exists: facts, no decisions.

Nothing here trusts the image. Everything is read through `runtime.image.beneath`, from a descriptor of the root, so
that no symbolic link leads out of it, not even one that is exchanged meanwhile. Nothing is executed, no device, FIFO or
socket is opened, and only the beginnings of a few regular files are read. What lies below a mount of the spec cannot be
seen: that is a fact too.
"""

import os
import posixpath
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from runtime.errors import InvalidArgument
from runtime.image import beneath, copied, image_init
from runtime.init import detect
from runtime.init.base import CONTAINER_RUN_DIR
from runtime.init.detect import INITTAB, InitFacts
from runtime.init.mounts import WRITABLE, in_memory
from runtime.spec import edit
from runtime.spec.edit import Spec

_MAX_LINKS = 40
MAX_STEPS = 4096
"""The most steps for all walks of one examination: an image can make each part of each path lead to 40 links, and each
of those to 2,000 parts."""

PLACES = (CONTAINER_RUN_DIR, *WRITABLE, INITTAB)
"""Paths at which a mode may mount something of ours."""


class Command(NamedTuple):
    """What the container's first argument leads to.

    `path` is the absolute name under which it was found, `target` the same with the image's symbolic links followed.
    `problem` is why it cannot be started, in the words of Go's os/exec, which runc uses. `hidden_by` is the mount
    destination that it lies below; then nothing else is known. `is_script`: it begins with #!.
    """

    name: str
    path: str | None = None
    target: str | None = None
    problem: str | None = None
    hidden_by: str | None = None
    is_script: bool = False


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """`resolved` says where each mount destination, and each path in PLACES, leads.

    `is_s6`: the command is or gets s6-overlay's init; `init`: what the image has for PID 1; `uncopied`: by path of
    WRITABLE, why a tmpfs there cannot start with the image's files.
    """

    command: Command
    resolved: dict[str, str]
    is_s6: bool = False
    init: InitFacts = field(default_factory=InitFacts)
    uncopied: Mapping[str, str] = field(default_factory=dict)


class _Found(NamedTuple):
    """The end of a walk. `mode` None: nothing is there. `hidden_by`: the walk ended at that mount."""

    path: str
    mode: int | None = None
    error: str = ""
    hidden_by: str | None = None


def _parts(path: str) -> list[str]:
    """The parts of a path to walk, the next one last."""
    return [part for part in reversed(path.split("/")) if part not in ("", ".")]


class Rootfs:
    """A root filesystem by descriptor, walked part by part as the container would see it once mounted.

    `fd` is that descriptor; its owner closes it. All walks together examine at most MAX_STEPS names, each once, and
    follow at most that many parts of symbolic links; then they raise InvalidArgument.
    """

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self._left = MAX_STEPS
        self._seen: dict[str, tuple[int, str] | int] = {}  # an int is the errno of a failure

    @classmethod
    @contextmanager
    def open(cls, path: str) -> Iterator["Rootfs"]:
        """Open the directory at host path `path`. Raises InvalidArgument."""
        try:
            fd = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as err:
            raise InvalidArgument(f"rootfs {path}: {os.strerror(err.errno or 0).lower()}") from err
        try:
            yield cls(fd)
        finally:
            os.close(fd)

    def is_writable(self) -> bool:
        """Whether an OCI runtime can make mount points: not in a view of an image or a file system such as erofs.

        Raises OSError.
        """
        return not os.fstatvfs(self.fd).f_flag & os.ST_RDONLY

    def _spend(self, steps: int) -> None:
        self._left -= steps
        if self._left < 0:
            raise InvalidArgument(
                f"rootfs: found more than {MAX_STEPS} names and symbolic links to follow, allowed at most that"
                f" for all mounts, services and programs that are looked for in the image"
            )

    def _look(self, path: str) -> tuple[int, str]:
        """The mode of what is at `path`, and the target of a symbolic link. Raises OSError, InvalidArgument."""
        if path not in self._seen:
            self._spend(1)
            try:
                self._seen[path] = beneath.mode_of(self.fd, path)
            except OSError as err:
                self._seen[path] = err.errno or 0
        found = self._seen[path]
        if isinstance(found, int):
            raise OSError(found, os.strerror(found), path)
        return found

    def has(self, path: str) -> bool:
        """Whether anything is at `path`, including a symbolic link that leads nowhere."""
        try:
            self._look(path)
        except OSError:
            return False
        return True

    def walk(self, path: str, mounts: Sequence[str] = ()) -> _Found:
        """Follow `path` (absolute) as the container would; stop at a directory or file in `mounts`.

        `mounts` are resolved destinations. Parts that do not exist are kept as they are: there the OCI runtime would
        create them. Raises InvalidArgument where the walks have used up MAX_STEPS.
        """
        todo, at, links, mode = _parts(path), "/", 0, stat.S_IFDIR
        while todo:
            part = todo.pop()
            if not stat.S_ISDIR(mode):
                return _Found(at, error="not a directory")
            if part == "..":
                at = posixpath.dirname(at)
                continue
            step = f"{at}/{part}" if at != "/" else f"/{part}"
            if step in mounts:
                return _Found(step, hidden_by=step)
            try:
                mode, target = self._look(step)
            except (FileNotFoundError, NotADirectoryError):
                rest = posixpath.normpath("/".join([step, *reversed(todo)])) if todo else step
                return _Found(rest, error="no such file or directory")
            except OSError as err:
                return _Found(step, error=os.strerror(err.errno or 0).lower())
            if not stat.S_ISLNK(mode):
                at = step
                continue
            links += 1
            if links > _MAX_LINKS:
                return _Found(step, error="too many levels of symbolic links")
            parts = _parts(target)
            self._spend(len(parts))
            todo += parts
            at, mode = "/" if target.startswith("/") else at, stat.S_IFDIR
        return _Found(at, mode)

    def names(self, path: str, at_most: int) -> list[str]:
        """At most `at_most` names in the directory at `path`; none if it is no directory."""
        try:
            return beneath.names(self.fd, path, at_most)
        except OSError:
            return []

    def uncopied(self, path: str, most_bytes: int) -> str:
        """Why the content of the directory at `path` cannot be copied (`runtime.image.copied`), or ""."""
        try:
            return copied.tmpcopyup_problem(beneath.below(self.fd, path, copied.MOST_NAMES + 1), most_bytes)
        except (FileNotFoundError, NotADirectoryError):
            return ""
        except OSError as err:
            return os.strerror(err.errno or 0).lower()

    def head(self, path: str, size: int = 4096) -> bytes:
        """The first bytes of a regular file; empty if it is no such file or cannot be read."""
        try:
            return beneath.read(self.fd, path, size)
        except OSError:
            return b""


def _candidate(root: Rootfs, name: str, path: str, mounts: Sequence[str]) -> Command:
    """The command if it is at `path`, judged as Go's exec.LookPath does: a file with any execute bit."""
    found = root.walk(path, mounts)
    if found.hidden_by is not None:
        return Command(name, path=path, hidden_by=found.hidden_by)
    if found.mode is None:
        return Command(name, problem=f'exec: "{name}": stat {name}: {found.error}')
    if stat.S_ISDIR(found.mode):
        return Command(name, problem=f'exec: "{name}": is a directory')
    if not found.mode & 0o111:
        return Command(name, problem=f'exec: "{name}": permission denied')
    return Command(name, path=path, target=found.path)


def _command(root: Rootfs, name: str, *, path_variable: str, cwd: str, mounts: Sequence[str]) -> Command:
    if "/" in name:
        return _candidate(root, name, posixpath.join(cwd, name), mounts)
    for directory in path_variable.split(":") if path_variable else ():
        one = _candidate(root, name, posixpath.join(cwd, directory or ".", name), mounts)
        if one.problem is None:
            return one
    return Command(name, problem=f'exec: "{name}": executable file not found in $PATH')


def command_of(root: Rootfs, spec: Spec, mounts: Sequence[str] = ()) -> Command:
    """The command of `spec`; `mounts` are the resolved destinations that hide what is below. Raises InvalidArgument."""
    args, process = edit.args(spec), edit.table(spec, "process")
    if not args or not args[0]:
        raise InvalidArgument("config.json: process.args: found nothing to start, allowed at least one argument")
    path, cwd = edit.env(spec).get("PATH", ""), posixpath.join("/", str(process.get("cwd") or "/"))
    return _command(root, args[0], path_variable=path, cwd=cwd, mounts=mounts)


def _uid(process: Mapping[str, Any]) -> int:
    found = edit.table(process, "user", within="process.").get("uid")
    return found if isinstance(found, int) else 0


def read_facts(rootfs: str, spec: Spec, services: Sequence[str] = ()) -> ImageFacts:
    """`facts_of` the image mounted at host path `rootfs`. Also raises InvalidArgument where it cannot be opened."""
    with Rootfs.open(rootfs) as root:
        return facts_of(root, spec, services)


def facts_of(root: Rootfs, spec: Spec, services: Sequence[str] = ()) -> ImageFacts:
    """Find out what a plan for `spec` needs to know about the image at `root`.

    `services` are the names of services to look for (`Choice.services`).

    Only reads. A command that does not exist is a fact, not an error. Raises InvalidArgument where the spec is
    malformed or has no command at all, and where the walks cost too much. This blocks if a file system does not answer:
    call it in a thread beside an event loop.
    """
    destinations = [posixpath.join("/", mount["destination"]) for mount in edit.mounts(spec)]
    resolved = {path: root.walk(path).path for path in (*destinations, *PLACES)}
    # A mount at the root itself hides nothing: every path would be below it.
    hiding = [resolved[path] for path in destinations if resolved[path] != "/"]
    command, args, process = command_of(root, spec, hiding), edit.args(spec), edit.table(spec, "process")
    head = root.head(command.target) if command.target else b""
    is_s6 = detect.is_s6(head) or (_names_s6(args, command) and detect.is_s6(root.head(detect.S6_INIT), is_init=True))
    command = command._replace(is_script=head.startswith(b"#!"))
    found = image_init.read(root, hiding, uid=_uid(process), services=services)
    return ImageFacts(command, resolved, is_s6, found, _uncopied(root, spec))


def _names_s6(args: Sequence[str], command: Command) -> bool:
    return detect.S6_INIT in (command.path, *args[1:], *detect.replaces_shell(args)[:1])


def _uncopied(root: Rootfs, spec: Spec) -> dict[str, str]:
    found = {path: root.uncopied(path, most_bytes) for path, most_bytes in in_memory(spec).items()}
    return {path: problem for path, problem in found.items() if problem}

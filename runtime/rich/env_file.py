"""The pod's environment for login shells: `/etc/profile.d/pouchenv.sh`, `profile` in `rich.env-file`.

PouchContainer has a file of the same name. Ours is safer: values are quoted for any shell, the file is a read-only bind
of a file in the container's run directory (the image is not written to), and only root and the application's group can
read it.

How a plan uses this module:

    found = root.walk(env_file.TARGET, mounts)                                 in environment.inspect
    reason = env_file.reason_to_skip(found.path, found.mode, found.error, hidden_by=found.hidden_by)
    step = env_file.step(f"{run_directory}/{env_file.NAME}")                   where there is none; else a warning
    env_file.write(run_directory, env_file.text(edit.env(spec)), group=gid)    once the run directory exists

`runtime.rich.environment` does this for this file and for the files of the other places.
"""

import os
import re
import stat
from collections.abc import Mapping

from runtime.spec.edit import Edit, Step

TARGET = "/etc/profile.d/pouchenv.sh"
NAME = "env"
"""The file's name in the run directory."""

_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_IDENTITY = "HOME LOGNAME MAIL SHELL USER USERNAME EUID GROUPS PPID UID OLDPWD PWD TERM"
_STATE = (
    "CDPATH COMP_WORDBREAKS DIRSTACK ENV EPOCHREALTIME EPOCHSECONDS EXECIGNORE FUNCNAME FUNCNEST GLOBIGNORE HISTCMD IFS"
    " LINENO MAILCHECK MAILPATH OPTARG OPTERR OPTIND PATH POSIXLY_CORRECT PROMPT_COMMAND PS0 PS1 PS2 PS3 PS4 RANDOM"
    " READLINE_ARGUMENT READLINE_LINE READLINE_MARK READLINE_POINT REPLY SECONDS SHELLOPTS SHLVL SRANDOM TMOUT _"
)
_OWN = frozenset(f"{_IDENTITY} {_STATE}".split())
_OWN_PREFIXES = ("BASH", "KSH_", "ZSH_")
"""Variables that are never set. The login, not the pod, says who is logged in and on which terminal. The others belong
to the shell: some are read-only (bash: UID, EUID, PPID, SHELLOPTS, BASHOPTS, BASH_VERSINFO; TMOUT on hardened images),
and dash stops reading a file at an assignment to a read-only variable; some name files or commands that every later
shell runs (ENV, BASH_ENV, PROMPT_COMMAND); IFS and similar variables change what the remaining lines of the profile
mean. PATH has lines of its own."""

_HEADER = "# The environment of this container, for shells. Made by pouchrich; names no shell can hold are left out.\n"


def is_exported(name: str) -> bool:
    """Whether a variable of this name is given to shells by an `export` line; PATH has its own lines."""
    return _NAME.fullmatch(name) is not None and name not in _OWN and not name.startswith(_OWN_PREFIXES)


def is_encodable(value: str) -> bool:
    """Whether `value` can stand in an environment: no NUL, and no lone surrogates but those that stand for bytes."""
    try:
        return b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:
        return False


def quoted(value: str) -> str:
    """`value` as one word of a POSIX shell: between single quotes nothing but the single quote is special."""
    return "'" + value.replace("'", "'\\''") + "'"


def _path_lines(value: str) -> list[str]:
    """The shell lines that append each directory of a PATH that the shell's PATH lacks.

    Only absolute directories: an empty or relative entry would mean the current directory, in a login shell of root.
    """
    lines = [
        f'case ":${{PATH-}}:" in *:{quoted(directory)}:*) ;; *) PATH="${{PATH:+$PATH:}}"{quoted(directory)} ;; esac\n'
        for directory in dict.fromkeys(value.split(":"))
        if directory.startswith("/")
    ]
    return [*lines, "export PATH\n"] if lines else []


def text(env: Mapping[str, str]) -> str:
    """The file's text for the variables `env`, in their order. Encode it with os.fsencode, which cannot fail here.

    A variable that is set stays as it is: a login shell may be started by the application, which has changed it.
    """
    usable = {name: value for name, value in env.items() if is_encodable(value)}
    lines = [
        f'[ "${{{name}+x}}" ] || {name}={quoted(value)}; export {name}\n'
        for name, value in usable.items()
        if is_exported(name)
    ]
    return "".join((_HEADER, *lines, *_path_lines(usable.get("PATH", ""))))


def reason_to_skip(
    path: str, mode: int | None, error: str, *, hidden_by: str | None, target: str = TARGET, writable: bool = True
) -> str | None:
    """Why a file cannot be bound at `target`, or None where it can.

    The arguments are the result of walking to `target` in the image (`runtime.image.image.Rootfs.walk`): the path that
    `target` leads to, the mode of what is there, why nothing is there, and the mount that it lies below. A missing
    directory is no reason: the OCI runtime makes mount points in the container's own layer if that is writable
    (`writable`). Below a mount the OCI runtime would make the mount point on the pod's volume.
    """
    if hidden_by is not None:
        return f"{target}: it is below the mount at {hidden_by}"
    if mode is None and error != "no such file or directory":
        return f"{target}: {path} in the image: {error}"
    if mode is not None and not stat.S_ISREG(mode):
        return f"{target}: found something else than a regular file in the image"
    if path != target:
        return f"{target}: the image's symbolic links lead to {path}"
    if mode is None and not writable:
        return f"{target}: not in the image, whose file system is mounted read-only"
    return None


def step(source: str, target: str = TARGET, *, name: str = "mount-environment-file") -> Step:
    """Bind the file at host path `source` at `target`."""
    mount = {
        "destination": target,
        "type": "bind",
        "source": source,
        "options": ["bind", "ro", "nosuid", "nodev", "noexec"],
    }
    return Step(name, f"bind the pod's environment at {target}", Edit("with_mount", mount))


def write(directory: str, content: str, *, group: int, owner: int = 0, name: str = NAME, mode: int = 0o640) -> None:
    """Make the file `name` with `mode` in a run directory; the default mode is for root and the application's group.

    `owner` and `group` are ids as the host sees them, that is, mapped ids where the container has a user namespace.
    Raises OSError; FileExistsError where the file exists.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
    fd = os.open(f"{directory}/{name}", flags, 0o600)
    with open(fd, "wb") as file:
        file.write(os.fsencode(content))
        os.fchown(fd, owner, group)
        os.fchmod(fd, mode)

"""Our lines in a file of somebody else's, between two marks, so that they can be removed to the last byte."""

import os
import re
from contextlib import suppress

from pouchrich.node import InstallError

_BEGIN = "# pouchrich: begin; `pouchrich node uninstall` takes these lines out"
_END = "# pouchrich: end"
_NO_END_OF_LINE = ", and the end of the line above"
_NEW = ".pouchrich-new"
_BLOCK = re.compile(
    rf"(?P<before>\n?)^{re.escape(_BEGIN)}(?P<more>{re.escape(_NO_END_OF_LINE)})?\n(?P<lines>.*?)^{_END}\n",
    re.DOTALL | re.MULTILINE,
)


def without(text: str, path: str) -> str:
    """`text` without our lines and marks. Raises InstallError, naming `path`, where a mark is missing."""
    found = _BLOCK.search(text)
    if found is None:
        if _BEGIN in text or re.search(rf"^{_END}$", text, re.MULTILINE):
            raise InstallError(
                f"{path}: found one of the two pouchrich marks, allowed both or none: remove the lines by hand"
            )
        return text
    kept = found["before"] if found["before"] and not found["more"] else ""
    return text[: found.start()] + kept + text[found.end() :]


def within(text: str, lines: str, path: str) -> str:
    """`text` with `lines` between marks at its end, instead of our earlier lines. Raises InstallError as `without`."""
    rest = without(text, path)
    more = _NO_END_OF_LINE if rest and not rest.endswith("\n") else ""
    end = "\n" if more else ""
    return f"{rest}{end}{_BEGIN}{more}\n{lines}{_END}\n"


def lines(text: str) -> str | None:
    """Our lines in `text`, None if there are none."""
    found = _BLOCK.search(text)
    return None if found is None else found["lines"]


def read(path: str) -> str | None:
    """Read a text file; None if it does not exist. Raises InstallError if it is not text; OSError."""
    try:
        with open(path, encoding="utf-8", newline="") as file:
            return file.read()
    except FileNotFoundError:
        return None
    except UnicodeDecodeError as err:
        raise InstallError(f"{path}: found {err.reason} at byte {err.start}, allowed UTF-8") from err


def replace(path: str, text: str | None) -> None:
    """Replace the file's text by one rename, keeping mode and owner; None removes the file. Raises OSError.

    The change is on disk when this returns. A symbolic link stays; its target is replaced.
    """
    path = os.path.realpath(path)
    if text is None:
        with suppress(FileNotFoundError):
            os.unlink(path)
            _sync(os.path.dirname(path))
        return
    forget(path)
    new = f"{path}{_NEW}"
    # Nobody else may open it before it has the mode of the file, which may hold a registry's password.
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with open(fd, "w", encoding="utf-8", newline="") as file:
        try:
            about = os.stat(path)
        except FileNotFoundError:
            os.fchmod(fd, 0o644)
        else:
            os.fchown(fd, about.st_uid, about.st_gid)
            os.fchmod(fd, about.st_mode & 0o7777)
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.rename(new, path)
    _sync(os.path.dirname(path))


def forget(path: str) -> None:
    """Remove what a killed `replace` left. Raises OSError."""
    with suppress(FileNotFoundError):
        os.unlink(f"{os.path.realpath(path)}{_NEW}")


def _sync(directory: str) -> None:
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)

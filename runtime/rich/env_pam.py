"""The pod's environment for all that PAM opens a session for: `ssh host command`, `su -`, cron jobs (`rich.env-file`).

pam_env(8) reads lines `NAME=value` of /etc/environment. It knows no escapes: a `#` begins a comment even between
quotes, a value ends with its line, and of a line longer than its buffer (1,024 bytes before Linux-PAM 1.4, 8,192 since)
it makes two, or reads no further. What such a line cannot hold is left out and named, rather than given wrongly. Found
by `su -` of Debian 11, 12, 13 and sid.
"""

import os
import re
from collections.abc import Mapping

from runtime.default_path import DEFAULT_PATH
from runtime.rich.env_file import is_encodable

ENVIRONMENT = "/etc/environment"
CRON_ENVIRONMENT = "/etc/security/pouchenv"
CRONS = ("/etc/pam.d/cron", "/etc/pam.d/crond")
"""The PAM service of a cron: Debian's, and cronie's."""

MAX_TEXT = 65_536
"""Bytes of a file of the image's that are taken over."""
_MAX_LINE = 1000
_UNHOLDABLE = re.compile(r"[#\x00-\x08\x0a-\x1f\x7f]")

_HEADER = "# The environment of this container's pod follows. Made by pouchrich.\n"


def line(name: str, value: str) -> str | None:
    """The line that gives `name` exactly `value`, or None where none can."""
    made = f'{name}="{value}"\n'
    if _UNHOLDABLE.search(value) or not is_encodable(value) or len(os.fsencode(made)) > _MAX_LINE:
        return None
    return made


def longer_path(base: str, more: str) -> str | None:
    """The PATH `base` and behind it the absolute directories of `more` that it lacks; None where it lacks none."""
    known = base.split(":")
    added = [one for one in dict.fromkeys(more.split(":")) if one.startswith("/") and one not in known]
    return ":".join([base, *added]) if added else None


def _path_of(image: str) -> str:
    """The last PATH of the image's file. In one pass: an expression would look at a long line once for each blank."""
    found = DEFAULT_PATH
    for one in image.split("\n"):
        name, equals, value = one.strip(" \t").removeprefix("export ").partition("=")
        if name == "PATH" and equals and "#" not in value:
            quote = value[:1]
            found = value[1:-1] if len(value) > 1 and quote in ('"', "'") and value[-1] == quote else value
    return found


def text(env: Mapping[str, str], image: str = "") -> tuple[str, tuple[str, ...]]:
    """A file of the image's lines and then those of `env`, which win; and the names that no line can give.

    `env` holds names that `env_file.is_exported` takes, and PATH, which is only made longer: by what the image's own
    line lacks, else the usual PATH of root.
    """
    lines, unholdable = [], []
    for name, value in env.items():
        if name == "PATH":
            longer = longer_path(_path_of(image), value)
            if longer is None:
                continue
            value = longer
        made = line(name, value)
        if made is None:
            unholdable.append(name)
        else:
            lines.append(made)
    own = f"{image.rstrip(chr(10))}\n" if image.strip() else ""
    return "".join((own, _HEADER, *lines)), tuple(unholdable)


def service(image: str) -> str:
    """The PAM service `image` with one more line: its sessions get the variables of CRON_ENVIRONMENT."""
    own = f"{image.rstrip(chr(10))}\n" if image.strip() else ""
    # Without "conffile" the module would want pam_env.conf too; "-": nothing is logged where an image has no module.
    module = f"pam_env.so conffile=/dev/null readenv=1 envfile={CRON_ENVIRONMENT} user_readenv=0"
    return f"{own}{_HEADER}-session optional {module}\n"

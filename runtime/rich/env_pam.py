"""The pod's environment for every session that PAM opens: `ssh host command`, `su -`, cron jobs (`rich.env-file`).

pam_env(8) reads lines `NAME=value` from /etc/environment. The format has no escapes: a `#` begins a comment even
between quotes, and a value ends with its line. pam_env splits a line longer than its buffer (1,024 bytes before
Linux-PAM 1.4, 8,192 since) in two, or stops reading there. A variable that such a line cannot hold is left out and
named in a warning, rather than given a wrong value. Found with `su -` of Debian 11, 12, 13 and sid.
"""

import os
import re
from collections.abc import Mapping

from runtime.default_path import DEFAULT_PATH
from runtime.rich.env_file import is_encodable

ENVIRONMENT = "/etc/environment"
CRON_ENVIRONMENT = "/etc/security/pouchenv"
CRONS = ("/etc/pam.d/cron", "/etc/pam.d/crond")
"""The PAM service files of cron: Debian's name, and cronie's."""

MAX_TEXT = 65_536
"""The most bytes of an image's file that are copied into ours."""
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
    """The PATH `base`, then the absolute directories of `more` that `base` lacks; None where it lacks none."""
    known = base.split(":")
    added = [one for one in dict.fromkeys(more.split(":")) if one.startswith("/") and one not in known]
    return ":".join([base, *added]) if added else None


def _path_of(image: str) -> str:
    """The last PATH in the image's file. One pass: a regular expression would scan a long line once for each blank."""
    found = DEFAULT_PATH
    for one in image.split("\n"):
        name, equals, value = one.strip(" \t").removeprefix("export ").partition("=")
        if name == "PATH" and equals and "#" not in value:
            quote = value[:1]
            found = value[1:-1] if len(value) > 1 and quote in ('"', "'") and value[-1] == quote else value
    return found


def text(env: Mapping[str, str], image: str = "") -> tuple[str, tuple[str, ...]]:
    """The image's lines followed by those of `env`, which take precedence; and the names that no line can hold.

    `env` holds names that `env_file.is_exported` accepts, and PATH. PATH is only extended: the directories that the
    image's own PATH line (or, without one, the usual PATH of root) lacks are appended to it.
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
    """The PAM service file `image` with one more line, which gives its sessions the variables of CRON_ENVIRONMENT."""
    own = f"{image.rstrip(chr(10))}\n" if image.strip() else ""
    # Without "conffile" pam_env would also want pam_env.conf. "-": PAM logs nothing where an image lacks the module.
    module = f"pam_env.so conffile=/dev/null readenv=1 envfile={CRON_ENVIRONMENT} user_readenv=0"
    return f"{own}{_HEADER}-session optional {module}\n"

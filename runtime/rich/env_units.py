"""The pod's environment for the services of an init: `units` of `rich.env-file`.

    systemd            a drop-in of its own configuration (systemd-system.conf(5), DefaultEnvironment=)
    sysvinit, busybox  a script that what the image's inittab names is started by
    OpenRC             not: it clears the environment of its services

The application, and agents that are units, have theirs and nothing of this.
"""

import re
from collections.abc import Mapping

from runtime.agents.unit import quoted
from runtime.default_path import DEFAULT_PATH
from runtime.rich import env_file
from runtime.rich.env_pam import longer_path

TARGET = "/run/systemd/system.conf.d/50-pouchrich.conf"

_PLAIN_UNTIL, _EXPANDS_SINCE = 247, 252
"""The newest systemd that was seen to take a percent sign in DefaultEnvironment= as it is, and the oldest that was seen
to take two for one (systemd-system.conf(5), "Specifiers"): 247 and 252. Between them it is not known."""
_LONG_SINCE, _OLD_LINE = 235, 2000
"""Since when systemd reads lines of up to a mebibyte; before, of 2,048 bytes."""
_UNHOLDABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""What systemd refuses in a value (env_value_is_valid): other control characters than tab and newline, no UTF-8."""

_HEADER = "# The environment of this container's pod, for its units. Made by pouchrich.\n"


def _line(name: str, value: str, version: int) -> str | None:
    made = f"DefaultEnvironment={quoted(f'{name}={value}', dollars=False)}\n"
    if _UNHOLDABLE.search(value) or (version < _LONG_SINCE and len(made.encode()) > _OLD_LINE):
        return None
    if "%" in value and version < _EXPANDS_SINCE:
        return made.replace("%%", "%") if _LONG_SINCE <= version <= _PLAIN_UNTIL else None
    return made


def drop_in(env: Mapping[str, str], version: int | None) -> tuple[str, tuple[str, ...]]:
    """The drop-in for systemd of `version` (None: unknown), and the names whose values it cannot hold.

    `env` is as for `env_pam.text`.
    """
    lines, unholdable = [], []
    for name, value in env.items():
        wanted = longer_path(DEFAULT_PATH, value) if name == "PATH" else value
        if wanted is None:
            continue
        made = _line(name, wanted, version or 0)
        if made is None:
            unholdable.append(name)
        else:
            lines.append(made)
    return "".join((_HEADER, "[Manager]\n", *lines)), tuple(unholdable)


def script(env: Mapping[str, str]) -> str:
    """A script of sh that becomes the command it is given, with the variables `env` beside its own."""
    return env_file.text(env) + 'exec "$@"\n'

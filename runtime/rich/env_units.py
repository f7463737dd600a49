"""The pod's environment for the services of an init: `units` in `rich.env-file`.

    systemd            a drop-in of the manager's configuration (systemd-system.conf(5), DefaultEnvironment=)
    sysvinit, busybox  a script that starts the commands that the image's inittab names
    OpenRC             not supported: OpenRC clears the environment of its services

The application, and agents that run as units, have their own environment and get nothing from here.
"""

import re
from collections.abc import Mapping

from runtime.agents.unit import quoted
from runtime.default_path import DEFAULT_PATH
from runtime.rich import env_file
from runtime.rich.env_pam import longer_path

TARGET = "/run/systemd/system.conf.d/50-pouchrich.conf"

_PLAIN_UNTIL, _EXPANDS_SINCE = 247, 252
"""The newest systemd that was seen to take a percent sign in DefaultEnvironment= literally, and the oldest that was
seen to take two for one (systemd-system.conf(5), "Specifiers"): 247 and 252. The versions between are untested."""
_LONG_SINCE, _OLD_LINE = 235, 2000
"""The systemd version since which lines may be up to a mebibyte long, and our limit before it, where systemd reads
2,048 bytes."""
_UNHOLDABLE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f\ud800-\udfff]")
"""What systemd refuses in a value (env_value_is_valid): control characters but tab and newline, invalid UTF-8."""

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

    `env` is the same as for `env_pam.text`.
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
    """A sh script that sets the variables `env` beside its own and then executes the command in its arguments."""
    return env_file.text(env) + 'exec "$@"\n'

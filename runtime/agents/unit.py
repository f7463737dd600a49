r"""Agents as units of a systemd in the container. The layout is constant; only the node's configuration fills it in.

A unit file is not a shell script, so the quoting is systemd's: systemd splits the words of ExecStart= and unescapes
them like C strings (systemd.syntax(7), "Quoting"), then expands `%` specifiers and `$` variables, and a lone `;` begins
the next command (systemd.service(5), "Command lines"). Checked against systemd 252's own dump of what it parsed.
"""

import re
from collections.abc import Collection, Iterable
from typing import NamedTuple

from runtime.agents.select import Selected
from runtime.default_path import DEFAULT_PATH
from runtime.errors import InvalidArgument
from runtime.init.boot import RunFile

DIRECTORY = "/run/systemd/system"
WANTS = tuple(f"{DIRECTORY}/{target}.d/60-agents.conf" for target in ("default.target", "multi-user.target"))
_WANTS_NAME = "agents.conf"

_PROGRAM = re.compile(r"(/[^/\x00-\x1f\x7f\"'\\]+)+")
"""What systemd accepts as a program (string_is_safe): the path is split off after unquoting, and must be harmless."""
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}


class Bind(NamedTuple):
    """A file of the run directory (`name`) to be bound read-only at `target`, inside the mode's own /run."""

    name: str
    target: str


class Units(NamedTuple):
    """What the boot needs: `files` go into the run directory; each of `binds` is a mount after all others."""

    files: tuple[RunFile, ...] = ()
    binds: tuple[Bind, ...] = ()


def unit_name(agent: str) -> str:
    r"""The unit of an agent. `@` would make it an instance of a template, so it is escaped as in systemd.unit(5)."""
    return f"pouchrich-agent-{agent.replace('@', chr(92) + 'x40')}.service"


def _escaped(character: str) -> str:
    if character in _ESCAPES:
        return _ESCAPES[character]
    return f"\\x{ord(character):02x}" if ord(character) < 0x20 or ord(character) == 0x7F else character


def quoted(word: str, *, dollars: bool = True) -> str:
    """`word` as one word of a unit's setting; `dollars`: it is part of a command line, where `$` is special."""
    text = "".join(map(_escaped, word)).replace("%", "%%")
    return f'"{text.replace("$", "$$") if dollars else text}"'


def _environment(one: Selected, source: str) -> str:
    lines = []
    for name, value in one.agent.env:
        # systemd ignores other assignments with a warning that nobody reads (env_assignment_is_valid).
        if _VARIABLE.fullmatch(name) is None:
            allowed = "letters, digits and _ in mode systemd"
            raise InvalidArgument(f"{source}: {one.key}.env: found name {name[:80]!r}, allowed {allowed}")
        if any((ord(c) < 0x20 and c not in "\t\n") or ord(c) == 0x7F for c in value):
            allowed = "no control characters but tab and newline in mode systemd"
            raise InvalidArgument(f"{source}: {one.key}.env.{name}: found {value[:80]!r}, allowed {allowed}")
        lines.append(f"Environment={quoted(f'{name}={value}', dollars=False)}\n")
    return "".join(lines)


def _user(one: Selected, source: str) -> str:
    user = one.user
    if one.agent.user is None:
        return ""
    if user.uid and not user.name:
        allowed = "a user in the image's /etc/passwd, which systemd requires,"
        raise InvalidArgument(f"{source}: {one.key}.user: found {one.agent.user}, allowed {allowed} in mode systemd")
    groups = " ".join(map(str, user.groups))
    return f"User={user.uid}\nGroup={user.gid}\n" + (f"SupplementaryGroups={groups}\n" if groups else "")


def _without(one: Selected, foreign: Iterable[str]) -> str:
    """Lines that remove the variables `foreign`, which systemd sets for every unit, except those the agent sets."""
    own = {name for name, _ in one.agent.env}
    lines = [f"UnsetEnvironment={name}\n" for name in foreign if name not in own and name != "PATH"]
    path = [f"Environment=PATH={DEFAULT_PATH}\n"] if "PATH" in foreign and "PATH" not in own else []
    return "".join((*path, *lines))


def text(one: Selected, *, source: str, foreign: Collection[str] = ()) -> str:
    """The unit file of an agent. Raises InvalidArgument for what a unit file cannot express exactly."""
    agent = one.agent
    if _PROGRAM.fullmatch(agent.command[0]) is None:
        allowed = "an absolute path without quotes, backslashes and control characters in mode systemd"
        raise InvalidArgument(f"{source}: {one.key}.command[0]: found {agent.command[0][:80]!r}, allowed {allowed}")
    # systemd expands no variables in the program's own path, so its `$` stays single.
    words = [quoted(agent.command[0], dollars=False), *map(quoted, agent.command[1:])]
    return (
        "[Unit]\n"
        f"Description=Agent {agent.name} of the node\n"
        # No limit on restarts; in both spellings, for systemd before 230 and since. Unknown settings only warn.
        "StartLimitIntervalSec=0\n"
        "\n"
        "[Service]\n"
        "Type=simple\n"
        f"ExecStart={' '.join(words)}\n"
        f"Restart={agent.restart}\n"
        "RestartSec=1\n"
        "RestartSteps=6\n"
        "RestartMaxDelaySec=60\n"
        "StartLimitInterval=0\n"
        "TimeoutStopSec=5\n"
        "IgnoreSIGPIPE=no\n"
        f"{_user(one, source)}{_environment(one, source)}{_without(one, foreign)}"
    )


def units(selected: tuple[Selected, ...], *, source: str, foreign: Collection[str] = ()) -> Units:
    """The files and binds of all agents, and the drop-in that starts them; nothing without agents.

    `foreign` are the names of variables that systemd sets for every unit and that agents' units must not have.

    multi-user.target and the boot target want the units but do not require them: an agent that fails affects nothing
    else. The unit files are root's alone, but systemd tells every user in the container the environment of its units,
    so it is no place for secrets.
    """
    if not selected:
        return Units()
    names = [unit_name(one.agent.name) for one in selected]
    files = [
        RunFile(name, text(one, source=source, foreign=foreign), 0o444)
        for name, one in zip(names, selected, strict=True)
    ]
    wants = "[Unit]\n" + "".join(f"Wants={name}\n" for name in names)
    return Units(
        (*files, RunFile(_WANTS_NAME, wants)),
        (*(Bind(name, f"{DIRECTORY}/{name}") for name in names), *(Bind(_WANTS_NAME, path) for path in WANTS)),
    )

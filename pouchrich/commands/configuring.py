"""`pouchrich config`: show, check or change the configuration of the node, or of a handler whose file is named.

    config [show] [FILE]          print each key with its value and the source of the value
    config check [FILE]           print whether the file is valid; if it has an error, print that and exit with status 1
    config set-default KEY VALUE  set a key in the node's file, or in --file FILE; without VALUE, remove the key
    config default                print a file with every key and its default as comments
    config sysctl                 print the kernel settings that a node should have

As root, and without --any-owner, check and set-default also look whether this node has the programs of hooks on the
host; and check, as well as set-default of agents, the host paths of agents' mounts and the cgroups for their memory
limits.

Pods that began before an upgrade keep the version that they began with. As root, check warns of each version from
which pods of this node run and which refuses the file, and set-default refuses a change that such a version refuses.

Without FILE, show and check read the node's file, or use the built-in values if there is none. A change applies to
containers that are created afterwards. set-default keeps the file's comments and order. It replaces the file
atomically, and only if the file has no error before and after the change. VALUE is read as TOML, or else as a string.
The exit status is 1 if a file has an error or cannot be read, or if KEY is not a key.

`--json` prints

    for show: {"version": 1, "source": the file or `built in`,
        "keys": [{"key", "value": as in TOML, null if unset, "source": FILE: KEY or `built in`}]}
    for check: {"version": 1, "file", "valid": true | false, "error": string, null if valid,
        "refused_by": [{"version", "pods": how many run from it, "reason"}]}
    for set-default: {"version": 1, "file": its real path, "key", "value": as in TOML, null if the key was removed}
    for default and sysctl: {"version": 1, "text": what is printed without --json}
"""

import argparse
import os
import sys
import tempfile
import tomllib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from pouchrich import node_files, older
from pouchrich.config_file import ANY_OWNER, given
from pouchrich.output import clean, show_json
from runtime import inotify
from runtime.config import DEFAULT, Config, load, parse
from runtime.config.file import trusted_path
from runtime.config.kinds import suggestion
from runtime.config.location import NODE_FILE
from runtime.config.render import default_file, effective, toml
from runtime.config.schema import KEYS, SECTIONS
from runtime.errors import InvalidArgument, NotFound, PouchrichError

_ACTIONS = {
    "show": "print the configuration in full, each value with its source",
    "check": "check the configuration; exit status 1 if it has an error",
    "set-default": "change or remove a key",
    "default": "print a file with every key and its default as comments",
    "sysctl": "print the kernel settings that a node should have",
}


def add(parser: argparse.ArgumentParser) -> None:
    """Declare the command line."""
    actions = parser.add_subparsers(metavar="ACTION", required=True)
    for action, text in _ACTIONS.items():
        one = actions.add_parser(action, help=text)
        if action in ("show", "check"):
            one.add_argument(
                "file",
                nargs="?",
                type=os.path.abspath,
                metavar="FILE",
                help=f"configuration file; default {NODE_FILE}, or the built-in values if it does not exist",
            )
        elif action == "set-default":
            one.add_argument(
                "key", metavar="KEY", help="key, such as rich.mode; pouchrich config default lists all keys"
            )
            one.add_argument(
                "value",
                nargs="?",
                metavar="VALUE",
                help="value in TOML, otherwise taken as a string; without it, the key is removed",
            )
            help_text = f"file to change; default {NODE_FILE}"
            one.add_argument("--file", type=os.path.abspath, metavar="FILE", default=NODE_FILE, help=help_text)
        if action in ("show", "check", "set-default"):
            one.add_argument("--any-owner", action="store_true", help=ANY_OWNER)
        one.add_argument("--json", action="store_true", help="print JSON for programs; the format is stable")
        one.set_defaults(run=_RUN[action])


def completed(words: list[str]) -> list[str]:
    """The words after `config`, with the action `show` added if there is none."""
    if "--default" in words or "--sysctl" in words:  # the former names
        return [word.removeprefix("--") if word in ("--default", "--sysctl") else word for word in words]
    asks = {"-h", "--help"} & set(words)
    return words if asks or any(word in _ACTIONS for word in words[:1]) else ["show", *words]


def _text(arguments: argparse.Namespace, text: str) -> int:
    if arguments.json:
        show_json({"version": 1, "text": text})
    else:
        sys.stdout.write(text)
    return 0


def _require_of_node(config: Config, *, any_owner: bool) -> None:
    """See `node_files.check_agents`. A file that is not root's alone is for another node: nothing is checked then."""
    if os.geteuid() == 0 and not any_owner:
        node_files.check_agents(config)


def _show(arguments: argparse.Namespace) -> int:
    config = given(arguments.file, any_owner=arguments.any_owner)
    if arguments.json:
        show_json({"version": 1, "source": config.source, "keys": [_key(config, key) for key in KEYS]})
        return 0
    return _text(arguments, effective(config))


def _key(config: Config, key: Any) -> dict[str, Any]:
    section = key.name.rpartition(".")[0]
    value = getattr(getattr(config, section) if section else config, key.attribute)
    shown = None if value is None and key.default is None else key.kind.plain(value)
    return {"key": key.name, "value": shown, "source": config.source_of(key.name)}


def _check(arguments: argparse.Namespace) -> int:
    file = arguments.file or NODE_FILE
    try:
        config = given(arguments.file, any_owner=arguments.any_owner)
        _require_of_node(config, any_owner=arguments.any_owner)
    except PouchrichError as err:
        if not arguments.json:
            raise
        show_json({"version": 1, "file": file, "valid": False, "error": str(err), "refused_by": []})
        return 1
    refused = [] if config is DEFAULT else list(older.refusals(file, any_owner=arguments.any_owner))
    if arguments.json:
        listed = [one._asdict() for one in refused]
        show_json({"version": 1, "file": file, "valid": True, "error": None, "refused_by": listed})
    else:
        for one in refused:
            sys.stderr.write(f"pouchrich: warning: {clean(str(one))}; {older.ADVICE}\n")
        built_in = f"{file}: no such file; the built-in values apply"
        sys.stdout.write(f"{built_in if config is DEFAULT else f'{file}: valid'}\n")
    return 0


def _set_default(arguments: argparse.Namespace) -> int:
    key, value = arguments.key, None if arguments.value is None else _value(arguments.value)
    known = [one.name for one in KEYS if one.name != "version"]
    if key not in known:
        raise InvalidArgument(f"KEY: found {key!r}, allowed {', '.join(known)}{suggestion(key, known)}")
    file = _replace(arguments.file, key, value, require_root_owned=not arguments.any_owner)
    if arguments.json:
        show_json({"version": 1, "file": file, "key": key, "value": value})
    else:
        what = "is no longer set" if value is None else f"= {toml(value)}"
        sys.stdout.write(f"{file}: {key} {what}; this applies to containers that are created from now on\n")
    return 0


def _value(text: str) -> Any:
    try:
        found = tomllib.loads(f"value = {text}")
    except (tomllib.TOMLDecodeError, RecursionError):
        return text
    return found["value"] if found.keys() == {"value"} else text


def _replace(file: str, key: str, value: Any, *, require_root_owned: bool) -> str:
    """Set `key`, or take it out, in the TOML of `file`, all else left as it is written; return the file's real path.

    Raises PouchrichError where the file as it is, or as it would be, is not valid, and OSError.
    """
    import tomlkit  # keeps comments and order; only this needs it

    mode, text = 0o644, "version = 1\n"
    try:
        given(file, any_owner=not require_root_owned)
        path = os.path.realpath(file)
        mode = os.stat(path).st_mode & 0o7777
        with open(path, encoding="utf-8") as opened:
            text = opened.read()
    except NotFound:
        directory = os.path.dirname(file)
        path = f"{trusted_path(directory) if require_root_owned else directory}/{os.path.basename(file)}"
    document = tomlkit.parse(text)
    section, _, name = key.rpartition(".")
    table: Any = document
    if section in SECTIONS:
        if section not in document:
            document[section] = tomlkit.table()
        table = document[section]
    if value is not None:
        table[name] = value
    elif name in table:
        del table[name]
    new = tomlkit.dumps(document)
    changed = parse(new, source=path)
    if key == "agents":
        _require_of_node(changed, any_owner=not require_root_owned)
    with tempfile.NamedTemporaryFile("w", dir=os.path.dirname(path), prefix=".config-", delete=False) as scratch:
        try:
            scratch.write(new)
            scratch.flush()
            os.fchmod(scratch.fileno(), mode)
            made = load(scratch.name, require_root_owned=require_root_owned, programs=False)
            if require_root_owned:
                node_files.check_programs(made)
            for one in older.refusals(scratch.name, any_owner=not require_root_owned):
                reason = str(one).replace(scratch.name, path)
                raise InvalidArgument(f"{reason}; wait until these pods are gone, or change the file by hand")
            os.fsync(scratch.fileno())
            os.rename(scratch.name, path)
        except BaseException:
            with suppress(FileNotFoundError):
                os.unlink(scratch.name)
            raise
    return path


_RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "show": _show,
    "check": _check,
    "set-default": _set_default,
    "default": lambda arguments: _text(arguments, default_file()),
    "sysctl": lambda arguments: _text(arguments, inotify.drop_in()),
}

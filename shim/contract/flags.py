"""The command line that containerd uses, read the way Go's flag package reads it. Pure.

`-name value`, `-name=value` and `--name` are the same; parsing stops at the first word that is not a flag, which is
the action, or after `--`. Imported by every invocation, so it imports nothing itself.
"""

STRINGS = {
    "namespace": "namespace that owns the shim",
    "id": "id of the task",
    "address": "grpc address of containerd",
    "publish-binary": "path of containerd, for event publishing",
    "bundle": "path to the bundle, if not the working directory",
    "socket": "socket path to serve",
    "debug-socket": "debug socket path, accepted and unused",
}
BOOLEANS = {
    "debug": "log debug messages",
    "v": "print the version and exit",
    "version": "print the version and exit",
    "info": "print what the runtime offers and exit",
}
_TRUE = {"1", "t", "T", "true", "TRUE", "True"}
_FALSE = {"0", "f", "F", "false", "FALSE", "False"}


class UsageError(Exception):
    """The command line is invalid; Go programs answer that with the usage text and exit status 2."""


class Flags:
    """One parsed command line. Strings that were not given are empty."""

    __slots__ = (
        "action",
        "address",
        "bundle",
        "debug",
        "debug_socket",
        "id",
        "info",
        "namespace",
        "publish_binary",
        "socket",
        "version",
    )

    def __init__(self) -> None:
        self.namespace = self.id = self.address = self.publish_binary = ""
        self.bundle = self.socket = self.debug_socket = self.action = ""
        self.debug = self.version = self.info = False


def parse(args: list[str]) -> Flags:
    """Read `args` (without the program's own name). Raises UsageError."""
    flags = Flags()
    words = iter(args)
    for word in words:
        if len(word) < 2 or word[0] != "-":
            flags.action = word
            break
        if word == "--":
            flags.action = next(words, "")
            break
        name, given, value = word[2 if word[1] == "-" else 1 :].partition("=")
        if not name or name[0] == "-":
            raise UsageError(f"bad flag syntax: {word}")
        if name in BOOLEANS:
            _set_boolean(flags, name, value if given else "true")
        elif name in STRINGS:
            text = value if given else next(words, None)
            if text is None:
                raise UsageError(f"flag needs an argument: -{name}")
            setattr(flags, name.replace("-", "_"), text)
        else:
            raise UsageError(f"flag provided but not defined: -{name}")
    return flags


def _set_boolean(flags: Flags, name: str, value: str) -> None:
    if value not in _TRUE and value not in _FALSE:
        raise UsageError(f'invalid boolean value "{value}" for -{name}')
    setattr(flags, "version" if name == "v" else name, value in _TRUE)


def usage(program: str) -> str:
    """The usage text, for standard error after a UsageError."""
    lines = [f"Usage of {program}: [flags] [start|delete]"]
    for name, meaning in sorted({**STRINGS, **BOOLEANS}.items()):
        lines.append(f"  -{name}{' string' if name in STRINGS else ''}\n    \t{meaning}")
    return "\n".join(lines) + "\n"

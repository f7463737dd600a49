"""Removes names and secrets from the facts of a node, so that they can be attached to a public issue.

Names of pods, containers, images, namespaces, agents' and hooks' commands, variables and annotations are private to the
site. Each name is replaced by a word without meaning, such as `pod-1`, the same word throughout one bundle. Values of
variables, and values whose key's name suggests a secret, are removed completely.
"""

import ipaddress
import re
from collections.abc import Mapping
from typing import Any

from pouchrich import private_keys
from pouchrich.private_keys import GONE

_SECRET = re.compile(r"pass|secret|token|auth|credential|private|(^|[_.-])key($|[_.-])|cert|cookie", re.IGNORECASE)
_SECRET_WORD = re.compile(r"pass|secret|token|auth|credential|cookie|pwd|[_-]key$", re.IGNORECASE)
"""Fewer words than for keys, because in a text any word may precede `:` and `=`."""
_HEADER = re.compile(r"authorization$|cookie$", re.IGNORECASE)
"""Keys whose unquoted value is the rest of the line: HTTP headers (RFC 9110, section 11.6.2; RFC 6265)."""
# A container may have written the text: each of these expressions reads a run of characters once, or a bounded part.
_KEY = re.compile(
    r"""(?<![\w.-])(?:(--[\w.-]+)\ {1,8}(?![=:\s])|([\w.-]+)(?:\\{0,8}["'])?\s{0,64}(?::=|=>|==|[=:])\s{0,64})"""
)
"""An option of a command line with its value in the next word, or a key, quoted or not, and what separates it."""
_QUOTED = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*'|\\+"[^"\n]*")"""
_VALUE = re.compile(rf"{_QUOTED}(?:[^\s,}}\])]\S*)?|\[[^\]\n]*\]?|\{{[^}}\n]*\}}?|\S+")
"""A word, in which quotes may hold blanks (of a shell, of JSON, of JSON in JSON), or a list or table on one line."""
_REST = re.compile(rf"{_QUOTED}|[^\n]+")
_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]+")
"""A JSON Web Token, such as a service account's: its header is JSON in base64url (RFC 7519)."""
_CONTROL = re.compile(r"\x1b\[[0-?]{0,64}[ -/]{0,8}[@-~]")
"""A control sequence of a terminal (ECMA-48, section 5.4), which might stand between a key and its value."""
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
_ADDRESS_6 = re.compile(
    r"(?<![\w:])([a-z]{1,32}:)??((?:[0-9a-f]{0,4}:){2,8}(?:\d{1,3}(?:\.\d{1,3}){3}|[0-9a-f]{0,4}))(?![\w:])",
    re.IGNORECASE,
)
"""What may be an IPv6 address, after a key or not; a time and `0::` of /proc/PID/cgroup match too."""
_USER = re.compile(r"(?<![a-z0-9+.-])[a-z0-9+.-]{1,32}://[^\s\"']{0,512}@", re.IGNORECASE)
_NAMES = {
    "id": "id",
    "pod": "pod",
    "name": "name",
    "namespace": "namespace",
    "image": "image",
    "container": "name",
    "bundle": "bundle",
    "hostname": "host",
}
"""Keys whose values are names -> the word that replaces the names."""
_COMM = "comm"
"""The key of a process's name, which the process itself chooses."""
_PROGRAMS = frozenset({"systemd", "init", "dumb-init", "busybox", "sh"})
_COMMANDS = frozenset({"command", "args", "cmdline"})
_VARIABLES = frozenset({"env", "environment", "annotations", "labels"})
_LEAST = 3
"""The length from which names are replaced in texts: shorter ones would match everywhere."""


_PUBLIC = frozenset({"default", "k8s.io", ""})
"""Names that give nothing away."""


class Redaction:
    """The redaction of one bundle. With `names`, names stay, and only what may be a secret is removed."""

    def __init__(self, *, names: bool = False) -> None:
        self._are_names_kept = names
        self._words: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    def name(self, value: str, kind: str) -> str:
        """The word that replaces the name `value`, or `value` where it stays."""
        if self._are_names_kept or value in _PUBLIC:
            return value
        if value not in self._words:
            self._counts[kind] = self._counts.get(kind, 0) + 1
            self._words[value] = f"{kind}-{self._counts[kind]}"
        return self._words[value]

    def whole(self, found: Any) -> Any:
        """The JSON value `found`, redacted: a name is also replaced in the texts before the place that tells it."""
        self.value(found)
        return self.value(found)

    def value(self, found: Any, key: str = "") -> Any:
        """The JSON value `found` at `key`, redacted."""
        if key in _VARIABLES or (key and _SECRET.search(key)):
            return [GONE] * len(found) if isinstance(found, list) else GONE if found else found
        if key in _COMMANDS:
            return self._command(found)
        if key == _COMM:
            return found if self._are_names_kept or found in _PROGRAMS else GONE
        if isinstance(found, Mapping):
            return {name: self.value(one, str(name)) for name, one in found.items()}
        if isinstance(found, list | tuple):
            return [self.value(one, key) for one in found]
        if isinstance(found, str):
            return self.name(found, _NAMES[key]) if key in _NAMES else self.text(found)
        return found

    def _command(self, found: Any) -> Any:
        """Only the program's name, without its directory and arguments."""
        words = found.split() if isinstance(found, str) else [str(one) for one in found or ()]
        program = words[0].rpartition("/")[2] if words else ""
        shown = f"{program} {GONE}" if len(words) > 1 else program
        return shown if isinstance(found, str) else [shown] if words else []

    def text(self, found: str) -> str:
        """A text, with secrets, addresses and the names met so far replaced.

        Names come last: a name may be a part of a word that tells a secret.
        """
        found = private_keys.without(_CONTROL.sub("", found))
        found = _TOKEN.sub(GONE, _without_secrets(found))
        found = _ADDRESS.sub("ADDRESS", _ADDRESS_6.sub(_address_6, _USER.sub(f"{GONE}@", found)))
        for name in sorted(self._words, key=len, reverse=True):
            if len(name) >= _LEAST:
                found = found.replace(name, self._words[name])
        return found


def _address_6(match: re.Match[str]) -> str:
    """The replacement of what may be an address. A colon behind an address belongs to the text."""
    text = match[2].removesuffix(":") if not match[2].endswith("::") else match[2]
    try:
        address = ipaddress.IPv6Address(text)
    except ValueError:
        return match[0]
    if address.is_unspecified or address.is_loopback:
        return match[0]
    return f"{match[1] or ''}ADDRESS{match[2][len(text) :]}"


def _without_secrets(text: str) -> str:
    """`text` with GONE for each value whose key's name suggests a secret."""
    parts, at = [], 0
    for key in _KEY.finditer(text):
        name = key[1] or key[2]
        if key.end() < at or not _SECRET_WORD.search(name):
            continue
        if value := (_REST if _HEADER.search(name) else _VALUE).match(text, key.end()):
            if key.start() >= at:  # otherwise the key is, or begins, the value of the one before it
                parts += [text[at : key.end()], GONE]
            at = value.end()
    return "".join([*parts, text[at:]])

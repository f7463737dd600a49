"""Removes names and secrets from the facts of a node, so that they can be attached to a public issue.

Names of pods, containers, images, namespaces, agents' and hooks' commands, variables and annotations are private to the
site. Each name is replaced by a word without meaning, such as `pod-1`, the same word throughout one bundle. Values of
variables, and values whose key's name suggests a secret, are removed completely.
"""

import re
from collections.abc import Mapping
from typing import Any

GONE = "(removed)"
_SECRET = re.compile(r"pass|secret|token|auth|credential|private|(^|[_.-])key($|[_.-])|cert|cookie", re.IGNORECASE)
_SECRET_WORD = re.compile(r"pass|secret|token|auth|credential", re.IGNORECASE)
"""Fewer words than for keys, because in a text any word may precede `:` and `=`."""
# A container may have written the text: these expressions scan each run of characters only once, from its beginning.
_KEY = re.compile(r"""(?<![\w.-])([\w.-]+)["']?\s{0,64}[=:]\s{0,64}""")
_QUOTED = r"""(?:"(?:[^"\\\n]|\\.)*"|'[^'\n]*')"""
_VALUE = re.compile(
    rf"digest\s[^\n]*|(?:(?:bearer|basic|negotiate)\s{{1,8}})?(?:{_QUOTED}(?:[^\s,}}\])]\S*)?|\S+)", re.IGNORECASE
)
"""A word, in which a shell's or JSON's quotes may hold blanks, or the credentials of an HTTP Authorization header
(RFC 9110, section 11.4)."""
_TOKEN = re.compile(r"(?<![\w-])eyJ[\w-]+\.[\w-]+\.[\w-]+")
"""A JSON Web Token, such as a service account's: its header is JSON in base64url (RFC 7519)."""
_ADDRESS = re.compile(r"\b(?:\d{1,3}\.){3}\d{1,3}\b")
_USER = re.compile(r"(?<![a-z0-9+.-])[a-z0-9+.-]+://[^\s\"'@/]+@")
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

    def value(self, found: Any, key: str = "") -> Any:
        """The JSON value `found` at `key`, redacted."""
        if key in _VARIABLES or (key and _SECRET.search(key)):
            return [GONE] * len(found) if isinstance(found, list) else GONE if found else found
        if key in _COMMANDS:
            return self._command(found)
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
        """A text, with names met so far, addresses, and the values of `KEY=VALUE` secrets replaced."""
        for name in sorted(self._words, key=len, reverse=True):
            if len(name) >= _LEAST:
                found = found.replace(name, self._words[name])
        found = _ADDRESS.sub("ADDRESS", _TOKEN.sub(GONE, _without_secrets(found)))
        return _USER.sub(f"{GONE}@", found)


def _without_secrets(text: str) -> str:
    """`text` with GONE for each value whose key's name suggests a secret."""
    parts, at = [], 0
    for key in _KEY.finditer(text):
        if key.start() < at or not _SECRET_WORD.search(key[1]):
            continue
        if value := _VALUE.match(text, key.end()):
            parts += [text[at : key.end()], GONE]
            at = value.end()
    return "".join([*parts, text[at:]])

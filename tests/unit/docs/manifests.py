"""As much of YAML as a manifest in the documents may use, so that no YAML library is needed to check them.

Mappings and lists by indentation, lists in brackets as JSON has them or of plain words, comments, documents parted by
---; a scalar is plain, quoted with ' or ", or a literal block (|). Anything else raises ValueError. So does what people
get wrong: a tab, a key that is there twice, a plain value that means something else than it says.
"""

import json
import re
import textwrap
from typing import Any

_KEY = re.compile(r"([A-Za-z0-9_./-]+):(?: +(.*))?$")
_PLAIN = re.compile(r"[A-Za-z0-9/_.$-][^#'\"\[\]{}&*!|>%@`]*")
_CONSTANTS = {"true": True, "false": False, "null": None}

Lines = list[tuple[int, str]]


def load(text: str) -> list[Any]:
    """The documents of `text`."""
    return [_document(part) for part in re.split(r"^---$", text, flags=re.MULTILINE)]


def _document(text: str) -> Any:
    lines: Lines = []
    given = text.splitlines()
    while given:
        line = given.pop(0)
        if "\t" in line:
            raise ValueError(f"a tab: {line!r}")
        bare, indent = line.strip(), len(line) - len(line.lstrip())
        if bare.endswith(": |"):
            bare = f"{bare[:-1]}{json.dumps(_literal(given, indent))}"
        if bare and not bare.startswith("#"):
            lines.append((indent, bare))
    value = _node(lines)
    if lines:
        raise ValueError(f"what is this: {lines[0][1]!r}")
    return value


def _literal(given: list[str], indent: int) -> str:
    """The lines of a literal block, taken from those that follow its key, which stands at `indent`."""
    block = []
    while given and (not given[0].strip() or given[0].startswith(" " * (indent + 1))):
        block.append(given.pop(0))
    return textwrap.dedent("\n".join(block)).strip("\n") + "\n"


def _node(lines: Lines) -> Any:
    if not lines:
        raise ValueError("nothing where a value should be")
    return _list(lines, lines[0][0]) if lines[0][1].startswith("- ") else _mapping(lines, lines[0][0])


def _list(lines: Lines, indent: int) -> list[Any]:
    found = []
    while lines and lines[0][0] == indent and lines[0][1].startswith("- "):
        inner = lines[0][1][2:]
        if _KEY.match(inner) is None:
            lines.pop(0)
            found.append(scalar(inner))
            continue
        lines[0] = (indent + 2, inner)
        found.append(_mapping(lines, indent + 2))
    return found


def _mapping(lines: Lines, indent: int) -> dict[str, Any]:
    found: dict[str, Any] = {}
    while lines and lines[0][0] == indent:
        matched = _KEY.match(lines[0][1])
        if matched is None:
            raise ValueError(f"not a key: {lines[0][1]!r}")
        key, text = matched[1], matched[2]
        if key in found:
            raise ValueError(f"{key} twice")
        lines.pop(0)
        if text is not None:
            found[key] = scalar(text)
        elif lines and (lines[0][0] > indent or (lines[0][0] == indent and lines[0][1].startswith("- "))):
            found[key] = _node(lines)
        else:
            found[key] = None
    return found


def scalar(text: str) -> Any:
    """The value of a text that stands on one line."""
    if text.startswith("'"):
        inner = text[1:-1].replace("''", "\0")
        if len(text) < 2 or not text.endswith("'") or "'" in inner:
            raise ValueError(f"quoting: {text!r}")
        return inner.replace("\0", "'")
    if re.fullmatch(r"\[[a-z, ]*\]", text):
        return [scalar(one.strip()) for one in text[1:-1].split(",")]
    if text.startswith(('"', "[")):
        return json.loads(text)
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if re.fullmatch(r"-?\d+", text):
        return int(text)
    # The value of a plain scalar may hold a quote, but not begin with one; ": " and " #" would end it.
    if _PLAIN.match(text) is None or ": " in text or " #" in text or text.endswith(":"):
        raise ValueError(f"a plain value that is not plain: {text!r}")
    if text.lower() in ("yes", "no", "on", "off", "~"):
        raise ValueError(f"a plain value that means something else: {text!r}")
    return text

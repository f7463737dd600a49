"""Removes private keys from texts and logs, also keys of which only a part is there.

A key has a first and a last line, such as RFC 7468 (PEM), RFC 4880 (OpenPGP) and RFC 4716 (SSH) define, and between
them base64 in lines of 64 to 76 characters.
"""

import re
from collections.abc import Iterable

GONE = "(removed)"
MOST_LINES = 512
"""The most lines that are taken for one key whose last line is missing."""

_BORDER = re.compile(r"-{4,5} ?(?:(BEGIN)|END) [A-Z0-9 ]{0,32}PRIVATE KEY(?: BLOCK)? ?-{4,5}")
_BODY = re.compile(r"(?<![\w+/=.-])(?=[0-9A-Za-z+/]{0,80}[G-Zg-z])(?=[a-z/]{0,63}[A-Z0-9+])[A-Za-z0-9+/]{60,}={0,2}")
"""A line of a key's base64: neither a digest in hexadecimal nor a path."""
_LINES_GONE = re.compile(rf"{re.escape(GONE)}(?:\n{re.escape(GONE)})+")
_NEAR = 128
_LAST_WORD = re.compile(r"[A-Za-z0-9+/=]{1,80}\s*\Z")


def without(text: str) -> str:
    """`text` with GONE for each private key."""
    lines = without_in_log(("", line) for line in text.split("\n"))
    return _LINES_GONE.sub(GONE, "\n".join(lines))


def without_in_log(lines: Iterable[tuple[str, str]]) -> list[str]:
    """The texts of a log's lines, with GONE for each line, or part of a line, of a private key.

    A line is a pair: who wrote it, and its text. Several may write at a time.
    """
    found: list[str] = []
    begun: dict[str, int] = {}  # who is inside a key: the number of lines that may still be of it
    latest: dict[str, int] = {}
    for writer, line in lines:
        text, at = "", 0
        left = begun.pop(writer, 0)
        for border in _BORDER.finditer(line):
            before = line[at : border.start()]
            if border[1]:
                text, left = text + ("" if left else _BODY.sub(GONE, before)), MOST_LINES
                continue
            if not left:  # the key's first line is missing
                text += _with_last_word(before, "")
                if writer in latest and not at:
                    found[latest[writer]] = _with_last_word(found[latest[writer]], GONE)
            text, at, left = text + GONE, border.end(), 0
        text += GONE if left else _BODY.sub(GONE, line[at:])
        if left > 1:
            begun[writer] = left - 1
        latest[writer] = len(found)
        found.append(text)
    return found


def _with_last_word(text: str, word: str) -> str:
    """`text` with `word` in place of its last word, if that may be base64. Reads a bounded part."""
    return text[:-_NEAR] + _LAST_WORD.sub(word, text[-_NEAR:])

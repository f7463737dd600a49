"""Text for manual pages: the macros of man(7), and escapes for text that roff would interpret."""

import re
from collections.abc import Mapping

_TYPED = {"\\": "\\e", "-": "\\-", "'": "\\(aq", "`": "\\(ga", "^": "\\(ha", "~": "\\(ti", '"': "\\(dq"}


def escaped(text: str) -> str:
    """`text` escaped: it contains no request or macro, and typed characters stay ASCII (groff_char(7))."""
    lines = "".join(_TYPED.get(one, one) for one in text).split("\n")
    return "\n".join(f"\\&{one}" if one.startswith(".") else one for one in lines)


def title(name: str, section: int, summary: str) -> list[str]:
    """The head of a page."""
    return [
        f'.TH "{escaped(name.upper())}" "{section}" "" "pouchrich"',
        heading("NAME"),
        f"{escaped(name)} \\- {escaped(summary)}",
    ]


def heading(text: str) -> str:
    return f".SH {text}"


def subheading(text: str) -> str:
    return f'.SS "{escaped(text)}"'


def item(what: str, about: str) -> list[str]:
    """A term in bold, and what it means."""
    return [".TP", f"\\fB{escaped(what)}\\fR", escaped(_unquoted(about)) or "\\&"]


def section(title: str, items: Mapping[str, str]) -> list[str]:
    """A section of terms."""
    return [heading(title), *(line for what, about in items.items() for line in item(what, about))]


def text_of(docstring: str) -> list[str]:
    """A docstring's paragraphs: indented lines are kept as they are, the rest is filled."""
    lines = []
    for part in re.split(r"\n\n+", docstring.strip("\n")):
        if part.startswith("    "):
            lines += [".PP", ".nf", escaped(_unquoted(part)), ".fi"]
        else:
            lines += [".PP", escaped(_unquoted(" ".join(part.split())))]
    return lines


def _unquoted(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"\1", text)


def page(lines: list[str]) -> str:
    return "\n".join(['.\\" Made by hack/manuals.py.', *lines]) + "\n"

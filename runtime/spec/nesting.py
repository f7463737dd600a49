"""Reads JSON from outside, with a limit on nesting: beyond it, Python's own limit would fail in code that walks it."""

import json
from typing import Any

MAX_DEPTH = 64
"""The most arrays and objects within each other. A runtime-spec config.json has 8."""


def loads(text: str | bytes) -> Any:
    """Like json.loads. Also raises ValueError for JSON that is nested too deeply."""
    try:
        found = json.loads(text)
    except RecursionError:
        raise _too_deep() from None
    level = [found] if isinstance(found, dict | list) else []
    for _ in range(MAX_DEPTH):
        if not level:
            return found
        inside = (one for many in level for one in (many.values() if isinstance(many, dict) else many))
        level = [one for one in inside if isinstance(one, dict | list)]
    if level:
        raise _too_deep()
    return found


def _too_deep() -> ValueError:
    return ValueError(f"found arrays and objects nested more than {MAX_DEPTH} deep, allowed at most that")

"""JSON from outside, no deeper than the code that walks it can bear: Python's own bound is met anywhere, as a bug."""

import json
from typing import Any

MAX_DEPTH = 64
"""Of arrays and objects within each other. A runtime-spec config.json has 8."""


def loads(text: str | bytes) -> Any:
    """As json.loads. Raises ValueError, as it does, for JSON that is nested too deeply too."""
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

"""Routes of a pod's network namespace, set by a program of their own (`__main__`) that pyroute2 is loaded into.

A pod server only asks: it passes the namespace as a descriptor and the routes as JSON, and reads one JSON object back.
pyroute2 costs 25 MB and 150 ms and would stay as long as the pod; the program's `setns` would be the whole server's.

    question  {"routes": [{"to": "10.1.0.0/16" or "default", "via": "10.0.0.1"}, ...]}, the namespace at NETNS_FD
    answer    {"applied": 2}, {"skipped": "why"} in the host's own namespace, or {"error": "why"}
"""

import json
import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from runtime.config.model import Route
from runtime.errors import RuntimeFailed

NETNS_FD = 3
TIMEOUT_S = 20.0

_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from runtime.routes.__main__ import main; sys.exit(main())"
)


@dataclass(frozen=True, slots=True)
class Answer:
    """`applied` routes are there; `skipped` is why none was touched, empty where that is not so."""

    applied: int = 0
    skipped: str = ""


def command(python: str) -> list[str]:
    """The program; `python` is the interpreter whose environment has pyroute2."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [python, "-I", "-c", _BOOTSTRAP, root]


def question(routes: Iterable[Route]) -> bytes:
    """What the program is asked."""
    return json.dumps({"routes": [{"to": one.to, "via": one.via} for one in routes]}).encode()


def read_answer(status: int, output: bytes) -> Answer:
    """What the program answered. Raises RuntimeFailed with its reason, or where it gave no answer."""
    try:
        found: Any = json.loads(output)
        if "error" in found:
            raise RuntimeFailed(f"routes: {found['error']}")
        return Answer(int(found.get("applied", 0)), str(found.get("skipped", "")))
    except (ValueError, TypeError, AttributeError) as err:
        raise RuntimeFailed(f"routes: the program gave no answer, exit status {status}") from err

"""Routes of a pod's network namespace, set by a separate program (`__main__`) that loads pyroute2.

A pod server only asks: it passes the namespace as a descriptor and the routes as JSON, and reads one JSON object back.
In a pod server pyroute2 would cost 25 MB and 150 ms for as long as the pod lives, and its `setns` would move the whole
server.

    question  {"routes": [{"to": "10.1.0.0/16" or "default", "via": "10.0.0.1"}, ...]}, the namespace at NETNS_FD
    answer    {"applied": 2}, {"skipped": "why"} in the host's own namespace, or {"error": "why"}
"""

import json
import os
from collections.abc import Iterable
from typing import Any, NamedTuple

from runtime.config.model import Route
from runtime.errors import RuntimeFailed

NETNS_FD = 3
TIMEOUT_S = 20.0

_BOOTSTRAP = (
    "import sys; sys.path.insert(0, sys.argv.pop(1)); from runtime.routes.__main__ import main; sys.exit(main())"
)


class Answer(NamedTuple):
    """`applied` is the number of routes set; `skipped` is why no route was touched, or ""."""

    applied: int = 0
    skipped: str = ""


def command(python: str) -> list[str]:
    """The program's argument list; `python` is the interpreter whose environment has pyroute2."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    return [python, "-I", "-c", _BOOTSTRAP, root]


def question(routes: Iterable[Route]) -> bytes:
    """The JSON that the program reads."""
    return json.dumps({"routes": [{"to": one.to, "via": one.via} for one in routes]}).encode()


def read_answer(status: int, output: bytes) -> Answer:
    """The program's answer. Raises RuntimeFailed with the program's reason, or where it gave no answer."""
    try:
        found: Any = json.loads(output)
        if "error" in found:
            raise RuntimeFailed(f"routes: {found['error']}")
        return Answer(int(found.get("applied", 0)), str(found.get("skipped", "")))
    except (ValueError, TypeError, AttributeError) as err:
        raise RuntimeFailed(f"routes: the program gave no answer, exit status {status}") from err

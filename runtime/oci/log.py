"""Interprets what an OCI runtime said when it failed. Pure. The only place that reads an OCI runtime's error text.

The texts are those of runc 1.1 to 1.3 and crun 1.8 to 1.21, listed in `tests/unit/oci/test_log.py`.
"""

import json
import re

_FINISHED = ("process already finished", "container not running", "no such process", "is not running")
# First runc's text, then crun's: for crun a container is a directory with a file `status` below its root. crun 1.8
# quotes the name with '' and crun 1.21 with ``.
_UNKNOWN = re.compile(
    r"does not exist|(error opening file `[^`]*/status`|cannot open directory ['`][^'`]*['`]): no such file"
)


def last_error(log: bytes, output: bytes, status: int) -> str:
    """The best explanation of a failed call: the last error in its JSON log, else its output, else its exit status."""
    for line in reversed(log.splitlines()):
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict) and entry.get("level") == "error" and str(entry.get("msg", "")).strip():
            return str(entry["msg"]).strip()
    return output.decode(errors="replace").strip() or f"exit status {status}"


def says_finished(text: str) -> bool:
    """Whether the error means that the process it was about has ended."""
    return any(words in text.lower() for words in _FINISHED)


def says_unknown(text: str) -> bool:
    """Whether the error means that the OCI runtime has no such container."""
    return _UNKNOWN.search(text.lower()) is not None

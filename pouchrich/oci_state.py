"""Asking the OCI runtime for a container's state, by the `state` operation of the runtime specification."""

import json
import subprocess
from collections.abc import Mapping
from typing import Any

TIMEOUT_S = 5.0
UNKNOWN = "unknown"


def of(oci: Mapping[str, Any], container_id: str) -> str:
    """`created`, `running`, `paused`, `stopped`, or `unknown` where the runtime cannot say.

    `oci` is what the bundle's record keeps of the runtime: `path` and `root`.
    """
    words = [str(oci["path"]), "--root", str(oci["root"]), "state", container_id]
    try:
        answer = subprocess.run(words, capture_output=True, timeout=TIMEOUT_S, check=True)
        return str(json.loads(answer.stdout)["status"])
    except (OSError, subprocess.SubprocessError, ValueError, KeyError, TypeError):
        return UNKNOWN

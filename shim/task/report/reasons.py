"""The words for why a container did not get its mode, or a request failed: labels of metrics, so never a pod's text."""

from typing import get_args

from runtime.errors import HookFailed, InvalidArgument, RuntimeFailed, Unsupported
from runtime.init.base import ObstacleReason
from runtime.rich.mode import OWN_INIT

FALLBACK_REASONS: tuple[str, ...] = (*get_args(ObstacleReason), OWN_INIT)
_KINDS = {HookFailed: "hook", RuntimeFailed: "runtime", Unsupported: "unsupported", OSError: "kernel"}
REFUSAL_REASONS = ("annotation", "spec", "configuration", *_KINDS.values(), "other")


def of_refusal(error: BaseException) -> str:
    """The word for a request that failed with `error`."""
    if isinstance(error, InvalidArgument):
        text = str(error)
        if text.startswith(("config.json: annotation", "config.json: variable")):
            return "annotation"
        return "spec" if text.startswith("config.json") or text.startswith("start process") else "configuration"
    return next((word for kind, word in _KINDS.items() if isinstance(error, kind)), "other")

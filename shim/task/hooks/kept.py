"""Adds the results of hooks that run without a pod server to what is kept of their container (`runtime.ended`)."""

from collections.abc import Callable, Mapping
from typing import Any

from runtime import ended, paths
from runtime.config.model import hook_label
from runtime.hooks.tail import LINE_END
from shim.task.hooks.hook_outcome import Result


def texts(result: Result) -> list[str]:
    """The lines about a hook in its container's log."""
    return [f"{result.stage}: {result.result}", *filter(None, result.output.split(LINE_END))]


def noting(head: Mapping[str, Any]) -> Callable[[Result], None]:
    """What to call with each result of the record with this `head`. It raises nothing."""
    subject = head["subject"]

    def note(result: Result) -> None:
        name = hook_label(result.name, result.owner)
        ended.append(subject["containerd_namespace"], subject["id"], "hook", name, texts(result), root=paths.ENDED)

    return note

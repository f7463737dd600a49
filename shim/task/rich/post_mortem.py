"""Keeps the log of a rich container that has not ended as it should, when its bundle goes (`runtime.ended`)."""

import logging
from collections.abc import Sequence

from runtime import ended, paths
from runtime.config.model import hook_label
from runtime.rich.plan import Plan
from shim.task.hooks.hook_outcome import Result
from shim.task.rich.subject import ContainerInfo

_log = logging.getLogger(__name__)


def keep(about: ContainerInfo, made: Plan, *, start_failed: bool, results: Sequence[Result], unusual: str) -> None:
    """Keep the container if something was not as it should. An error is logged: it must not fail a Delete.

    `start_failed`: a Start failed. `results` are those of its hooks, `unusual` what init did not do as it should or "".
    """
    reason = _reason(start_failed, results, unusual)
    if not reason:
        return
    mode = made.mode or ""
    init = made.boot.init if made.boot is not None else mode
    try:
        ended.keep(
            about.namespace,
            about.id,
            about.bundle,
            annotations=about.annotations,
            mode=mode,
            init=init,
            reason=reason,
            root=paths.ENDED,
        )
    except OSError as err:
        _log.warning("container %s: its log is not kept: %s", about.id, err)


def _reason(start_failed: bool, results: Sequence[Result], unusual: str) -> str:
    bad = [one for one in results if one.stage == "poststop" and one.result != "exit status 0"]
    first = [f"poststop hook {hook_label(one.name, one.owner)}: {one.result}" for one in bad[:1]]
    more = [f"and {len(bad) - 1} more"] if len(bad) > 1 else []
    return "; ".join([*(["its start failed"] if start_failed else []), *([unusual] if unusual else []), *first, *more])

"""Counts and times what a pod server does. No request waits for this or fails because of it.

Each call queues a number, and the event loop writes the queue when it is idle (`runtime.measured`). Labels are words
of ours (`reasons`) and never contain text from a pod.
"""

import asyncio
import logging
from collections.abc import Mapping

from runtime import measured, paths
from runtime.measured import SECONDS
from runtime.rich.plan import Plan
from shim.task.report import reasons

ROOT = paths.METRICS
AGAIN_S = 0.2
MOST = 256
"""The most numbers that are queued while another process holds the lock; more are dropped."""

_log = logging.getLogger(__name__)
_waiting: list[tuple[str, Mapping[str, str], float, tuple[float, ...]]] = []


def count(name: str, **labels: str) -> None:
    """Add one to the counter `name`."""
    _put(name, labels, 1.0, ())


def observe_seconds(name: str, seconds: float, **labels: str) -> None:
    """Add one observation of `seconds` to the histogram `name`."""
    _put(name, labels, max(0.0, seconds), SECONDS)


def count_fallback(asked: str, made: Plan) -> None:
    """Count a rich container that stays plain or did not get the mode `asked`, with the reason."""
    if made.fallback:
        count("fallbacks", asked=asked, got=made.mode or "plain", reason=made.fallback)


def count_refusal(stage: str, error: BaseException) -> None:
    """Count a failed request. `stage` is `create` or `start`."""
    count("refusals", stage=stage, reason=reasons.of_refusal(error))


def _put(name: str, labels: Mapping[str, str], value: float, bounds: tuple[float, ...]) -> None:
    if len(_waiting) < MOST:
        _waiting.append((name, labels, value, bounds))
    try:
        loop = asyncio.get_running_loop()
    except RuntimeError:
        flush()
    else:
        if len(_waiting) == 1:
            loop.call_soon(_write, loop)


def _write(loop: asyncio.AbstractEventLoop) -> None:
    flush()
    if _waiting:
        loop.call_later(AGAIN_S, _write, loop)


def flush() -> None:
    """Write all queued numbers that can be written now. Raises nothing."""
    waiting, _waiting[:] = _waiting[:], []
    for one in waiting:
        name, labels, value, bounds = one
        try:
            if not measured.add(name, labels, value, bounds=bounds, root=ROOT):
                _waiting.append(one)
        except (OSError, ValueError) as err:
            _log.debug("series %s: %s", name, err)

"""The timeouts of an application and its init."""

from collections.abc import Mapping
from typing import NamedTuple

from runtime.config.model import Config
from runtime.spec.grace import grace_s

RESERVE_S = 2.0
"""Part of a pod's grace period, kept for what follows init's shutdown. When the period is over, the kubelet kills."""


class Timeouts(NamedTuple):
    """Timeouts in seconds. `grace_s` is the pod's grace period, None where it is not known.

    `start_s` limits a boot's time without progress, `start_max_s` its whole time. `sources` name the two keys and where
    they were set. `stop_s` is init's time to shut down.
    """

    start_s: float
    stop_s: float
    start_max_s: float = 0.0
    grace_s: float | None = None
    sources: tuple[str, str] = ("rich.start-timeout", "rich.start-timeout-max")
    stop_source: str = "rich.stop-timeout"

    def shutdown_s(self, stopping_for_s: float | None) -> float:
        """How many seconds init gets for its shutdown: `stop_s`, cut to what is left of the grace period.

        The grace period began `stopping_for_s` seconds ago, with the first signal to stop; None: there was no signal.
        """
        if self.grace_s is None or stopping_for_s is None:
            return self.stop_s
        return max(0.0, min(self.stop_s, self.grace_s - stopping_for_s - RESERVE_S))


def timeouts_of(config: Config, annotations: Mapping[str, str]) -> Timeouts:
    """The timeouts of a container with these `annotations`."""
    rich = config.rich
    start, longest, stop = map(
        config.key_and_source, ("rich.start-timeout", "rich.start-timeout-max", "rich.stop-timeout")
    )
    return Timeouts(
        rich.start_timeout_s,
        rich.stop_timeout_s,
        rich.start_timeout_max_s,
        grace_s(annotations),
        sources=(start, longest),
        stop_source=stop,
    )

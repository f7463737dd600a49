"""The times that an application and its init have."""

from dataclasses import dataclass

RESERVE_S = 2.0
"""Of a pod's grace period, for what comes after init's shutdown: kubelet kills what is left when it is over."""


@dataclass(frozen=True, slots=True)
class Limits:
    """Times in seconds; `grace_s` is the pod's grace period, None where it is not known.

    `start_s` is for a boot without progress, `start_max_s` for any.

    `sources` say which keys these two are, and where they were set.

    `restarts`: an init that can is to start an application again that failed, and only the last end counts.
    """

    start_s: float
    stop_s: float
    start_max_s: float = 0.0
    grace_s: float | None = None
    restarts: bool = False
    sources: tuple[str, str] = ("rich.start-timeout", "rich.start-timeout-max")

    def shutdown_s(self, stopping_for_s: float | None) -> float:
        """What init gets for its shutdown: `stop_s`, cut to what is left of the grace period.

        That began with the first signal to stop, so many seconds ago; None where there was none.
        """
        if self.grace_s is None or stopping_for_s is None:
            return self.stop_s
        return max(0.0, min(self.stop_s, self.grace_s - stopping_for_s - RESERVE_S))

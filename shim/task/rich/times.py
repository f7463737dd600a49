"""The times of one rich container's life, written to its log and counted for `pouchrich metrics`."""

import time

from runtime.bundle_log import BundleLog
from shim.task.application.stop import StopTracker
from shim.task.report import measures


class LifecycleTimes:
    """The times of the container in `mode` with the log `log`. Call each method when its event happens.

    `stop` knows when it was told to stop; others tell it.
    """

    def __init__(self, log: BundleLog, mode: str, stop: StopTracker) -> None:
        self._log = log
        self._stop = stop
        self._mode = mode
        self._began = time.monotonic()
        self._starts = self._boots = 0.0
        self.started_at = 0.0
        self.start_failed = False

    def say(self, text: str) -> None:
        """Log `text` with the time since Create."""
        self._log.write("boot", "", [f"{text} ({time.monotonic() - self._began:.1f} s after Create)"])

    def starts(self) -> None:
        """A Start has come."""
        self._starts = time.monotonic()

    def boots(self) -> None:
        """Init is about to be started."""
        self._boots = time.monotonic()
        self.say("boots")

    def runs(self) -> None:
        """The application runs."""
        self.started_at = time.time()
        self._started("ok")
        self.say("the application runs")

    def failed(self) -> None:
        """The Start has failed."""
        self.start_failed = True
        self._started("failed")
        self.say("the start failed")

    def ended(self) -> None:
        """PID 1 has ended."""
        if (for_s := self._stop.for_s()) is not None:
            measures.observe_seconds("stop_seconds", for_s, mode=self._mode)

    def exits(self, reason: str) -> None:
        """The container has ended for `reason`."""
        measures.count("exits", mode=self._mode, reason=reason)

    def _started(self, outcome: str) -> None:
        now = time.monotonic()
        measures.observe_seconds("start_seconds", now - self._starts, mode=self._mode, outcome=outcome)
        if self._boots:
            measures.observe_seconds("boot_seconds", now - self._boots, mode=self._mode, outcome=outcome)

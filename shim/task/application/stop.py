"""Whether an application is being stopped, and since when, judged by the signals that clients have sent.

containerd does not say which signal is the stop signal: an image (STOPSIGNAL) and a pod (`lifecycle.stopSignal`) may
name any. SIGTERM, SIGINT, the configured stop signal and the init's shutdown signals always mean a stop. Any other
signal may mean a stop, or ask for a log rotation or a JVM thread dump: it counts as a stop for a grace period, after
which a client would send KILL.
"""

import asyncio
import signal
from collections.abc import Iterable

from runtime.init.signals import for_application

WINDOW_S = 30.0
"""The grace period where it is not known: the kubelet's default, and more than ctr and nerdctl wait."""


class StopTracker:
    """The stop of one application. `kind` is its init, `stop_signal` replaces SIGTERM, `grace_s` is the pod's."""

    def __init__(self, kind: str, stop_signal: int | None, grace_s: float | None) -> None:
        self._kind = kind
        self._stop_signal = stop_signal
        self._window_s = WINDOW_S if grace_s is None else grace_s
        self._began: float | None = None
        self._for_good = False

    @property
    def is_for_good(self) -> bool:
        """Whether a client has sent a signal that always means a stop."""
        return self._for_good

    def signalled(self, number: int) -> int:
        """Note signal `number` from a client, and return the signal to send to the application instead."""
        sent = for_application(number, self._kind, self._stop_signal)
        for_good = number == signal.SIGINT or sent in (self._stop_signal, signal.SIGTERM)
        if not self._for_good and (for_good or self.for_s() is None):
            self._began = asyncio.get_running_loop().time()
        self._for_good |= for_good
        return sent

    def for_init(self, number: int, translated: Iterable[tuple[int, int]]) -> int:
        """The signal to send, for a client's `number`, to an init that is the image's own command; see Boot.signals."""
        asked = self._stop_signal if number == signal.SIGTERM and self._stop_signal is not None else number
        return dict(translated).get(asked, asked)

    def for_s(self) -> float | None:
        """For how many seconds the application has been stopping; None where nobody stops it."""
        if self._began is None:
            return None
        found = asyncio.get_running_loop().time() - self._began
        return found if self._for_good or found <= self._window_s else None

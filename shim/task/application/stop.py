"""Whether an application is being stopped, and since when, by the signals that clients have sent it.

Which signal a client stops it by is not told: an image (STOPSIGNAL) and a pod (`lifecycle.stopSignal`) may name any. A
TERM or INT, and what stands for a shutdown of the init, is a stop for good. Any other signal may be one, or have a
log rotated or a JVM's threads listed: it counts for as long as a stop takes, after which the client kills.
"""

import asyncio
import signal
from collections.abc import Iterable

from runtime.init.signals import for_application

WINDOW_S = 30.0
"""Where the grace period is not known: the kubelet's default, and more than ctr and nerdctl wait."""


class Stop:
    """That of one application. `kind` is its init, `stop_signal` stands in for SIGTERM, `grace_s` is the pod's."""

    def __init__(self, kind: str, stop_signal: int | None, grace_s: float | None) -> None:
        self._kind = kind
        self._stop_signal = stop_signal
        self._window_s = WINDOW_S if grace_s is None else grace_s
        self._began: float | None = None
        self._for_good = False

    @property
    def is_for_good(self) -> bool:
        """Whether there was a signal that always is a stop."""
        return self._for_good

    def signalled(self, number: int) -> int:
        """A client sends `number`: note it, and return what the application is sent for it."""
        sent = for_application(number, self._kind, self._stop_signal)
        for_good = number == signal.SIGINT or sent in (self._stop_signal, signal.SIGTERM)
        if not self._for_good and (for_good or self.for_s() is None):
            self._began = asyncio.get_running_loop().time()
        self._for_good |= for_good
        return sent

    def for_init(self, number: int, translated: Iterable[tuple[int, int]]) -> int:
        """What an init that is the image's own command is sent for a client's `number`; see Boot.signals."""
        asked = self._stop_signal if number == signal.SIGTERM and self._stop_signal is not None else number
        return dict(translated).get(asked, asked)

    def for_s(self) -> float | None:
        """For how many seconds it has been stopping; None where it is not."""
        if self._began is None:
            return None
        found = asyncio.get_running_loop().time() - self._began
        return found if self._for_good or found <= self._window_s else None

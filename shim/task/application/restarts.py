"""The restarts of an application by its init: counted, logged, and limited in rate."""

import asyncio
import logging
from collections import deque
from collections.abc import Callable

from runtime.bundle_log import BundleLog
from runtime.init import kinds
from shim.task.report import measures

TIMEOUT_S = 10.0  # an init that has not restarted the application within this has given up
START_LIMIT, START_LIMIT_S = 5, 10.0  # systemd's own: DefaultStartLimitBurst= and DefaultStartLimitIntervalSec=

_log = logging.getLogger(__name__)


class Restarts:
    """The restarts of one container's application by `init`, the name of its kind.

    `enabled`: the node wants an application that failed restarted, and the init can do so; only the last exit counts
    then.
    """

    def __init__(self, container_id: str, init: str, *, wanted: bool, log: BundleLog | None = None) -> None:
        self._container_id = container_id
        self._init = init
        self._log = log
        self.enabled = wanted and kinds.kind_of(init).can_restart
        self._changed: Callable[[], None] = lambda: None
        self._starts: deque[float] = deque(maxlen=START_LIMIT)
        self.count = 0

    def watch(self, changed: Callable[[], None]) -> None:
        """Have `changed` called after each restart, when `count` has grown."""
        self._changed = changed

    def started(self, at_s: float) -> None:
        """Init started the application at `at_s`, a time of the event loop's clock."""
        self._starts.append(at_s)

    def restarted(self, status: int) -> None:
        """Init started the application again after it had ended with `status`."""
        self.count += 1
        measures.count("restarts_in_place")
        self._tell(f"the application ended with {status} and was restarted")
        self._changed()

    def pause_s(self) -> float:
        """How many seconds a restarted application must wait, so that it is not started too often.

        An image can lift systemd's own limit. It cannot lift this one, which allows as many starts.
        """
        if len(self._starts) < START_LIMIT:
            return 0.0
        return max(0.0, self._starts[0] + START_LIMIT_S - asyncio.get_running_loop().time())

    def given_up(self, status: int, why: str = "") -> None:
        """The application ended with `status` and was not restarted, because of `why`, or because init did not."""
        self._tell(f"the application ended with {status} and was not restarted: {why or self._why_not()}")

    def _why_not(self) -> str:
        if len(self._starts) == START_LIMIT and self._starts[-1] - self._starts[0] < START_LIMIT_S:
            return (
                f"systemd's start limit ended rich.restart, {START_LIMIT} starts in {START_LIMIT_S:g} s unless the"
                " image's system.conf says otherwise (DefaultStartLimitBurst=, DefaultStartLimitIntervalSec=)"
            )
        return f"{self._init} did not start it again within {TIMEOUT_S:g} s"

    def _tell(self, text: str) -> None:
        _log.warning("container %s: %s", self._container_id, text)
        if self._log is not None:
            self._log.write("boot", "", [text])

"""runtime.spec.grace: the pod's grace period, as an annotation has it."""

import pytest

from runtime.init import systemd
from runtime.spec.cri import GRACE_PERIOD
from runtime.spec.grace import grace_s
from tests.unit.init.settings import setting


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("30", 30.0), ("0", 0.0), ("", None), ("-1", None), ("1.5", None), ("\u0663", None), ("9" * 400, None)],
)
def test_it_is_a_number_of_seconds_that_a_pod_may_have(text, seconds):
    assert grace_s({GRACE_PERIOD: text}) == seconds
    assert grace_s({}) is None


def test_one_that_is_none_is_no_bug_of_the_plans():
    spec = {**setting().spec, "annotations": {GRACE_PERIOD: "9" * 400}}
    assert "TimeoutStopSec" not in systemd.make(setting(spec=spec)).boot.files[0].text

"""A container's plan as the commands find it: written to the bundle's record, and read again."""

import json
from typing import Any

from runtime import bundle
from runtime.rich.plan import Plan


def recorded(plan: Plan) -> dict[str, Any]:
    """The JSON object of `plan` in the bundle's record."""
    found: dict[str, Any] = json.loads(bundle.to_json(plan.as_object()))
    return found

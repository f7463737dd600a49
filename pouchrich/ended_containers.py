"""Finds what is kept of containers that have not ended as they should (`runtime.ended`)."""

import time

from runtime import ended, paths
from runtime.ended import Ended
from runtime.errors import InvalidArgument, NotFound


def label(one: Ended) -> str:
    """The container as people name it, as `Container.label`."""
    pod = one.head.get("pod")
    return f"{pod[0]}/{pod[1]}/{one.head.get('name')}" if pod else f"{one.namespace}/{one.id}"


def ended_at(one: Ended) -> str:
    """The time at which it was kept, in UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(float(one.head["at"])))


def find(wanted: str) -> Ended | None:
    """The container that `wanted` names, in the same ways as in `containers.one`; of one name the last to end.

    None where no container that is kept has the name. Raises InvalidArgument where several are meant, OSError.
    """
    if not wanted:
        return None
    kept = [(one, _names(one)) for one in ended.every(root=paths.ENDED)]
    found = [one for one, names in kept if wanted in names] or [
        one for one, names in kept if any(name.startswith(wanted) for name in names)
    ]
    if len({label(one) for one in found}) > 1:
        several = ", ".join(f"{one.namespace}/{one.id}" for one in found[:5])
        raise InvalidArgument(f"ID: found {wanted!r}, which means {len(found)} containers, allowed one of {several}")
    return found[0] if found else None


def _names(one: Ended) -> tuple[str, ...]:
    return one.id, f"{one.namespace}/{one.id}", label(one), label(one).partition("/")[2]


def one(wanted: str) -> Ended:
    """`find`, but raises NotFound where there is none."""
    found = find(wanted)
    if found is None:
        raise NotFound(f"ID: found {wanted!r}, allowed a container that ended and is kept (see pouchrich help logs)")
    return found

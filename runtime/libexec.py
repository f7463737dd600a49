"""The binaries shipped beside the package, and how to build one that is missing."""

import os

from runtime.errors import FailedPrecondition

DIRECTORY = os.path.join(os.path.dirname(os.path.abspath(__file__)), "libexec")

_BUILDS = {
    "dumb-init": "hack/build-dumb-init.sh",
    "launch": "hack/build-launcher.sh",
    "heap.so": "hack/build-heap.sh",
}


def path(name: str, *, directory: str = DIRECTORY) -> str:
    """The absolute host path of a helper. Raises FailedPrecondition with the command that builds it."""
    found = os.path.join(directory, name)
    if not os.path.isfile(found):
        reason = "no such file"
    elif not os.access(found, os.X_OK):
        reason = "not executable"
    else:
        return found
    raise FailedPrecondition(
        f"{found}: {reason}: run hack/install.sh, or in a checkout {_BUILDS[name]} {directory}/{name}"
    )

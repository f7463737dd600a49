"""The AppArmor profiles that the kernel has loaded: lines `NAME (MODE)` that only root can read (securityfs)."""

from collections.abc import Iterator

from runtime.config.kinds import short_json
from runtime.errors import FailedPrecondition

PROFILES = "/sys/kernel/security/apparmor/profiles"
ENABLED = "/sys/module/apparmor/parameters/enabled"
"""Has `Y` where AppArmor is enabled."""


def loaded(path: str = "") -> frozenset[str] | None:
    """The names of the loaded profiles. None where they cannot be seen: no AppArmor, or no securityfs mounted here."""
    try:
        with open(path or PROFILES, encoding="utf-8", errors="replace") as file:
            return frozenset(_names(file.read()))
    except OSError:
        return None


def _names(text: str) -> Iterator[str]:
    for line in text.splitlines():
        name, _, mode = line.rpartition(" ")
        if name and mode.startswith("("):
            yield name


def require(name: str, *, source: str, path: str = "") -> None:
    """Raise FailedPrecondition unless the profile is loaded; `source` is the key that names it.

    Raises nothing where the profiles cannot be seen: the kernel then refuses what the OCI runtime asks for.
    """
    there = loaded(path)
    if there is not None and name not in there:
        raise FailedPrecondition(
            f"{source}: found {short_json(name)}, which the kernel has not loaded,"
            f" allowed a profile of {path or PROFILES}: {way_out(name)}"
        )


def way_out(name: str) -> str:
    """How the profile `name` is loaded, for a message."""
    if name == "pouchrich":
        return "`pouchrich node install` loads it, and `apparmor_parser --replace /etc/apparmor.d/pouchrich`"
    return f"`apparmor_parser --replace` with the file of {name}"

"""What an image has for PID 1, read from its root filesystem: names, the first megabytes of two programs, two texts.

All reads are bounded, nothing is executed, and every path is walked below the root by `runtime.image.image`'s rules. A
program below a mount of the pod is not the image's and counts as missing.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from runtime.init.detect import (
    INITTAB,
    MACHINE_ID,
    RC_PATHS,
    SBIN_INIT,
    SYSTEMD_PATHS,
    InitFacts,
    is_machine_id,
    kind_of,
    refined,
    version_of,
)
from runtime.init.services import find_services, near

if TYPE_CHECKING:
    from runtime.image.image import Rootfs

_PROGRAM_BYTES = 4 << 20
_INITTAB_BYTES = 64 << 10
_PASSWD_BYTES = 1 << 20


def _program(root: "Rootfs", path: str, mounts: Sequence[str]) -> tuple[str, str]:
    """The path of an executable with symbolic links followed, or "" and the reason."""
    found = root.walk(path, mounts)
    if found.hidden_by is not None:
        return "", f"{path}: it is below the mount at {found.hidden_by}"
    if found.mode is None:
        return "", f"{path}: {found.error}"
    if found.mode & 0o170000 != 0o100000 or not found.mode & 0o111:
        return "", f"{path}: not an executable file"
    return found.path, ""


def _exists(root: "Rootfs", path: str) -> bool:
    return root.walk(path).mode is not None


def home_of(passwd: bytes, uid: int) -> str | None:
    """The home directory in the first entry for `uid` of a passwd(5) text, or None.

    A line that does not have seven fields is skipped. None also if the home is no absolute path of printable
    characters.
    """
    for line in passwd.split(b"\n"):
        fields = line.split(b":")
        if len(fields) == 7 and fields[2] == str(uid).encode():
            home = fields[5].decode("utf-8", "replace")
            return home if home.startswith("/") and home.isprintable() and len(home) < 4096 else None
    return None


def read(root: "Rootfs", mounts: Sequence[str], *, uid: int, services: Sequence[str]) -> InitFacts:
    """The facts about an image's inits. `mounts` are the resolved destinations of the spec; they hide what is below."""
    systemd, version = "", None
    for path in SYSTEMD_PATHS:
        target, _ = _program(root, path, mounts)
        if target:
            systemd, version = path, version_of(root.head(target, _PROGRAM_BYTES))
            break
    target, problem = _program(root, SBIN_INIT, mounts)
    present = tuple(path for path in RC_PATHS if _exists(root, path))
    text = root.walk(INITTAB, mounts)
    inittab = root.head(INITTAB, _INITTAB_BYTES).decode("utf-8", "replace") if text.mode is not None else None
    kind = kind_of(target, root.head(target, _PROGRAM_BYTES)) if target else ""
    units, scripts = find_services(root, "systemd", services), find_services(root, "sysvinit", services)
    return InitFacts(
        systemd=systemd,
        version=version,
        kind=refined(kind, present),
        target=target,
        problem=problem,
        inittab=inittab,
        present=present,
        services=tuple(units.items()),
        scripts=tuple(scripts.items()),
        near=tuple(near(root, [name for name in units if not units[name] and not scripts.get(name)]).items()),
        home=home_of(root.head("/etc/passwd", _PASSWD_BYTES), uid),
        # A machine-id that leads elsewhere is left alone: a mount there would be made where the image says.
        machine_id=root.walk(MACHINE_ID).path != MACHINE_ID or is_machine_id(root.head(MACHINE_ID)),
    )

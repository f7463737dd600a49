"""What the image's systemd would do by default to the pod's files and IPC, and the files that prevent it.

systemd-tmpfiles sets the distribution's mode and owner on directories and empties or ages /tmp, whether or not a volume
is mounted there (tmpfiles.d(5)). logind removes the shared memory of a user who logs out (logind.conf(5), RemoveIPC=),
in the IPC namespace that all containers of the pod share. tmp.mount hides what is mounted below /tmp.
"""

import re

from runtime.init.base import ModeInput, bind_step, covers
from runtime.init.boot import RunFile
from runtime.spec.edit import Step

_VOLUMES, _VOLUMES_AT = "volumes.conf", "/run/tmpfiles.d/00-pouchrich.conf"
"""Files are read in the order of their names, and of several lines for a path the first counts."""
_LOGIND, _LOGIND_AT = "logind.conf", "/run/systemd/logind.conf.d/50-pouchrich.conf"
_LOGIND_TEXT = "[Login]\nRemoveIPC=no\n"
_TREES = ("/home", "/root", "/srv", "/tmp", "/var")
"""Directories that distributions have tmpfiles lines for; nothing of the pod's is in /run."""
_AGED = ("/tmp", "/var/tmp")
_FULL = "/tmp"
"""May be in use before the boot, by prestart hooks and as the pod's working directory."""
_PLAIN = re.compile(r"[A-Za-z0-9/._+@:-]+")


def _volumes(setting: ModeInput) -> list[str]:
    """The paths at which the pod mounts something, without those that would have to be escaped."""
    paths = dict.fromkeys(point.resolved for point in setting.mounts)
    return [path for path in paths if _PLAIN.fullmatch(path) and any(covers(tree, path) for tree in _TREES)]


def files(setting: ModeInput) -> tuple[RunFile, ...]:
    """The files of this module for the run directory."""
    kept = _volumes(setting)
    # With an owner and group too the line would be the same as the distribution's, and both would be applied.
    full = "" if any(covers(path, _FULL) for path in kept) else f"d {_FULL} 1777 - - -\n"
    return (RunFile(_LOGIND, _LOGIND_TEXT), RunFile(_VOLUMES, full + "".join(f"d {path} - - - -\n" for path in kept)))


def steps(setting: ModeInput) -> tuple[Step, ...]:
    """The steps that bind those files."""
    logind = bind_step("mount-logind", "shared memory stays at a logout", f"{setting.run_dir}/{_LOGIND}", _LOGIND_AT)
    volumes = bind_step(
        "mount-tmpfiles", "/tmp and the pod's volumes stay as they are", f"{setting.run_dir}/{_VOLUMES}", _VOLUMES_AT
    )
    return (logind, volumes)


def masks(setting: ModeInput) -> tuple[str, ...]:
    """Units that would hide the content of /tmp, or remove old files where the pod mounts something."""
    at_aged = any(covers(tree, path) or covers(path, tree) for tree in _AGED for path in _volumes(setting))
    ages = ("systemd-tmpfiles-clean.timer",) if at_aged else ()
    return ("tmp.mount", *ages)

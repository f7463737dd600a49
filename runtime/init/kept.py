"""What the image's systemd would do by itself to what is the pod's, and the files that tell it not to.

systemd-tmpfiles gives directories the distribution's mode and owner, empties /tmp or has it age, whether a volume is
mounted there or not (tmpfiles.d(5)); logind removes the shared memory of a user who logs out (logind.conf(5),
RemoveIPC=), in the IPC namespace that all containers of the pod have; and tmp.mount hides what is mounted below /tmp.
"""

import re

from runtime.init.base import Setting, bound, covers
from runtime.init.boot import RunFile
from runtime.spec.edit import Step

_VOLUMES, _VOLUMES_AT = "volumes.conf", "/run/tmpfiles.d/00-pouchrich.conf"
"""Of several lines for a path the first counts, files being read by name."""
_LOGIND, _LOGIND_AT = "logind.conf", "/run/systemd/logind.conf.d/50-pouchrich.conf"
_LOGIND_TEXT = "[Login]\nRemoveIPC=no\n"
_TREES = ("/home", "/root", "/srv", "/tmp", "/var")
"""What distributions have lines for; /run is none of the pod's."""
_AGED = ("/tmp", "/var/tmp")
_FULL = "/tmp"
"""It may be in use before the boot: by prestart hooks, and as the pod's working directory."""
_PLAIN = re.compile(r"[A-Za-z0-9/._+@:-]+")


def _volumes(setting: Setting) -> list[str]:
    """Where the pod mounts something, but for paths that would have to be escaped."""
    paths = dict.fromkeys(point.resolved for point in setting.mounts)
    return [path for path in paths if _PLAIN.fullmatch(path) and any(covers(tree, path) for tree in _TREES)]


def files(setting: Setting) -> tuple[RunFile, ...]:
    """Their texts."""
    kept = _volumes(setting)
    # With owner and group too it would be no other line than the distribution's, and both would count.
    full = "" if any(covers(path, _FULL) for path in kept) else f"d {_FULL} 1777 - - -\n"
    return (RunFile(_LOGIND, _LOGIND_TEXT), RunFile(_VOLUMES, full + "".join(f"d {path} - - - -\n" for path in kept)))


def steps(setting: Setting) -> tuple[Step, ...]:
    """What binds them."""
    logind = bound("mount-logind", "shared memory stays at a logout", f"{setting.run_dir}/{_LOGIND}", _LOGIND_AT)
    volumes = bound(
        "mount-tmpfiles", "/tmp and the pod's volumes stay as they are", f"{setting.run_dir}/{_VOLUMES}", _VOLUMES_AT
    )
    return (logind, volumes)


def masks(setting: Setting) -> tuple[str, ...]:
    """Units that would hide what is in /tmp, or remove what is old where the pod mounts something."""
    at_aged = any(covers(tree, path) or covers(path, tree) for tree in _AGED for path in _volumes(setting))
    ages = ("systemd-tmpfiles-clean.timer",) if at_aged else ()
    return ("tmp.mount", *ages)

"""A setting to vary, as the tests of the inits need it."""

from runtime.host import HostFacts
from runtime.image.image import PLACES
from runtime.init.base import ModeInput, MountPoint
from runtime.init.detect import InitFacts

CAPABILITIES = ("CAP_CHOWN", "CAP_SETGID", "CAP_SETUID", "CAP_SETPCAP")
SYSTEMD = InitFacts(systemd="/usr/lib/systemd/systemd", version=252, kind="systemd")
RESOLVED = {path: path for path in PLACES}


def spec_of(*mounts, uid=0, gid=0, bounding=CAPABILITIES, readonly=False, **process):
    return {
        "process": {
            "args": ["app"],
            "env": ["PATH=/bin", "SECRET=x"],
            "cwd": "/srv",
            "user": {"uid": uid, "gid": gid},
            "capabilities": {"bounding": list(bounding)},
            **process,
        },
        "root": {"path": "rootfs", "readonly": readonly},
        "linux": {"cgroupsPath": "/kubepods/pod/c"},
        "mounts": list(mounts),
    }


def setting(*mounts, spec=None, resolved=None, mode="systemd", init=SYSTEMD, args=("app",), terminal=False, **more):
    spec = spec_of(*mounts) if spec is None else spec
    leads = resolved or {}
    points = tuple(
        MountPoint(one["destination"], leads.get(one["destination"], one["destination"]), one) for one in spec["mounts"]
    )
    known = {"host": HostFacts(), "run_dir": "/run/pouchrich/containers/ns/c", "mode": mode, "init": init, **more}
    return ModeInput(spec, tuple(args), terminal, points, {**RESOLVED, **leads}, **known)

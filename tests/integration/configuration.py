"""containerd's configuration file and the node's, as text."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.integration import binaries

CAP_SYS_RESOURCE = 24

PLAIN_FILE = "/etc/pouchrich/plain.toml"
RICH_FILE = "/etc/pouchrich/rich.toml"
WRONG_TYPE_FILE = "/etc/pouchrich/wrong-type.toml"
UNKNOWN_KEY_FILE = "/etc/pouchrich/unknown-key.toml"
NOT_TOML_FILE = "/etc/pouchrich/not.toml"
TEST_FILE = "/etc/pouchrich/test.toml"  # not there until a test writes it

POD_ANNOTATIONS = ["pouchrich.io/*"]
CONTAINER_ANNOTATIONS = ["io.kubernetes.pod.terminationGracePeriod"]
STEERING = ["run.oci.*", "org.criu.*", "org.systemd.property.*"]
POD_SUBNET = "10.222.0.0/16"


@dataclass(frozen=True, slots=True)
class Settings:
    """What the files are made from. `base` is the run's directory; `version` containerd's ("1.6", ...)."""

    version: str
    base: Path
    oci: Path
    snapshotter: str
    pause_image: str

    @property
    def socket(self) -> Path:
        return self.base / "containerd.sock"


def node_files(settings: Settings) -> dict[str, str]:
    """The shim's own configuration files, by path.

    The node file, which an installation below a prefix has there, is what the drop-in gets: plain containers.
    """
    runtime = f"version = 1\n\n[runtime]\nbinary = {_text(str(settings.oci))}\n\n"
    plain = f"{runtime}[rich]\nenabled = false\n"
    return {
        str(binaries.prefix() / "etc/pouchrich/config.toml"): plain,
        PLAIN_FILE: plain,
        RICH_FILE: f'{runtime}[rich]\nenabled = true\nmode = "dumb-init"\n',
        WRONG_TYPE_FILE: f'{runtime}[rich]\nenabled = "perhaps"\n',
        UNKNOWN_KEY_FILE: f'{runtime}[rich]\nmood = "sunny"\n',
        NOT_TOML_FILE: "version = = 1\n",
    }


def cni(settings: Settings) -> str:
    """A bridge in the run's own network namespace, without masquerading (which would need iptables)."""
    return json.dumps(
        {
            "cniVersion": "0.4.0",
            "name": "pouchrich-tests",
            "plugins": [
                {
                    "type": "bridge",
                    "bridge": "pouchrich0",
                    "isGateway": True,
                    "ipMasq": False,
                    "ipam": {
                        "type": "host-local",
                        "dataDir": str(settings.base / "ipam"),
                        "ranges": [[{"subnet": POD_SUBNET}]],
                        "routes": [{"dst": "0.0.0.0/0"}],
                    },
                }
            ],
        },
        indent=2,
    )


def handlers(settings: Settings) -> dict[str, dict[str, object]]:
    """The runtime handlers, by name: one for each `Environment.runtime`, and ours for special cases."""
    own: dict[str, object] = {
        "runtime_type": "io.containerd.pouchrich.v2",
        "pod_annotations": POD_ANNOTATIONS,
        "container_annotations": CONTAINER_ANNOTATIONS,
    }
    runc = {"BinaryName": str(settings.oci)}
    found: dict[str, dict[str, object]] = {"runc.v2": {"runtime_type": "io.containerd.runc.v2", "options": runc}}
    if binaries.shim().exists():
        found |= {
            "pouchrich-node": own,
            "pouchrich": {**own, "options": {"ConfigPath": PLAIN_FILE}},
            "dropin": {
                **own,
                "runtime_type": "io.containerd.runc.v2",
                "runtime_path": str(binaries.shim()),
                "options": runc,
            },
            # A type whose executable containerd finds nowhere: the path is all it has.
            "pouchrich-by-path": {
                **own,
                "runtime_type": "io.containerd.elsewhere.v2",
                "runtime_path": str(binaries.shim()),
                "options": {"ConfigPath": PLAIN_FILE},
            },
            "pouchrich-rich": {**own, "options": {"ConfigPath": RICH_FILE}},
            "pouchrich-wrong-type": {**own, "options": {"ConfigPath": WRONG_TYPE_FILE}},
            "pouchrich-unknown-key": {**own, "options": {"ConfigPath": UNKNOWN_KEY_FILE}},
            "pouchrich-not-toml": {**own, "options": {"ConfigPath": NOT_TOML_FILE}},
            "pouchrich-test": {
                **own,
                "container_annotations": [*CONTAINER_ANNOTATIONS, *STEERING],
                "options": {"ConfigPath": TEST_FILE},
            },
            "pouchrich-missing": {**own, "options": {"ConfigPath": "/etc/pouchrich/missing.toml"}},
            "pouchrich-inline": {
                **own,
                "options": {
                    "version": 1,
                    "runtime": {"binary": str(settings.oci)},
                    "rich": {"enabled": False},
                },
            },
        }
    return found


def containerd(settings: Settings) -> str:
    """config.toml of the daemon, in the version of the format that its release documents."""
    head = {"root": str(settings.base / "root"), "state": str(settings.base / "state")}
    tables: dict[str, Mapping[str, object]] = {"grpc": {"address": str(settings.socket)}}
    if settings.version.startswith("1."):
        tables |= _cri_1(settings)
        return _toml({"version": 2, **head}, tables)
    tables |= _cri_2(settings)
    return _toml({"version": 3, **head}, tables)


def _cri_1(settings: Settings) -> dict[str, Mapping[str, object]]:
    cri = 'plugins."io.containerd.grpc.v1.cri"'
    tables: dict[str, Mapping[str, object]] = {
        cri: {"sandbox_image": settings.pause_image, **_common(), **_streaming()},
        f"{cri}.containerd": {"snapshotter": settings.snapshotter, "default_runtime_name": "runc.v2"},
        f"{cri}.cni": {"bin_dir": cni_bin(), "conf_dir": str(settings.base / "cni")},
    }
    for name, handler in handlers(settings).items():
        tables[f'{cri}.containerd.runtimes."{name}"'] = handler
    return tables


def _cri_2(settings: Settings) -> dict[str, Mapping[str, object]]:
    images, runtime = 'plugins."io.containerd.cri.v1.images"', 'plugins."io.containerd.cri.v1.runtime"'
    tables: dict[str, Mapping[str, object]] = {
        images: {"snapshotter": settings.snapshotter},
        f"{images}.pinned_images": {"sandbox": settings.pause_image},
        runtime: _common(),
        f"{runtime}.containerd": {"default_runtime_name": "runc.v2"},
        f"{runtime}.cni": {"bin_dirs": [cni_bin()], "conf_dir": str(settings.base / "cni")},
        'plugins."io.containerd.grpc.v1.cri"': _streaming(),
    }
    for name, handler in handlers(settings).items():
        tables[f'{runtime}.containerd.runtimes."{name}"'] = handler
    return tables


def _common() -> dict[str, object]:
    """restrict_oom_score_adj only where this process may not lower the score itself (CAP_SYS_RESOURCE)."""
    return {"restrict_oom_score_adj": not _may(CAP_SYS_RESOURCE), "disable_apparmor": True}


def _streaming() -> dict[str, object]:
    return {"stream_server_address": "127.0.0.1", "stream_server_port": "0"}


def cni_bin() -> str:
    """The directory that Debian or upstream has CNI's plugins in. Raises FileNotFoundError."""
    for directory in ("/usr/lib/cni", "/opt/cni/bin", "/usr/libexec/cni"):
        if Path(directory, "bridge").exists():
            return directory
    raise FileNotFoundError("no CNI plugins: containernetworking-plugins is not installed")


def _may(capability: int) -> bool:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("CapEff:"):
            return bool(int(line.split()[1], 16) >> capability & 1)
    return False


def _text(value: str) -> str:
    return json.dumps(value)


def _toml(head: Mapping[str, object], tables: Mapping[str, Mapping[str, object]]) -> str:
    return "\n".join([*_pairs(head), *_tables(tables)]) + "\n"


def _pairs(table: Mapping[str, object]) -> list[str]:
    """JSON's strings, numbers, booleans and lists of those are also TOML's."""
    return [f"{key} = {json.dumps(value)}" for key, value in table.items() if not isinstance(value, dict)]


def _tables(tables: Mapping[str, Mapping[str, object]]) -> list[str]:
    lines: list[str] = []
    for name, table in tables.items():
        lines += ["", f"[{name}]", *_pairs(table)]
        lines += _tables({f"{name}.{key}": value for key, value in table.items() if isinstance(value, dict)})
    return lines

"""The handler's configuration for containerd, and the RuntimeClass for Kubernetes."""

import json

from runtime.config.annotations import PREFIX
from runtime.spec.cri import GRACE_PERIOD

__all__ = ["GRACE_PERIOD", "RUNTIME_TYPE", "containerd", "runtime_class", "table"]

RUNTIME_TYPE = "io.containerd.pouchrich.v2"

PLUGINS = {2: "io.containerd.grpc.v1.cri", 3: "io.containerd.cri.v1.runtime"}
"""Version of containerd's configuration format -> the CRI plugin's name."""

AS_VERSION_3 = (3, 4)
"""The formats with the plugin of version 3; containerd 2.3 and later write format 4, and can import files of 3."""

_INTO_THE_FILE = """\
# containerd {major}.x: put this into {file} itself{which}, at its end, then restart containerd.
# Do not put it into a file that is imported there (conf.d): {why},
# which all other pods need.
{also}"""
_ALSO = {
    1: "# If the file names no handler so far, name runtimes.runc too: it is a default only while none is named.\n",
    2: "",
}
_WHY = {
    1: "it would replace the whole CRI section, with runtimes.runc and the sandbox image",
    2: "a file of another version would remove the CRI section, with the sandbox image",
}
_OF_ITS_OWN = """\
# containerd 2.x, configuration of version 3 or 4: put this into a file that {file} imports,
# such as /etc/containerd/conf.d/pouchrich.toml, or without the first line at its end. Then restart containerd.
"""


def containerd(
    major: int, *, handler: str, runtime_path: str, config_path: str, version: int | None = None, file: str
) -> str:
    """The lines to add to the configuration of containerd `major`.x, and where. An empty path leaves its line out.

    `version` is the format of its configuration `file`, None if that is not known or there is no file. containerd
    passes only annotations that a handler lists.
    """
    new = major >= 2 and version in (None, *AS_VERSION_3)
    which = (
        ", which has version = 2" if version in (None, 2) else f", which has to be brought to version 2 from {version}"
    )
    where = _OF_ITS_OWN if new else _INTO_THE_FILE
    head = "version = 3\n\n" if new else ""
    lines = table(3 if new else 2, handler=handler, runtime_path=runtime_path, config_path=config_path)
    return where.format(major=major, file=file, which=which, why=_WHY[major], also=_ALSO[major]) + head + lines


def table(version: int, *, handler: str, runtime_path: str = "", config_path: str = "") -> str:
    """Only the handler's table, in format `version`, 2 or 3, of containerd's configuration."""
    name = f'plugins."{PLUGINS[version]}".containerd.runtimes.{handler}'
    lines = [
        f"[{name}]",
        f'  runtime_type = "{RUNTIME_TYPE}"',
        f'  pod_annotations = ["{PREFIX}*"]',
        f'  container_annotations = ["{GRACE_PERIOD}"]',
    ]
    if runtime_path:
        lines.append(f"  runtime_path = {json.dumps(runtime_path)}")
    if config_path:
        lines += [f"  [{name}.options]", f"    ConfigPath = {json.dumps(config_path)}"]
    return "\n".join(lines) + "\n"


def runtime_class(handler: str) -> str:
    """The manifest that lets pods name the handler as their runtimeClassName."""
    return f"apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: {handler}\nhandler: {handler}\n"

"""What containerd and Kubernetes need to be told: the handler's configuration and the RuntimeClass."""

import json

from runtime.config.annotations import PREFIX

RUNTIME_TYPE = "io.containerd.pouchrich.v2"

_PLUGINS = {1: (2, "io.containerd.grpc.v1.cri"), 2: (3, "io.containerd.cri.v1.runtime")}
"""By containerd's major version: the version of its configuration format, and the CRI plugin's name."""

GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"


def containerd(major: int, *, handler: str, runtime_path: str, config_path: str) -> str:
    """The lines to add to containerd's configuration; an empty path leaves its line out.

    containerd passes no annotation that a handler does not list.
    """
    version, plugin = _PLUGINS[major]
    table = f'plugins."{plugin}".containerd.runtimes.{handler}'
    lines = [
        f"version = {version}",
        "",
        f"[{table}]",
        f'  runtime_type = "{RUNTIME_TYPE}"',
        f'  pod_annotations = ["{PREFIX}*"]',
        f'  container_annotations = ["{GRACE_PERIOD}"]',
    ]
    if runtime_path:
        lines.append(f"  runtime_path = {json.dumps(runtime_path)}")
    if config_path:
        lines += [f"  [{table}.options]", f"    ConfigPath = {json.dumps(config_path)}"]
    return "\n".join(lines) + "\n"


def runtime_class(handler: str) -> str:
    """The manifest that lets pods name the handler as their runtimeClassName."""
    return f"apiVersion: node.k8s.io/v1\nkind: RuntimeClass\nmetadata:\n  name: {handler}\nhandler: {handler}\n"

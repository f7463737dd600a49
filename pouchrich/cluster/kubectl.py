"""The Kubernetes API through `kubectl`, which finds server and credentials as in any pod: one node, and its pods."""

import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from pouchrich.node import InstallError
from pouchrich.program import failure

TIMEOUT_S = 60.0


class Kubectl:
    """For the node `node`, with pods in the namespace `namespace`."""

    def __init__(self, node: str, namespace: str) -> None:
        program = shutil.which("kubectl")
        if program is None:
            raise InstallError("--node: found no kubectl on PATH, which the cluster is asked by")
        self._program = program
        self.node = node
        self.namespace = namespace

    def annotations(self) -> dict[str, str]:
        """The node's annotations. Raises InstallError."""
        found: dict[str, str] = self._get("node", self.node)["metadata"].get("annotations") or {}
        return found

    def labels(self) -> dict[str, str]:
        """The node's labels. Raises InstallError."""
        found: dict[str, str] = self._get("node", self.node)["metadata"].get("labels") or {}
        return found

    def label(self, labels: Mapping[str, str | None]) -> None:
        """Set labels of the node; a value of None removes the label. Raises InstallError."""
        words = [f"{name}-" if value is None else f"{name}={value}" for name, value in labels.items()]
        self._run("label", "node", self.node, "--overwrite", *words)

    def pod(self, name: str) -> dict[str, Any]:
        """Return the pod object. Raises InstallError."""
        return self._get("pod", name)

    def create(self, pod: Mapping[str, Any]) -> None:
        """Create a pod. Raises InstallError."""
        self._run("create", "-f", "-", said=json.dumps(pod))

    def delete(self, name: str) -> None:
        """Delete a pod, if it exists, and wait until it is gone. Raises InstallError."""
        self._run("delete", "pod", name, "--ignore-not-found", f"--timeout={TIMEOUT_S:g}s")

    def _get(self, kind: str, name: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._run("get", kind, name, "--output=json"))
        return found

    def _run(self, *words: str, said: str = "") -> str:
        # Without --request-timeout: with it kubectl does not look for the credentials of its pod.
        argv = [self._program, f"--namespace={self.namespace}", *words]
        try:
            done = subprocess.run(
                argv, input=said, capture_output=True, text=True, errors="replace", timeout=2 * TIMEOUT_S, check=False
            )
        except (OSError, subprocess.SubprocessError) as err:
            raise InstallError(f"kubectl {' '.join(words)}: {failure(err)}") from err
        if done.returncode:
            raise InstallError(f"kubectl {' '.join(words)}: {done.stderr.strip()[-500:]}")
        return done.stdout

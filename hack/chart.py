#!/usr/bin/env python3
"""Render deploy/chart with helm and compare the result with tests/process/golden/chart; --write replaces these files.

helm is $HELM, or found on PATH. Each file begins with a digest of the chart that it was rendered from, so that a test
without helm notices that the chart has changed since.
"""

import argparse
import hashlib
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "deploy/chart"
GOLDEN = ROOT / "tests/process/golden/chart"

EVERY_VALUE = """
containerd: k3s
image: {repository: registry.example/node, tag: "7", pullPolicy: Always, pullSecrets: [{name: pull}]}
probes: [dumb-init, systemd=registry.example/systemd]
prefix: /var/lib/node
bin: /usr/bin
address: /run/k3s/containerd/containerd.sock
restart: systemctl restart k3s
env: {KUBERNETES_SERVICE_HOST: 10.0.0.1}
ownNodeOnly: false
maxUnavailable: 10%
priorityClassName: ""
nodeSelector: {kubernetes.io/arch: arm64}
tolerations: []
resources: {}
overhead:
  pouchrich: {cpu: 1m, memory: 1Mi}
  pouchrich-systemd: {cpu: 2m, memory: 2Mi}
"""
CASES = {
    "kubeadm": "containerd: kubeadm\n",
    "uninstall": "uninstall: true\n",
    "every-value": EVERY_VALUE,
}
"""The name of a file, and the values that it is rendered with."""


def digest() -> str:
    """Of the chart's files, their names too."""
    whole = hashlib.sha256()
    for path in sorted(path for path in CHART.rglob("*") if path.is_file()):
        whole.update(f"{path.relative_to(CHART)}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return whole.hexdigest()


def render(helm: str, values: str, *, kubernetes: str = "1.36.0") -> "subprocess.CompletedProcess[str]":
    """`helm template` with these values, as YAML on its standard output."""
    words = [helm, "template", "pouchrich", str(CHART), "--namespace", "pouchrich", "--kube-version", kubernetes]
    return subprocess.run([*words, "--values", "/dev/stdin"], input=values, capture_output=True, text=True, check=False)


def golden(helm: str, name: str) -> str:
    """What a file of GOLDEN has to be. Raises subprocess.CalledProcessError."""
    done = render(helm, CASES[name])
    done.check_returncode()
    return f"# deploy/chart sha256:{digest()}\n{done.stdout}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true", help="update the expected files")
    arguments = parser.parse_args()
    helm = os.environ.get("HELM", "helm")
    subprocess.run([helm, "lint", "--strict", CHART], check=True)
    differs = []
    for name in CASES:
        path, wanted = GOLDEN / f"{name}.yaml", golden(helm, name)
        if arguments.write:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(wanted)
        elif not path.exists() or path.read_text() != wanted:
            differs.append(str(path.relative_to(ROOT)))
    if differs:
        print(f"not as helm renders the chart: {', '.join(differs)}; hack/chart.py --write", file=sys.stderr)
    return 1 if differs else 0


if __name__ == "__main__":
    sys.exit(main())

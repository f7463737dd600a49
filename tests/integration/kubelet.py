"""Pods of manifests, made through the CRI as the kubelet makes them.

What a manifest may say of a pod is what is read here; anything else raises ValueError, so that no line of one is passed
over. Volumes are directories of the node: claims and `emptyDir` begin empty, a `configMap` has its data as files.
"""

import math
import re
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import processes
from tests.integration.pods import Container, Pods
from tests.integration.waiting import until

Object = dict[str, Any]

TERMINATION_LOG = "/dev/termination-log"
GRACE_PERIOD = "io.kubernetes.pod.terminationGracePeriod"  # kubelet's annotation of a container's, in seconds
GRACE_S = 30
"""What Kubernetes gives a pod that says nothing of it."""
IN_THE_CLUSTER = {"automountServiceAccountToken": False, "enableServiceLinks": False}
"""What concerns no node, with the only value that a manifest here may have."""
UNITS = {"Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}
PERIOD_US = 100_000


def template_of(document: Object) -> Object:
    """The pod, or the template of one, in a document that has one."""
    return document if document["kind"] == "Pod" else dict(document["spec"]["template"])


class ManifestPod:
    """The pod of a manifest, whose documents are `documents`, on a node where its RuntimeClass leads to `handler`.

    `directory`, with its volumes and messages, may be that of a pod before, which had the same claims.
    """

    def __init__(self, pods: Pods, documents: list[Object], *, handler: str, directory: Path | None = None) -> None:
        self.directory = directory or pods.node.base / f"volumes-{time.monotonic_ns()}"
        self.directory.mkdir(exist_ok=True)
        self.directory.chmod(0o711)
        self._documents = documents
        (self.document,) = (one for one in documents if one["kind"] in ("Pod", "Job", "Deployment", "StatefulSet"))
        template = template_of(self.document)
        self._metadata, self._spec = dict(template["metadata"]), dict(template["spec"])
        self.grace_s = self._spec.pop("terminationGracePeriodSeconds", GRACE_S)
        if self._spec.pop("runtimeClassName") != "pouchrich":
            raise ValueError("not of the class pouchrich")
        for key, value in IN_THE_CLUSTER.items():
            if self._spec.pop(key, value) is not value:
                raise ValueError(f"{key}: not {value}")
        self._spec.pop("restartPolicy", None)
        self._volumes = {one["name"]: dict(one) for one in self._spec.pop("volumes", [])}
        for claim in self.document["spec"].get("volumeClaimTemplates", []):
            self._volumes[claim["metadata"]["name"]] = {"name": claim["metadata"]["name"], "emptyDir": None}
        self._wanted = {one["name"]: dict(one) for one in self._spec.pop("containers")}
        hostname = self._spec.pop("hostname", "")
        namespace = self.document["metadata"].get("namespace", "default")
        if self._spec:
            raise ValueError(f"not known of a pod: {sorted(self._spec)}")
        self.pod = pods.run(
            handler=handler,
            annotations=self._metadata.get("annotations"),
            name=self.document["metadata"]["name"],
            hostname=hostname,
            namespace=namespace,
            labels=self._metadata.get("labels"),
        )

    def image(self, name: str | None = None) -> str:
        """The image of a container, or of the only one."""
        return str(self._one(name)["image"])

    def _one(self, name: str | None) -> Object:
        if name is not None:
            return self._wanted[name]
        (only,) = self._wanted.values()
        return only

    def run(self, name: str | None = None) -> Container:
        """Create and start one of its containers, or the only one, and wait until it is ready. Raises CallFailed."""
        container, probe = self.create(name)
        container.start()
        if probe is not None:
            command = probe["exec"]["command"]
            until(lambda: container.exec(*command).exit_code == 0, f"the probe {command}", timeout_s=60, every_s=0.2)
        return container

    def create(self, name: str | None = None) -> tuple[Container, Object | None]:
        """A container, not started, and its readiness probe. Raises CallFailed, ValueError."""
        wanted = dict(self._one(name))
        called = str(wanted.pop("name"))
        config = pb.ContainerConfig(
            image=pb.ImageSpec(image=wanted.pop("image")),
            args=wanted.pop("args", []),
            envs=[pb.KeyValue(key=one["name"], value=one["value"]) for one in wanted.pop("env", [])],
            annotations={GRACE_PERIOD: str(self.grace_s)},
            mounts=[self._mount(one) for one in wanted.pop("volumeMounts", [])],
        )
        self.message_file(called).touch()
        config.mounts.append(
            pb.Mount(container_path=TERMINATION_LOG, host_path=str(self.message_file(called).resolve()))
        )
        _limit(config, wanted.pop("resources", {}))
        config.linux.security_context.no_new_privs = not wanted.pop("securityContext", {}).get(
            "allowPrivilegeEscalation", True
        )
        command, probe = wanted.pop("command", ()), wanted.pop("readinessProbe", None)
        wanted.pop("ports", None)
        if wanted:
            raise ValueError(f"not known of a container: {sorted(wanted)}")
        return self.pod.create(*command, name=called, config=config), probe

    def message_file(self, name: str) -> Path:
        return self.directory / f"{name}.message"

    def message(self, name: str) -> str:
        """What Kubernetes shows as the container's message once it has ended."""
        return self.message_file(name).read_text()

    def _mount(self, told: Object) -> pb.Mount:
        path = self.directory / told["name"]
        volume = self._volumes[told["name"]]
        path.mkdir(mode=0o755, exist_ok=True)
        if (source := volume.get("configMap")) is not None:
            for name, text in self._config_map(source["name"]).items():
                (path / name).write_text(text)
        elif not volume.keys() & {"emptyDir", "persistentVolumeClaim"}:
            raise ValueError(f"not known of a volume: {volume}")
        return pb.Mount(
            container_path=told["mountPath"], host_path=str(path.resolve()), readonly=told.get("readOnly", False)
        )

    def _config_map(self, name: str) -> Mapping[str, str]:
        (found,) = (one for one in self._documents if one["kind"] == "ConfigMap" and one["metadata"]["name"] == name)
        return dict(found["data"])


def _limit(config: pb.ContainerConfig, resources: Object) -> None:
    """What the kubelet makes of limits (cgroups of containers)."""
    limits = dict(resources.get("limits", {}))
    if "memory" in limits:
        config.linux.resources.memory_limit_in_bytes = amount(limits.pop("memory"))
    if "cpu" in limits:
        config.linux.resources.cpu_period = PERIOD_US
        config.linux.resources.cpu_quota = math.ceil(float(limits.pop("cpu")) * PERIOD_US)
    if limits or resources.keys() - {"limits"}:
        raise ValueError(f"not known of resources: {resources}")


def amount(text: str) -> int:
    """A quantity of bytes, such as 512Mi."""
    found = re.fullmatch(r"(\d+)(Ki|Mi|Gi)", text)
    if found is None:
        raise ValueError(f"not a quantity: {text!r}")
    return int(found[1]) * UNITS[found[2]]


def names_of(container: Container) -> list[str]:
    """The names of all processes in the container, PID 1's first."""
    found, init = [], container.pid()
    for pid in (init, *processes.descendants(init)):
        try:
            found.append(Path(f"/proc/{pid}/comm").read_text().strip())
        except OSError:  # it has ended meanwhile
            continue
    return found

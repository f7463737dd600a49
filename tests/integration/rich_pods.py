"""Rich containers with a real init, through the CRI: an image, a configuration of the test's own, a command."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.cri.gen import runtime_pb2 as pb
from tests.integration import configuration, processes, rich_images
from tests.integration.node import Node
from tests.integration.pods import OWN_PID_NAMESPACES, Container, Pod, Pods
from tests.integration.rich_images import System

HANDLER = "pouchrich-test"
BOOT_TIMEOUT_S = 60
MODES = {"systemd": "systemd", "sshd": "systemd", "services": "systemd"}


def configure(node: Node, rich: str = "", more: str = "") -> None:
    """Write the configuration file that HANDLER names: `rich` are lines of its [rich] table, `more` follows."""
    text = f'version = 1\n\n[runtime]\nbinary = "{node.oci}"\n\n[rich]\n{rich}\n{more}\n'
    node.write_files({configuration.TEST_FILE: text})


class RichPods:
    """Makes pods whose one container has `system` as its image."""

    def __init__(self, pods: Pods) -> None:
        self.pods = pods
        self.node = pods.node

    def pod(
        self,
        mode: str = "systemd",
        *,
        rich: str = "",
        more: str = "",
        annotations: Mapping[str, str] | None = None,
        namespaces: pb.NamespaceOption = OWN_PID_NAMESPACES,
        namespace: str = "tests",
    ) -> Pod:
        """A pod whose handler has `mode`, unless that is "", and what `configure` takes."""
        configure(self.node, f'mode = "{mode}"\n{rich}' if mode else rich, more)
        return self.pods.run(handler=HANDLER, annotations=annotations, namespaces=namespaces, namespace=namespace)

    def create(
        self, pod: Pod, system: System | str, *command: str, config: pb.ContainerConfig | None = None, name: str = "app"
    ) -> Container:
        """A container of the system's image, or of the image named."""
        image = rich_images.import_system(self.node, system) if isinstance(system, System) else system
        wanted = pb.ContainerConfig(image=pb.ImageSpec(image=image))
        if config is not None:
            wanted.MergeFrom(config)
        return pod.create(*command, config=wanted, name=name)

    def run(
        self,
        system: System | str,
        *command: str,
        config: pb.ContainerConfig | None = None,
        rich: str = "",
        more: str = "",
        annotations: Mapping[str, str] | None = None,
    ) -> Container:
        """A pod of its own, with one container, started."""
        return self.create(
            self.pod(mode_of(system), rich=rich, more=more, annotations=annotations), system, *command, config=config
        ).start()


def mode_of(system: System | str) -> str:
    """The mode that is the image's own."""
    return "systemd" if isinstance(system, str) else MODES.get(system.kind, "sbin-init")


def application(container: Container) -> int:
    """The host pid of the application, which its shim knows."""
    init = container.pid()
    found = [pid for pid in processes.descendants(init) if _environment(pid).get(b"IS_APPLICATION") == b"yes"]
    assert found, f"no application below {init}"
    return found[0]


def _environment(pid: int) -> dict[bytes, bytes]:
    try:
        text = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return {}
    return dict(one.partition(b"=")[::2] for one in text.split(b"\0"))


def security(
    *, uid: int | None = None, drop: Sequence[str] = (), add: Sequence[str] = (), no_new_privs: bool = False
) -> pb.ContainerConfig:
    """The part of a container's config that says who it runs as and with what."""
    context = pb.LinuxContainerSecurityContext(
        capabilities=pb.Capability(drop_capabilities=drop, add_capabilities=add), no_new_privs=no_new_privs
    )
    if uid is not None:
        context.run_as_user.value = uid
    return pb.ContainerConfig(linux=pb.LinuxContainerConfig(security_context=context))


def variables(values: Mapping[str, str]) -> pb.ContainerConfig:
    """The part of a container's config that has the environment."""
    return pb.ContainerConfig(envs=[pb.KeyValue(key=key, value=value) for key, value in values.items()])

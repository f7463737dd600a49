"""runtime.spec.identity: Kubernetes' names in a pod, containerd's outside one."""

from runtime.config.model import When
from runtime.spec.identity import Identity

POD = {
    "io.kubernetes.cri.sandbox-namespace": "shop",
    "io.kubernetes.cri.image-name": "web:1",
    "io.kubernetes.cri.container-name": "web",
}


def of(annotations):
    return Identity.from_spec({"annotations": annotations}, namespace="k8s.io", container_id="4f1e")


def test_in_a_pod_the_names_are_kubernetes_and_outside_containerds():
    assert of(POD) == Identity("shop", "web:1", "web")
    assert of({}) == Identity("k8s.io", "", "4f1e")


def test_what_selects_by_a_name_looks_at_that_name():
    web = of(POD)
    for key, name in (("namespace", "shop"), ("image", "web:*"), ("container", "web"), ("mode", "systemd")):
        assert web.selects(When(**{key: (name,)}), "systemd")
        assert not web.selects(When(**{key: ("other",)}), "systemd")
    assert web.selects(When(mode=("systemd",)), None)

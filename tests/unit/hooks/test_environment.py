"""runtime.hooks.environment: what a hook is told."""

import json

import pytest

from runtime.default_path import DEFAULT_PATH
from runtime.hooks import environment
from runtime.hooks.environment import Ending, HookSubject

SUBJECT = HookSubject(
    id="c1",
    containerd_namespace="k8s.io",
    bundle="/b",
    rootfs="/b/rootfs",
    name="web",
    namespace="shop",
    mode="systemd",
    annotations={"evil": "$(reboot)\n"},
)


@pytest.mark.parametrize(
    ("status", "oom", "reason"),
    [
        (0, False, "Completed"),
        (7, False, "Error"),
        (128, False, "Error"),
        (137, False, "Signal"),
        (143, False, "Signal"),
        (137, True, "OOMKilled"),
        (255, False, "Error"),
    ],
)
def test_the_reason_follows_from_the_status(status, oom, reason):
    assert environment.ending(status, oom_killed=oom) == Ending(status, reason)


def test_poststop_is_told_how_it_ended_and_prestart_is_not():
    assert environment.variables(SUBJECT) == {
        "POUCHRICH_NAME": "web",
        "POUCHRICH_NAMESPACE": "shop",
        "POUCHRICH_MODE": "systemd",
    }
    told = environment.variables(SUBJECT, environment.SHIM_KILLED)
    assert (told["POUCHRICH_EXIT_CODE"], told["POUCHRICH_EXIT_REASON"]) == ("137", "ShimKilled")


@pytest.mark.parametrize("name", ["", "a b", "x\ny", "-x", "$(reboot)", "a" * 254])
def test_a_name_of_another_form_than_kubernetes_gives_is_not_passed_on(name):
    bent = HookSubject(**{**SUBJECT.to_dict(), "name": name, "namespace": name})
    told = environment.variables(bent)
    assert (told["POUCHRICH_NAME"], told["POUCHRICH_NAMESPACE"]) == ("c1", "k8s.io")


def test_a_host_hooks_environment_is_fixed_and_its_table_cannot_change_what_it_is_told():
    env = environment.host_environment({"A": "b", "POUCHRICH_NAME": "x"}, environment.variables(SUBJECT))
    assert env.pop("PATH") == DEFAULT_PATH
    assert env == {"A": "b", **environment.variables(SUBJECT)}


def test_the_state_is_ocis_and_has_a_pid_only_with_a_process():
    state = json.loads(environment.state(SUBJECT, status="created", pid=7))
    assert state == {
        "ociVersion": "1.0.2",
        "id": "c1",
        "status": "created",
        "pid": 7,
        "bundle": "/b",
        "annotations": {"evil": "$(reboot)\n"},
    }
    assert "pid" not in json.loads(environment.state(SUBJECT, status="stopped", pid=0))


def test_a_subject_survives_json():
    assert HookSubject(**json.loads(json.dumps(SUBJECT.to_dict()))) == SUBJECT

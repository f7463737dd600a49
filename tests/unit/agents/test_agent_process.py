import pytest

from runtime.agents.process import supervised
from runtime.image.passwd import User
from tests.unit.agents.making import ROOT, selected

POD = {
    "process": {
        "user": {"uid": 1000, "gid": 1000},
        "args": ["app"],
        "env": ["SECRET=x"],
        "cwd": "/srv",
        "noNewPrivileges": True,
        "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 10, "soft": 10}],
        "apparmorProfile": "pod",
        "oomScoreAdj": 500,
        "capabilities": {"bounding": ["CAP_CHOWN", "CAP_KILL"], "effective": ["CAP_KILL"], "ambient": ["CAP_KILL"]},
    }
}
APP = User(1000, 1001, (4,), "app", "/home/app")


@pytest.mark.parametrize(("user", "effective"), [(ROOT, ["CAP_CHOWN", "CAP_KILL"]), (APP, [])])
def test_an_agent_has_never_more_capabilities_than_the_pod(user, effective):
    found = supervised(selected(user), POD).process["capabilities"]
    assert found["bounding"] == ["CAP_CHOWN", "CAP_KILL"]
    assert found["effective"] == found["permitted"] == effective
    assert found["inheritable"] == found["ambient"] == []


def test_an_agent_has_the_pods_limits_and_labels():
    found = supervised(selected(), POD).process
    assert found["noNewPrivileges"] is True
    assert found["apparmorProfile"] == "pod"
    assert found["oomScoreAdj"] == 500
    assert found["rlimits"] == POD["process"]["rlimits"]
    assert "selinuxLabel" not in found


def test_an_agent_has_none_of_the_pods_environment():
    found = supervised(selected(APP, env=(("A", "b=c"),)), POD).process
    assert found["env"][0].startswith("PATH=/usr/local/sbin:")
    assert found["env"][1:] == ["HOME=/home/app", "A=b=c"]
    assert supervised(selected(env=(("PATH", "/x"), ("HOME", "/h"))), POD).process["env"] == ["PATH=/x", "HOME=/h"]


def test_an_agent_is_its_user_with_its_groups():
    assert supervised(selected(APP), POD).process["user"] == {"uid": 1000, "gid": 1001, "additionalGids": [4]}


def test_a_pod_without_capabilities_gives_none():
    assert supervised(selected(), {"process": {}}).process["capabilities"]["effective"] == []

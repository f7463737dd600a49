"""runtime.init.process: PID 1's privilege and environment, and the application kept to the letter."""

import uuid

import pytest

from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.init import process
from runtime.init.detect import InitFacts
from tests.unit.init.settings import CAPABILITIES, SYSTEMD, setting, spec_of


def process_of(one, arguments=("/init",)):
    made = None if one.is_own_command else process.application(one)
    return process.step(one, made, arguments).edit(one.spec)["process"]


def test_pid_1_is_root_with_the_pods_bounding_set_and_nothing_else_of_the_pods():
    found = process_of(setting(spec=spec_of(uid=1000, gid=1000, noNewPrivileges=True, oomScoreAdj=500)))
    assert found["user"] == {"uid": 0, "gid": 0}
    names = list(CAPABILITIES)
    assert found["capabilities"] == {
        "bounding": names,
        "effective": names,
        "permitted": names,
        "inheritable": [],
        "ambient": [],
    }
    assert found["env"][0] == "container=pouch"
    assert [one.partition("=")[0] for one in found["env"]] == ["container", "container_uuid", "HOME", "TERM"]
    assert (found["args"], found["terminal"]) == (["/init"], True)
    assert (found["noNewPrivileges"], found["oomScoreAdj"], found["cwd"]) == (True, 500, "/srv")


def test_pid_1_keeps_the_variables_by_which_an_oci_runtime_gives_devices():
    """NVIDIA's container runtime and its hook read them from process.env of config.json."""
    spec = spec_of()
    spec["process"]["env"] += ["NVIDIA_VISIBLE_DEVICES=GPU-1", "HABANA_VISIBLE_DEVICES=0", "VISIBLE_DEVICES=no"]
    found = process_of(setting(spec=spec))["env"]
    assert found[4:] == ["NVIDIA_VISIBLE_DEVICES=GPU-1", "HABANA_VISIBLE_DEVICES=0"]


def test_an_image_whose_command_is_the_init_keeps_the_pods_environment():
    found = process_of(setting(is_own_command=True))
    assert {"SECRET=x", "container=pouch", "rich_mode=true"} <= set(found["env"])


@pytest.mark.parametrize("uid", [0, 1000])
def test_an_image_whose_command_is_the_init_keeps_the_pods_groups_and_umask(uid):
    spec = spec_of()
    spec["process"]["user"] = {"uid": uid, "gid": 1000, "additionalGids": [2000], "umask": 0o77}
    user = process_of(setting(spec=spec, is_own_command=True))["user"]
    assert user == {"uid": 0, "gid": 1000, "additionalGids": [2000], "umask": 0o77}
    assert process_of(setting(spec=spec))["user"] == {"uid": 0, "gid": 0}


@pytest.mark.parametrize(
    ("kind", "asked", "terminal", "streams"),
    [
        ("systemd", True, True, True),
        ("systemd", False, True, False),
        ("sysvinit", False, True, False),
        ("busybox", True, True, True),
        ("busybox", False, False, True),
    ],
)
def test_an_image_whose_command_is_the_init_has_the_pods_terminal_or_the_streams_that_it_uses(
    kind, asked, terminal, streams
):
    one = setting(is_own_command=True, terminal=asked, init=InitFacts(kind=kind))
    assert (process_of(one)["terminal"], process.has_streams(one)) == (terminal, streams)
    beside = setting(terminal=asked, init=InitFacts(kind=kind))
    assert (process_of(beside)["terminal"], process.has_streams(beside)) == (True, False)


@pytest.mark.parametrize("name", ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"])
def test_what_systemd_lacks_for_a_boot_is_named(name):
    with pytest.raises(InvalidArgument) as caught:
        process_of(setting(spec=spec_of(bounding=[one for one in CAPABILITIES if one != name])))
    assert str(caught.value) == (
        f"config.json: process.capabilities.bounding: found no {name} (for systemd's own services), allowed a set that"
        " has it in mode systemd: systemd as PID 1 cannot boot without; add it to the container's capabilities, or"
        " to rich.init-capabilities on the node"
    )


def test_the_node_may_give_inits_a_set_that_the_application_does_not_get():
    one = setting(spec=spec_of(bounding=[]), capabilities=CAPABILITIES)
    assert process_of(one)["capabilities"]["bounding"] == list(CAPABILITIES)
    assert process.application(one).bounding == 0


def test_a_set_of_the_nodes_must_hold_what_the_application_needs():
    one = setting(spec=spec_of(bounding=(*CAPABILITIES, "CAP_KILL")), capabilities=CAPABILITIES)
    with pytest.raises(
        InvalidArgument, match=r"rich\.init-capabilities: found no CAP_KILL \(for the application's own"
    ):
        process_of(one)


@pytest.mark.parametrize(("user", "needed"), [({}, ""), ({"uid": 7}, "CAP_SETUID"), ({"gid": 7}, "CAP_SETGID")])
def test_a_plain_init_needs_what_the_launcher_needs(user, needed):
    one = setting(spec=spec_of(bounding=[], **user), mode="sbin-init", init=InitFacts(kind="busybox"))
    if needed:
        with pytest.raises(InvalidArgument, match=f"found no {needed}"):
            process_of(one)
    else:
        assert process_of(one)["capabilities"]["bounding"] == []


def test_the_application_is_the_pods_process_with_the_limits_we_would_have_passed_on():
    host = HostFacts(rlimits=((7, 1024, 4096), (4, 0, 1)))
    limits = [{"type": "RLIMIT_NOFILE", "soft": 5, "hard": 6}]
    init = SYSTEMD._replace(home="/home/app")
    one = setting(spec=spec_of(uid=1000, rlimits=limits), args=("app", "-x"), host=host, init=init)
    found = process.application(one)
    assert (found.args, found.uid, found.cwd) == (("app", "-x"), 1000, "/srv")
    assert found.rlimits == ((7, 5, 6), (4, 0, 1))
    assert set(found.env) == {
        *("PATH=/bin", "SECRET=x", "HOME=/home/app"),
        *("rich_mode=true", "rich_mode_launch_manner=systemd"),
    }


def test_the_uuid_is_the_containers_in_its_pod_whatever_its_id():
    pod = {"annotations": {process.SANDBOX_UID: "u", process.CONTAINER_NAME: "a"}}
    other = {"annotations": {process.SANDBOX_UID: "u", process.CONTAINER_NAME: "b"}}
    assert process.uuid_of(pod, "/1") == process.uuid_of(pod, "/2") != process.uuid_of(other, "/1")
    assert process.uuid_of({}, "/1") != process.uuid_of({}, "/2")
    found = uuid.UUID(process.uuid_of({}, "/1"))
    assert (found.version, found.variant) == (8, uuid.RFC_4122)

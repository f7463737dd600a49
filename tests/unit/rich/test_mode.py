"""runtime.rich.mode: which mode a container gets, who may have asked for it, and why it cannot be had."""

import pytest

from runtime import config
from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.image.image import PLACES, Command, ImageFacts
from runtime.init.detect import InitFacts
from runtime.rich import plan, policy
from runtime.spec.identity import Identity
from tests.plans import recorded

CAPABILITIES = ["CAP_SETUID", "CAP_SETGID", "CAP_SETPCAP"]
SYSTEMD = InitFacts(systemd="/usr/lib/systemd/systemd", version=252, kind="systemd")
BUSYBOX = InitFacts(kind="busybox")
NOTHING = InitFacts(problem="/sbin/init: no such file or directory")
HYBRID = HostFacts(cgroups="hybrid", nsdelegate=False, named="/sys/fs/cgroup/systemd")
V1 = HostFacts(cgroups="v1", nsdelegate=False, named="/sys/fs/cgroup/systemd")


def planned(
    annotations=(),
    *,
    body="",
    init=SYSTEMD,
    host=None,
    uid=0,
    args=("app",),
    own_pids=True,
    command=None,
    env=(),
    resolved=(),
    name="web",
    bounding=CAPABILITIES,
):
    spec = {
        "process": {
            "args": list(args),
            "env": list(env),
            "user": {"uid": uid, "gid": 0},
            "capabilities": {"bounding": list(bounding)},
        },
        "annotations": {f"pouchrich.io/{key}": value for key, value in dict(annotations).items()}
        | {"io.kubernetes.cri.container-name": name},
        "linux": {"cgroupsPath": "/c", "namespaces": [{"type": "pid"}] if own_pids else []},
    }
    facts = ImageFacts(
        command or Command(args[0], "/bin/app", "/bin/app"), {one: one for one in PLACES} | dict(resolved), init=init
    )
    settings = config.parse(f"version = 1\n{body}", source="/etc/c.toml")
    identity = Identity.from_spec(spec, namespace="k8s.io", container_id="id")
    choice = policy.choose(spec, settings, identity)
    return plan.make(spec, choice, config=settings, facts=facts, terminal=False, host=host, run_dir="/run/x")


def refused(*args, **options):
    with pytest.raises(InvalidArgument) as caught:
        planned(*args, **options)
    return str(caught.value)


@pytest.mark.parametrize("mode", ["systemd", "sbin-init", "dumb-init"])
def test_a_mode_that_can_be_had_is_had(mode):
    found = planned({"mode": mode})
    assert (found.rich, found.mode, found.fallback) == (True, mode, "")
    assert (found.boot is None) == (mode == "dumb-init")


@pytest.mark.parametrize(
    ("asked", "options", "got", "reason"),
    [
        ("auto", {}, "systemd", ""),
        ("dumb-init", {"own_pids": False}, None, "pid-namespace"),
        ("systemd", {"own_pids": False}, None, "pid-namespace"),
        ("systemd", {"init": BUSYBOX}, "dumb-init", "image"),
        ("auto", {"init": BUSYBOX}, "dumb-init", "image"),
        ("sbin-init", {"resolved": {"/run": "/etc"}}, "dumb-init", "image"),
        ("sbin-init", {"init": NOTHING}, "dumb-init", "init"),
        ("sbin-init", {"init": InitFacts(kind="runit")}, "dumb-init", "init"),
        ("systemd", {"init": InitFacts(systemd="/s", version=219)}, "dumb-init", "cgroups"),
        ("auto", {"init": InitFacts(systemd="/s", version=219), "host": V1}, "dumb-init", "cgroups"),
        ("systemd", {"bounding": ()}, "dumb-init", "init"),
        ("auto", {"uid": 1000}, "dumb-init", "init"),
        ("systemd", {"args": ("/sbin/runit-init",)}, None, "image-init"),
        ("dumb-init", {"args": ("/lib/systemd/systemd",)}, "systemd", "image-init"),
        ("auto", {"args": ("/lib/systemd/systemd",)}, "systemd", ""),
        ("systemd", {"args": ("/lib/systemd/systemd",)}, "systemd", ""),
    ],
)
def test_why_a_container_has_another_mode_than_was_asked_for_is_one_word(asked, options, got, reason):
    command = Command(options["args"][0], *options["args"], *options["args"]) if "args" in options else None
    found = planned({"mode": asked}, command=command, **options)
    assert (found.mode, found.fallback) == (got, reason)


def test_auto_is_systemd_where_the_image_has_it_and_says_why_not_elsewhere():
    assert planned({"mode": "auto"}).mode == "systemd"
    found = planned({"mode": "auto"}, init=BUSYBOX)
    assert found.mode == "dumb-init"
    assert found.decisions[-1].source == "auto: /usr/lib/systemd/systemd: not in the image"
    assert planned({"mode": "auto"}, host=V1, init=InitFacts(systemd="/s", version=219)).mode == "dumb-init"


def test_asked_for_this_very_container_the_error_names_the_path_and_the_modes_that_work():
    assert refused({"mode.web": "systemd"}, init=BUSYBOX) == (
        "config.json: annotation pouchrich.io/mode.web: found mode systemd, which is not possible:"
        " /usr/lib/systemd/systemd: not in the image; allowed sbin-init, dumb-init, auto"
    )
    assert refused({"mode.web": "sbin-init"}, init=NOTHING) == (
        "config.json: annotation pouchrich.io/mode.web: found mode sbin-init, which is not possible:"
        " /sbin/init: no such file or directory; allowed dumb-init, auto"
    )
    assert "which is not possible" in refused(env=["rich_mode_launch_manner=systemd"], init=NOTHING)


@pytest.mark.parametrize(
    ("annotations", "body"), [({"mode": "systemd"}, ""), ({}, "rich.mode = 'systemd'")], ids=["pod", "node"]
)
def test_asked_for_more_widely_it_is_dumb_init_with_the_reason_unless_strict(annotations, body):
    found = planned(annotations, body=body, init=NOTHING)
    assert found.mode == "dumb-init"
    reason = "mode systemd is not possible: /usr/lib/systemd/systemd: not in the image"
    assert found.decisions[-1] == policy.Decision("mode", "dumb-init", reason)
    assert found.warnings[0].endswith(f"{reason}: dumb-init instead")
    assert "which is not possible" in refused(annotations, body=f"{body}\nrich.strict = true", init=NOTHING)


def test_the_warning_about_a_shared_pid_namespace_says_that_the_container_stays_plain():
    found = planned({"mode": "systemd"}, own_pids=False)
    assert (found.rich, found.mode) == (False, None)
    assert found.warnings == (
        "annotation pouchrich.io/mode: mode systemd is not possible: the container is in the host's pid namespace:"
        " it cannot have a PID 1 of its own: the container stays plain",
    )


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("runit", "/sbin/init: it is runit, under which the command cannot be PID 1's child"),
        ("", "/sbin/init: it is an init of unknown kind"),
        ("sysvinit", "/sbin/init: it is sysvinit, but there are no start scripts of a known kind"),
    ],
)
def test_an_init_that_is_not_supported_is_named(kind, words):
    assert words in refused({"mode.web": "sbin-init"}, init=InitFacts(kind=kind))


@pytest.mark.parametrize(
    ("version", "host", "words"),
    [
        (219, V1, "only cgroup v1's name=systemd hierarchy, where the kernel limits neither"),
        (219, V1, 'their memory; to permit that, the node sets rich.cgroup-v1 = allow (found "refuse"; built in)'),
        (219, HYBRID, "systemd 219 of the image cannot use cgroup v2"),
        (219, HostFacts(cgroups="v1"), "systemd 219 of the image needs the name=systemd hierarchy"),
        (219, HostFacts(), "systemd 219 of the image needs cgroup v1, and this host has cgroup v2 only"),
    ],
)
@pytest.mark.parametrize("mode", ["systemd", "sbin-init"])
def test_a_systemd_that_cannot_boot_here_is_refused_early(mode, version, host, words):
    init = InitFacts(systemd="/usr/lib/systemd/systemd", version=version, kind="systemd")
    assert words in refused({"mode.web": mode}, init=init, host=host)


@pytest.mark.parametrize("host", [V1, HYBRID])
def test_a_systemd_that_knows_v1_alone_is_the_nodes_to_allow(host):
    init = InitFacts(systemd="/usr/lib/systemd/systemd", version=219, kind="systemd")
    found = planned({"mode.web": "systemd"}, body="rich.cgroup-v1 = 'allow'", init=init, host=host)
    assert found.mode == "systemd"
    assert found.cgroup.directory


@pytest.mark.parametrize("mode", ["systemd", "sbin-init"])
def test_an_image_whose_run_leads_elsewhere_has_no_room_for_an_init(mode):
    resolved = {"/run": "/etc"}
    words = '/run: the image has a symbolic link to "/etc" there; allowed dumb-init, auto'
    assert words in refused({"mode.web": mode}, resolved=resolved)
    assert planned({"mode": mode}, resolved=resolved).mode == "dumb-init"


@pytest.mark.parametrize(
    ("version", "host"), [(257, V1), (None, V1), (262, V1), (252, HostFacts(cgroups="v1")), (262, HYBRID), (262, None)]
)
def test_a_systemd_that_can_boot_here_is_not(version, host):
    init = InitFacts(systemd="/usr/lib/systemd/systemd", version=version, kind="systemd")
    assert planned({"mode.web": "systemd"}, init=init, host=host).mode == "systemd"


@pytest.mark.parametrize("mode", ["systemd", "sbin-init"])
def test_without_a_pid_namespace_of_its_own_no_init_can_be_had(mode):
    words = "the container is in the host's pid namespace: it cannot have a PID 1 of its own; allowed rich = false"
    assert words in refused({"mode.web": mode}, own_pids=False)
    assert not planned({"mode": mode}, own_pids=False).rich
    assert not planned({"mode": "auto"}, own_pids=False).rich


@pytest.mark.parametrize(
    ("rule", "by_pod", "allowed"),
    [("auto", True, False), ("auto", False, True), ("allow", True, True), ("refuse", False, False)],
)
def test_root_as_pid_1_of_a_pod_of_another_user(rule, by_pod, allowed):
    body = f"rich.root-init = '{rule}'" + ("" if by_pod else "\nrich.mode = 'systemd'")
    annotations = {"mode": "systemd"} if by_pod else {}
    if allowed:
        assert planned(annotations, body=body, uid=1000).boot.launch.uid == 1000
    else:
        assert "for a container of user 1000, allowed for user 0 only: PID 1 would be root" in refused(
            annotations, body=body, uid=1000
        )
    assert planned(annotations, body=body).mode == "systemd"


@pytest.mark.parametrize(
    ("command", "init", "mode"),
    [
        (Command("/lib/systemd/systemd", "/lib/systemd/systemd", "/usr/lib/systemd/systemd"), SYSTEMD, "systemd"),
        (Command("/sbin/init", "/sbin/init", "/usr/lib/systemd/systemd"), SYSTEMD, "systemd"),
        (Command("init", "/sbin/init", "/bin/busybox"), BUSYBOX, "sbin-init"),
    ],
)
def test_an_image_whose_command_is_an_init_gets_its_mode_whatever_was_asked(command, init, mode):
    found = planned({"mode": "dumb-init"}, command=command, init=init, args=(command.name,))
    assert (found.rich, found.mode, found.boot.launch) == (True, mode, None)
    assert found.decisions[-1].source.startswith("the image's command already is an init: /")


@pytest.mark.parametrize(
    ("body", "uid", "words"),
    [
        ("rich.pod-override = ['rich']", 0, "pods may not choose a mode (rich.pod-override; /etc/c.toml: rich.pod-ov"),
        ("", 1000, "its user is 1000 (rich.root-init; built in)"),
    ],
)
def test_where_policy_does_not_permit_it_such_an_image_stays_plain(body, uid, words):
    command = Command("/sbin/init", "/sbin/init", "/usr/lib/systemd/systemd")
    found = planned(body=body, uid=uid, command=command, args=("/sbin/init",))
    assert (found.rich, found.steps, found.boot) == (False, (), None)
    assert words in found.decisions[-1].source


def test_such_an_image_that_cannot_boot_is_refused_in_a_sentence():
    command = Command("/sbin/init", "/sbin/init", "/usr/lib/systemd/systemd")
    init = InitFacts(systemd="/usr/lib/systemd/systemd", version=219, kind="systemd")
    words = "found /sbin/init, which cannot boot: systemd 219 of the image cannot use cgroup v2"
    assert words in refused(command=command, init=init, host=V1, args=("/sbin/init",))


@pytest.mark.parametrize("name", ["/usr/bin/tini", "/init-of-runit"])
def test_by_its_command_a_pod_does_not_escape_what_is_mandatory(name):
    body = 'agents = [{name = "scan", command = ["/s"], mandatory = true}]'
    command = Command(name, name, "/usr/bin/dumb-init")
    assert (
        "found a container that has to stay plain, allowed a rich one: the node's agent scan is mandatory"
        " (/etc/c.toml: agents)" in (refused(body=body, command=command, args=(name,)))
    )


def test_a_services_annotation_needs_units_of_the_image_and_an_init_that_manages_them():
    has = InitFacts(
        systemd="/usr/lib/systemd/systemd", version=252, kind="systemd", services=(("cron", "/cron.service"),)
    )
    found = planned({"mode": "systemd", "services": "cron"}, init=has)
    assert "After=cron.service" in found.boot.files[2].text
    about = {"mode": "systemd", "services": "cron,sshd"}
    assert "annotation pouchrich.io/services: found sshd, allowed a unit of the image" in refused(about, init=has)
    assert "found cron, allowed none: dumb-init manages no services" in refused({"services": "cron"}, init=has)
    assert "found cron, allowed none: busybox manages no services" in refused(
        {"mode": "sbin-init", "services": "cron"}, init=BUSYBOX
    )


def test_a_pods_mode_is_no_way_past_the_nodes_mandatory_services():
    has = InitFacts(systemd="/usr/lib/systemd/systemd", version=252, kind="systemd")
    body = 'rich.mode = "systemd"\nservices.mandatory = ["audit"]'
    assert "services.mandatory: found audit" in refused({"mode": "dumb-init"}, body=body, init=has)
    assert "services.mandatory: found audit" in refused({}, body=body, init=has)
    body = 'rich.mode = "dumb-init"\nservices.mandatory = ["audit"]'
    assert "services.mandatory: found audit" in refused({"mode": "systemd"}, body=body, init=has)
    for asked in ({}, {"mode": "dumb-init"}):
        quiet = planned(asked, body=body, init=has)
        assert "services.mandatory: found audit" in quiet.warnings[0]


@pytest.mark.parametrize("mode", ["systemd", "sbin-init", "auto"])
def test_nor_is_its_image_or_its_containers_name(mode):
    has = InitFacts(systemd="/usr/lib/systemd/systemd", version=252, kind="systemd")
    body = f'rich.mode = "{mode}"\nservices.mandatory = ["audit"]'
    without = "services.mandatory: found audit, allowed only where systemd is PID 1"
    assert without in refused({}, body=body, init=InitFacts(problem="/sbin/init: no such file or directory"))
    assert without in refused(name="debugger-web", body=body, init=has)
    spared = planned(name="debugger-web", body=f'{body}\nrich.ephemeral = ["debugger-*"]', init=has)
    assert spared.mode == "dumb-init"
    assert "services.mandatory: found audit" in spared.warnings[-1]


def test_a_nodes_services_that_cannot_be_had_are_warnings():
    found = planned({"mode": "systemd"}, body='services.enable = ["sshd"]')
    assert found.warnings == ("/etc/c.toml: services.enable: found sshd, allowed a unit of the image: skipped",)


def test_what_a_pod_set_and_a_plain_container_has_no_use_for_is_a_warning():
    found = planned({"stop-signal": "SIGINT"}, own_pids=False)
    assert found.warnings == ("annotation pouchrich.io/stop-signal: ignored, the container stays plain",)


def test_restarting_in_place_is_systemds_alone():
    body = "rich.restart = 'on-failure'"
    assert "Restart=on-failure" in planned({"mode": "systemd"}, body=body).boot.files[0].text
    assert planned({"mode": "sbin-init"}, body=body, init=BUSYBOX).warnings == (
        "/etc/c.toml: rich.restart: ignored, only systemd restarts an application that failed",
    )


@pytest.mark.parametrize("mode", ["systemd", "sbin-init"])
@pytest.mark.parametrize("init", [SYSTEMD, InitFacts(systemd="/s", kind="busybox")])
def test_a_plan_with_a_boot_is_kept_as_json_and_read_again(mode, init):
    found = planned({"mode": mode}, init=init, host=HostFacts(nsdelegate=False, rlimits=((7, 1, 2),)))
    again = plan.Plan.from_dict(recorded(found))
    assert again == found
    assert hash(again.boot) == hash(found.boot)


@pytest.mark.parametrize(
    ("args", "init", "mode"),
    [
        (["/bin/sh", "-c", "/sbin/init"], SYSTEMD, "systemd"),
        (["sh", "-c", " exec /usr/lib/systemd/systemd --log-level=debug "], SYSTEMD, "systemd"),
        (["/usr/local/sbin/init"], SYSTEMD, "systemd"),
        (["busybox", "init"], BUSYBOX, "sbin-init"),
        (["/bin/sh", "-c", "exec /bin/busybox init"], BUSYBOX, "sbin-init"),
    ],
)
def test_a_command_that_becomes_an_init_is_one(args, init, mode):
    found = planned(args=args, init=init)
    assert (found.mode, found.boot.launch) == (mode, None)
    after = found.apply({"process": {"args": args}, "linux": {"namespaces": []}})
    assert after["process"]["args"] == args


@pytest.mark.parametrize(
    ("args", "reason"),
    [
        (["/usr/local/bin/entrypoint", "/sbin/init"], "/sbin/init, given to /usr/local/bin/entrypoint"),
        (["/bin/sh", "-c", "/entrypoint /usr/lib/systemd/systemd"], "/usr/lib/systemd/systemd, given to /entrypoint"),
        (["/sbin/runit-init"], "/sbin/runit-init"),
        (["/sbin/openrc-init"], "/sbin/openrc-init"),
    ],
)
def test_a_command_that_has_to_be_pid_1_to_start_an_init_stays_it(args, reason):
    command = Command(args[0], args[0], args[0])
    found = planned(args=args, command=command)
    assert (found.rich, found.decisions[-1].source) == (False, f"the image's command already is an init: {reason}")
    body = 'agents = [{name = "scan", command = ["/s"], mandatory = true}]'
    assert "agent scan is mandatory" in refused(args=args, command=command, body=body)


@pytest.mark.parametrize(
    ("args", "init"),
    [
        (["/bin/sh", "-c", "/sbin/init"], InitFacts(kind="runit")),
        (["/bin/sh", "-c", "exec openrc-init"], NOTHING),
        (["/entrypoint.sh", "/lib/systemd/systemd"], InitFacts(systemd="/usr/lib/systemd/systemd", version=252)),
    ],
)
def test_so_it_is_with_inits_that_have_no_mode_and_with_systemd_alone(args, init):
    assert not planned(args=args, init=init, command=Command(args[0], args[0], args[0])).rich


@pytest.mark.parametrize(
    "args",
    [
        ["/bin/sh", "-c", "echo; /sbin/init"],
        ["/bin/sh", "-c", "/sbin/init && true"],
        ["/bin/sh", "/sbin/init", "x"],
        ["ls", "/etc/systemd"],
        ["apt-get", "install", "systemd"],
        ["ldd", "/sbin/init"],
        ["/bin/sh", "-c", "file /usr/bin/init"],
        ["sh", "-c", "exec myapp", "/sbin/init"],
        ["sh", "-c", "tini -- node app.js"],
        ["/opt/tool", "--check", "/sbin/init"],
    ],
)
def test_what_only_names_one_is_none(args):
    path = args[0] if args[0].startswith("/") else f"/usr/bin/{args[0]}"
    assert planned(args=args, command=Command(args[0], path, path)).mode == "dumb-init"


def test_a_mode_that_its_pod_asked_for_is_not_lost_in_silence():
    command = Command("/entrypoint", "/entrypoint", "/entrypoint")
    found = planned({"mode.web": "systemd"}, args=["/entrypoint", "/sbin/init"], command=command)
    assert found.warnings == ("annotation pouchrich.io/mode.web: ignored, the container stays plain",)


@pytest.mark.parametrize(
    ("annotations", "body"),
    [({"mode": "auto"}, ""), ({"mode.web": "auto"}, ""), ({}, "rich.mode = 'auto'"), ({}, "rich.mode = 'systemd'")],
)
def test_a_pod_that_leaves_no_privilege_for_a_boot_gets_dumb_init_unless_it_asks_itself(annotations, body):
    """As all do in a namespace of Pod Security's level "restricted"."""
    found = planned(annotations, body=body, bounding=())
    reason = "systemd cannot boot without CAP_SETUID, CAP_SETGID, CAP_SETPCAP"
    assert (found.mode, reason in found.decisions[-1].source) == ("dumb-init", True)
    assert planned(annotations, body=f"{body}\nrich.init-capabilities = {CAPABILITIES}", bounding=()).mode == "systemd"
    assert "found no CAP_SETGID" in refused({"mode.web": "systemd"}, bounding=("CAP_SETUID", "CAP_SETPCAP"))
    assert "found no CAP_SETUID" in refused({}, body="rich.mode = 'systemd'\nrich.strict = true", bounding=())


def test_auto_of_a_pod_of_another_user_is_dumb_init_where_no_root_may_be_its_pid_1():
    found = planned({"mode": "auto"}, uid=1000)
    reason = "auto: PID 1 would be root in a container of user 1000 (rich.root-init)"
    assert (found.mode, found.decisions[-1].source) == ("dumb-init", reason)
    assert planned({}, body="rich.mode = 'auto'", uid=1000).mode == "systemd"

"""runtime.rich.plan and runtime.rich.policy: who decides, what the plan is, and what it makes of a spec."""

import copy
import json
from pathlib import Path

import pytest

from runtime import config
from runtime.errors import InvalidArgument
from runtime.host import HostFacts
from runtime.image.image import PLACES, Command, ImageFacts
from runtime.init.detect import InitFacts
from runtime.rich import plan, policy
from runtime.spec.identity import Identity
from tests.plans import recorded

DATA = Path(__file__).parent / "data"
CRI = "io.kubernetes.cri."


def spec_of(annotations=(), *, env=(), args=("app",), namespaces=({"type": "pid"},)):
    return {
        "process": {"args": list(args), "env": ["PATH=/bin", *env]},
        "annotations": dict(annotations),
        "linux": {"namespaces": list(namespaces)},
        "mounts": [{"destination": "/proc", "type": "proc"}],
    }


def facts_of(name="app", path="/bin/app", target=None, **more):
    command = Command(name, path=path, target=target or path, **more)
    return ImageFacts(command, {"/proc": "/proc", **{path: path for path in PLACES}})


def node(body=""):
    return config.parse(f"version = 1\n{body}", source="/etc/c.toml")


def chosen(spec, body=""):
    return policy.choose(spec, node(body), Identity.from_spec(spec, namespace="k8s.io", container_id="id"))


def make(spec, body="", *, facts=None, terminal=False):
    choice = chosen(spec, body)
    return plan.make(spec, choice, config=node(body), facts=facts, terminal=terminal)


def made(spec, *, body="", facts=None, terminal=False):
    return make(spec, body, facts=facts or facts_of(), terminal=terminal)


def decided(spec, body=""):
    return [(one.key, one.value, one.source) for one in chosen(spec, body).decisions]


def test_built_in_is_rich_in_mode_dumb_init():
    assert decided(spec_of()) == [("rich", "true", "built in"), ("mode", "dumb-init", "built in")]


@pytest.mark.parametrize(
    ("annotations", "env", "body", "rich"),
    [
        ({}, (), "rich.enabled = false", ("rich", "false", "/etc/c.toml: rich.enabled")),
        ({}, ("rich_mode=true",), "rich.enabled = false", ("rich", "true", "variable rich_mode")),
        (
            {"pouchrich.io/rich": "false"},
            ("rich_mode=true",),
            "",
            ("rich", "false", "annotation pouchrich.io/rich"),
        ),
        (
            {"pouchrich.io/rich": "false", "pouchrich.io/rich.app": "true", CRI + "container-name": "app"},
            (),
            "",
            ("rich", "true", "annotation pouchrich.io/rich.app"),
        ),
        (
            {"pouchrich.io/rich": "false", "pouchrich.io/rich.other": "true", CRI + "container-name": "app"},
            (),
            "",
            ("rich", "false", "annotation pouchrich.io/rich"),
        ),
    ],
)
def test_the_first_match_decides_and_is_recorded(annotations, env, body, rich):
    assert decided(spec_of(annotations, env=env), body)[0] == rich


def test_rich_and_mode_resolve_separately():
    annotations = {"pouchrich.io/rich": "true"}
    assert decided(spec_of(annotations, env=["rich_mode_launch_manner=dumb-init"]), "rich.mode = 'systemd'") == [
        ("rich", "true", "annotation pouchrich.io/rich"),
        ("mode", "dumb-init", "variable rich_mode_launch_manner"),
    ]


def test_a_mode_beside_rich_false_both_from_the_pod_is_an_error():
    spec = spec_of({"pouchrich.io/rich": "false"}, env=["rich_mode_launch_manner=auto"])
    with pytest.raises(InvalidArgument) as caught:
        made(spec)
    assert str(caught.value) == (
        'config.json: variable rich_mode_launch_manner: found "auto",'
        " allowed no mode where annotation pouchrich.io/rich is false"
    )


def test_a_mode_from_the_pod_where_the_node_said_not_rich_is_ignored_with_a_warning():
    found = made(spec_of({"pouchrich.io/mode": "systemd"}), body="rich.enabled = false")
    assert (found.rich, found.mode, found.steps) == (False, None, ())
    assert found.warnings == ("annotation pouchrich.io/mode: ignored, the container is not rich",)


def test_a_sandbox_is_never_rich_whatever_its_annotations():
    spec = spec_of({CRI + "container-type": "sandbox", "pouchrich.io/nonsense": "x", "run.oci.handler": "x"})
    found = make(spec)
    assert policy.is_sandbox(spec)
    assert (found.rich, found.decisions[0].source) == (False, "a pod's sandbox is never rich")
    assert found.apply(spec) == spec


@pytest.mark.parametrize(
    ("kind", "noun"),
    [("hooks.prestart", "prestart hook"), ("hooks.poststop", "poststop hook"), ("agents", "agent")],
)
def test_what_is_mandatory_keeps_a_pod_from_not_being_rich(kind, noun):
    body = f'{kind} = [{{name = "scan", command = ["/s"], mandatory = true, when = {{namespace = ["prod"]}}}}]'
    spec = spec_of({"pouchrich.io/rich": "false", CRI + "sandbox-namespace": "prod"})
    with pytest.raises(InvalidArgument) as caught:
        made(spec, body=body)
    assert str(caught.value) == (
        f"config.json: annotation pouchrich.io/rich: found false, allowed true: the node's {noun} scan is mandatory"
        f" (/etc/c.toml: {kind})"
    )
    assert not made(spec_of({"pouchrich.io/rich": "false", CRI + "sandbox-namespace": "dev"}), body=body).rich
    assert not made(spec_of({CRI + "sandbox-namespace": "prod"}), body=f"rich.enabled = false\n{body}").rich


@pytest.mark.parametrize("name", ["run.oci.handler", "org.criu.config", "org.systemd.property.DeviceAllow"])
def test_annotations_that_steer_the_oci_runtime_need_the_nodes_leave(name):
    spec = spec_of({name: "x"})
    with pytest.raises(InvalidArgument) as caught:
        made(spec)
    assert str(caught.value) == (
        f'config.json: annotation {name}: found "x", allowed in a rich container'
        " only what rich.runtime-annotations lists (nothing; /etc/c.toml)"
    )
    assert made(spec, body=f'rich.runtime-annotations = ["{name[:-3]}*"]').rich
    assert not made(spec, body="rich.enabled = false").rich


@pytest.mark.parametrize(
    ("key", "value", "read"),
    [("services", "cron", ("cron",)), ("stop-signal", "SIGINT", "SIGINT"), ("init-script", "a 'b c'", ("a", "b c"))],
)
def test_what_else_a_pod_asks_for_is_kept_with_the_choice(key, value, read):
    choice = chosen(spec_of({f"pouchrich.io/{key}": value}))
    assert choice.overrides[key].value == read
    assert choice.overrides[key].source == f"annotation pouchrich.io/{key}"


def test_the_stop_signal_of_a_pod_is_kept_as_a_number():
    assert made(spec_of({"pouchrich.io/stop-signal": "SIGRTMIN+3"})).stop_signal == 37
    assert made(spec_of()).stop_signal is None


@pytest.mark.parametrize(
    ("namespaces", "reason"),
    [
        ((), "the container is in the host's pid namespace: it cannot have a PID 1 of its own"),
        (
            ({"type": "pid", "path": "/proc/7/ns/pid"},),
            "the container shares the pid namespace /proc/7/ns/pid: it cannot have a PID 1 of its own",
        ),
    ],
)
def test_without_a_pid_namespace_of_its_own_a_container_stays_plain(namespaces, reason):
    spec = spec_of(namespaces=namespaces)
    found = made(spec)
    assert (found.rich, found.mode, found.decisions[-1]) == (False, None, policy.Decision("rich", "false", reason))
    assert found.apply(spec) == spec


@pytest.mark.parametrize(
    ("name", "path", "target"),
    [
        ("/sbin/init", "/sbin/init", "/usr/lib/sysvinit/init"),
        ("init", "/usr/sbin/init", "/usr/lib/systemd/systemd"),
        ("tini", "/usr/bin/tini", "/usr/bin/tini-static"),
        ("/entry", "/entry", "/usr/bin/dumb-init"),
        ("/usr/bin/dumb-init", "/usr/bin/dumb-init", None),
        ("catatonit", "/usr/bin/catatonit", None),
    ],
)
def test_a_command_that_already_is_an_init_is_never_wrapped(name, path, target):
    spec = spec_of(args=(name,))
    found = made(spec, facts=facts_of(name, path, target))
    assert not found.rich
    assert found.decisions[-1].source.startswith("the image's command already is an init: /")
    assert found.apply(spec) == spec


def test_s6s_init_is_known_by_content_and_a_script_of_that_name_is_not():
    script = facts_of("/init", "/init")
    assert made(spec_of(args=("/init",)), facts=script).rich
    s6 = ImageFacts(script.command, script.resolved, is_s6=True)
    assert made(spec_of(args=("/init",)), facts=s6).decisions[-1].source.endswith("s6's /init")


def test_below_a_mount_an_init_is_known_by_its_name():
    hidden = ImageFacts(Command("/opt/tini", path="/opt/tini", hidden_by="/opt"), facts_of().resolved)
    assert not made(spec_of(args=("/opt/tini",)), facts=hidden).rich


def test_a_command_that_is_not_in_the_image_is_an_error_in_runcs_words():
    missing = facts_of("app", None, problem='exec: "app": executable file not found in $PATH')
    with pytest.raises(InvalidArgument) as caught:
        made(spec_of(), facts=missing)
    assert str(caught.value) == 'start process: exec: "app": executable file not found in $PATH'


def test_a_command_below_a_mount_is_not_looked_up_and_that_is_recorded():
    hidden = ImageFacts(Command("/opt/app", path="/opt/app", hidden_by="/opt"), facts_of().resolved)
    found = made(spec_of(args=("/opt/app",)), facts=hidden)
    assert found.rich
    assert found.decisions[-1] == policy.Decision(
        "command", "not looked up in the image", "it is below the mount at /opt"
    )


def test_a_rich_plan_without_facts_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="needs the facts"):
        make(spec_of())


def test_the_plan_in_order_with_what_it_binds():
    found = made(spec_of())
    assert [step.name for step in found.steps] == ["mount-dumb-init", "env-rich-mode", "args-dumb-init"]
    assert (found.rich, found.mode, found.helpers) == (True, "dumb-init", ("dumb-init",))


def test_a_plan_is_kept_as_json_and_read_again():
    for found in (made(spec_of(), terminal=True), made(spec_of(), body="rich.enabled = false")):
        again = plan.Plan.from_dict(recorded(found))
        assert again == found
        assert again.apply(spec_of()) == found.apply(spec_of())


def test_a_plan_of_an_earlier_version_is_read():
    found = recorded(made(spec_of()))
    del found["fallback"]
    assert plan.Plan.from_dict(found) == made(spec_of())


@pytest.mark.parametrize(
    "found",
    [
        *(None, "", [], {}, {"version": 2}, recorded(made(spec_of())) | {"steps": [{}]}),
        json.loads(json.dumps(recorded(made(spec_of()))).replace("with_args", "with_x")),
    ],
)
def test_a_plan_that_was_not_written_by_us_is_an_invalid_argument(found):
    with pytest.raises(InvalidArgument, match="plan: found"):
        plan.Plan.from_dict(found)


def test_a_plan_has_decisions_warnings_and_steps_for_people():
    found = made(spec_of(), body='services.enable = ["cron"]')
    assert found.decisions == (
        policy.Decision("rich", "true", "built in"),
        policy.Decision("mode", "dumb-init", "built in"),
    )
    assert found.warnings == (
        "/etc/c.toml: services.enable: found cron, allowed none: dumb-init manages no services: skipped",
    )
    assert [f"{step.name}: {step.detail}" for step in found.steps] == [
        "mount-dumb-init: bind a static dumb-init at /run/pouchrich/dumb-init, read-only, after all other mounts",
        "env-rich-mode: set rich_mode and rich_mode_launch_manner for the container",
        "args-dumb-init: start dumb-init as PID 1, the command as its child",
    ]


HOSTS = {
    "dumb-init": HostFacts(),
    "dumb-init-tty": HostFacts(),
    "systemd-unified": HostFacts(),
    "systemd-hybrid": HostFacts(cgroups="hybrid", nsdelegate=False, named="/sys/fs/cgroup/systemd"),
    "systemd-v1": HostFacts(cgroups="v1", nsdelegate=False, named="/sys/fs/cgroup/systemd"),
    "systemd-supplied": HostFacts(),
    "sbin-init-sysvinit": HostFacts(),
}
INITS = {
    "systemd": InitFacts(systemd="/usr/lib/systemd/systemd", version=252, kind="systemd", home="/home/app"),
    "sbin-init": InitFacts(kind="sysvinit", present=("/etc/init.d/rc", "/etc/init.d/rcS"), home="/home/app"),
    "dumb-init": InitFacts(),
}


@pytest.mark.parametrize("name", HOSTS)
def test_before_and_after_are_as_recorded(name):
    before = json.loads((DATA / name / "before.json").read_text())
    unchanged = copy.deepcopy(before)
    resolved = {one["destination"]: one["destination"].replace("/var/run", "/run") for one in before["mounts"]}
    path = before["process"]["args"][0]
    facts = ImageFacts(
        Command(path, path=path, target=path),
        {**resolved, **{path: path for path in PLACES}},
        init=next(facts for mode, facts in INITS.items() if name.startswith(mode)),
    )
    found = plan.make(
        before,
        policy.choose(before, config.DEFAULT, Identity.from_spec(before, namespace="k8s.io", container_id="c")),
        config=config.DEFAULT,
        facts=facts,
        terminal=before["process"]["terminal"],
        host=HOSTS[name],
        run_dir="/run/pouchrich/containers/k8s.io/c",
    )
    after = found.apply(before)
    assert after == json.loads((DATA / name / "after.json").read_text())
    boot = recorded(found)["boot"]
    assert boot == (None if name.startswith("dumb-init") else json.loads((DATA / name / "boot.json").read_text()))
    assert before == unchanged
    assert found.apply(after) == after

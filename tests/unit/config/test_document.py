"""runtime.config.document: texts to configurations, and every way a text can be wrong."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import config
from runtime.config import render, schema, values
from runtime.config.document import MAX_BYTES
from runtime.errors import InvalidArgument


def parse(body: str) -> config.Config:
    return config.parse(f"version = 1\n{body}", source="/etc/x.toml")


def error_of(text: str) -> str:
    with pytest.raises(InvalidArgument) as caught:
        config.parse(text, source="/etc/x.toml")
    return str(caught.value)


def test_the_defaults_are_those_of_the_contract():
    found = config.DEFAULT
    assert (found.runtime.binary, found.runtime.root) == (None, "/run/pouchrich/runtime")
    assert found.runtime.systemd_cgroup is None
    assert (found.rich.enabled, found.rich.mode, found.rich.strict) == (True, "dumb-init", False)
    assert found.rich.pod_override == (
        "rich",
        "mode",
        "init-script",
        "prestart",
        "poststop",
        "services",
        "stop-signal",
    )
    assert (found.rich.root_init, found.rich.init_capabilities, found.rich.runtime_annotations) == (
        "auto",
        None,
        (),
    )
    assert (found.rich.start_timeout_s, found.rich.stop_timeout_s) == (60.0, 10.0)
    assert (found.rich.env_file, found.rich.lxcfs, found.rich.restart) == (("profile",), None, "no")
    assert (found.rich.cgroup_descendants, found.rich.cgroup_depth) == (1024, 8)
    assert (found.hooks.prestart, found.hooks.poststop) == ((), ())
    assert (found.hooks.poststop_budget_s, found.hooks.pod_timeout_max_s) == (30.0, 60.0)
    assert (found.agents, found.routes, found.services.enable) == ((), (), ())
    assert (found.spawner.enabled, found.spawner.idle_timeout_s) == (True, 600.0)
    assert (found.source, found.explicit) == ("built in", frozenset())


def test_a_hook_has_its_stages_defaults():
    found = parse('hooks.prestart = [{command = ["/a"]}]\nhooks.poststop = [{command = ["/b", ""]}]')
    (before,), (after,) = found.hooks.prestart, found.hooks.poststop
    assert (before.name, before.where, before.timeout_s, before.on_failure) == (
        "prestart-1",
        "container",
        30.0,
        "abort",
    )
    assert (after.name, after.command, after.on_failure) == ("poststop-1", ("/b", ""), "continue")
    assert (after.user, after.env, after.mandatory) == (None, (), False)


def test_everything_at_once_reads_as_written():
    found = parse(
        """
        [runtime]
        binary = "/usr/bin/crun"
        systemd-cgroup = true
        [rich]
        mode = "auto"
        init-capabilities = ["CAP_SETUID", "CAP_SETGID"]
        runtime-annotations = ["run.oci.keep_original_groups", "org.systemd.property.*"]
        start-timeout = "1m30s"
        stop-timeout = 5
        lxcfs = false
        [[hooks.prestart]]
        name = "vault"
        where = "host"
        command = ["/usr/libexec/vault", "fetch"]
        timeout = "2s"
        env = { A = "1", "B.c" = "=" }
        mandatory = true
        when = { mode = ["systemd"], namespace = ["team-*"] }
        [[agents]]
        name = "logs"
        command = ["/opt/agent/run"]
        memory = "64Mi"
        user = "1000:1000"
        mounts = [{ source = "/opt/agent", target = "/opt/agent" }]
        [[routes]]
        to = "10.96.0.0/12"
        via = "169.254.1.1"
        [[routes]]
        to = "default"
        via = "fe80::1"
        [services]
        enable = ["cron.service", "getty@tty1"]
        """
    )
    assert (found.runtime.binary, found.runtime.systemd_cgroup) == ("/usr/bin/crun", True)
    assert (found.rich.start_timeout_s, found.rich.stop_timeout_s, found.rich.lxcfs) == (90.0, 5.0, False)
    (hook,) = found.hooks.prestart
    assert (hook.timeout_s, hook.env, hook.mandatory) == (2.0, (("A", "1"), ("B.c", "=")), True)
    assert hook.when.mode == ("systemd",)
    (agent,) = found.agents
    assert (agent.memory_bytes, agent.restart, agent.mounts[0].read_only) == (64 << 20, "always", True)
    assert [route.to for route in found.routes] == ["10.96.0.0/12", "default"]
    assert found.services.enable == ("cron.service", "getty@tty1")
    assert "rich.mode" in found.explicit
    assert found.source_of("rich.mode") == "/etc/x.toml: rich.mode"
    assert found.source_of("rich.strict") == "built in"


def test_a_handlers_options_table_may_hold_containerds_own_keys():
    text = "ConfigPath = ''\nTypeUrl = 'runtimeoptions.v1.Options'\nversion = 1\n\n[rich]\n  mode = 'auto'\n"
    assert config.parse(text, source="handler options").rich.mode == "auto"


NAMES = "/etc/x.toml: "
WRONG = [
    ("version = 2", "version: found 2, allowed 1"),
    ("version = true", "version: found true, allowed 1"),
    ("version = 1.0", "version: found 1.0, allowed 1"),
    ('version = "1"', 'version: found "1", allowed 1'),
    ("", "version: found nothing, allowed 1"),
    ("version = 1\nrich = 1", "rich: found an integer, allowed a table"),
    ("version = 1\nrich.enabled = 1", "rich.enabled: found 1, allowed true, false"),
    ('version = 1\nrich.enabled = "true"', 'rich.enabled: found "true", allowed true, false'),
    (
        'version = 1\nrich.mode = "sysv"',
        'rich.mode: found "sysv", allowed systemd, sbin-init, dumb-init, auto',
    ),
    ("version = 1\nrich.mode = []", "rich.mode: found [], allowed systemd, sbin-init, dumb-init, auto"),
    ('version = 1\nruntime.root = "x"', 'runtime.root: found "x", allowed an absolute path'),
    ('version = 1\nruntime.root = "/a/../b"', 'runtime.root: found "/a/../b", allowed an absolute path'),
    ('version = 1\nruntime.root = "/a\\u0000"', "runtime.root: found "),
    ('version = 1\nruntime.binary = "a/b"', 'runtime.binary: found "a/b", allowed a program\'s name'),
    ("version = 1\nruntime.systemd-cgroup = 1", 'found 1, allowed true, false, "auto"'),
    ('version = 1\nrich.pod-override = ["rich", "rich"]', "rich.pod-override: found the same item twice"),
    ('version = 1\nrich.pod-override = ["user"]', 'rich.pod-override[0]: found "user", allowed rich, mode'),
    ('version = 1\nrich.init-capabilities = ["SETUID"]', 'rich.init-capabilities[0]: found "SETUID", allowed'),
    ('version = 1\nrich.runtime-annotations = ["*"]', 'rich.runtime-annotations[0]: found "*", allowed a glob'),
    ("version = 1\nrich.start-timeout = 0", "rich.start-timeout: found 0, allowed a duration from 1s to 1h"),
    ("version = 1\nrich.start-timeout = true", "rich.start-timeout: found true, allowed a duration"),
    ("version = 1\nrich.start-timeout = 1.5", "rich.start-timeout: found 1.5, allowed a duration"),
    ('version = 1\nrich.start-timeout = ""', 'rich.start-timeout: found "", allowed a duration'),
    ('version = 1\nrich.start-timeout = "1s1m"', 'rich.start-timeout: found "1s1m", allowed a duration'),
    ('version = 1\nrich.start-timeout = "2h"', 'rich.start-timeout: found "2h", allowed a duration'),
    ("version = 1\nrich.cgroup-depth = 0", "rich.cgroup-depth: found 0, allowed an integer from 1 to 64"),
    ("version = 1\nrich.start-timeout = 1979-05-27", "rich.start-timeout: found '1979-05-27', allowed"),
    ("version = 1\nhooks.prestart = {}", "hooks.prestart: found a table, allowed a list"),
    (
        "version = 1\nhooks.prestart = [1]",
        "hooks.prestart[0]: found an integer, allowed a table of the keys name, where",
    ),
    ("version = 1\nhooks.prestart = [{}]", "hooks.prestart[0].command: found nothing, allowed a list of 1"),
    (
        "version = 1\nhooks.prestart = [{command = []}]",
        "hooks.prestart[0].command: found 0 items, allowed 1 to 256",
    ),
    (
        'version = 1\nhooks.prestart = [{command = [""]}]',
        'hooks.prestart[0].command[0]: found "", allowed a prog',
    ),
    (
        'version = 1\nhooks.prestart = [{command = "/a"}]',
        "hooks.prestart[0].command: found a string, allowed a list",
    ),
    (
        'version = 1\nhooks.prestart = [{command = ["a"], where = "host"}]',
        'hooks.prestart[0].command[0]: found "a", allowed an absolute path',
    ),
    (
        'version = 1\nhooks.prestart = [{command = ["a"], timout = 1}]',
        "hooks.prestart[0].timout: found an unknown key, allowed name, where, command, timeout",
    ),
    (
        'version = 1\nhooks.poststop = [{name = "a", command = ["a"]}, {name = "a", command = ["b"]}]',
        'hooks.poststop[1].name: found "a", allowed a name that no other entry',
    ),
    (
        'version = 1\nhooks.poststop = [{command = ["a"], env = {A = 1}}]',
        "hooks.poststop[0].env.A: found an integer, allowed a string",
    ),
    (
        'version = 1\nhooks.poststop = [{command = ["a"], env = {"A=B" = "1"}}]',
        "hooks.poststop[0].env: found a name with =, allowed non-empty names without =",
    ),
    (
        'version = 1\nhooks.poststop = [{command = ["a"], user = "a b"}]',
        'hooks.poststop[0].user: found "a b", allowed USER or UID',
    ),
    (
        'version = 1\nhooks.prestart = [{command = ["a"], when = {mode = ["auto"]}}]',
        'hooks.prestart[0].when.mode[0]: found "auto", allowed systemd, sbin-init, dumb-init',
    ),
    (
        'version = 1\nagents = [{name = "a/b", command = ["a"]}]',
        'agents[0].name: found "a/b", allowed a name of at most 64 characters matching',
    ),
    (
        f'version = 1\nagents = [{{name = "{"x" * 65}", command = ["/a"]}}]',
        f'agents[0].name: found "{"x" * 65}", allowed a name of at most 64 characters matching [A-Za-z0-9@_.:-]+',
    ),
    (
        'version = 1\nagents = [{command = ["/a"]}, {command = ["watcher", "-f"]}]',
        'agents[1].command[0]: found "watcher", allowed an absolute path',
    ),
    (
        "version = 1\nagents = [{command = []}]",
        "agents[0].command: found 0 items, allowed 1 to 256",
    ),
    (
        'version = 1\nagents = [{command = ["/a"], memory = "1K"}]',
        'agents[0].memory: found "1K", allowed at least 1048576 bytes',
    ),
    (
        'version = 1\nagents = [{command = ["/a"], mounts = [{source = "/a"}]}]',
        "agents[0].mounts[0].target: found",
    ),
    (
        'version = 1\nroutes = [{to = "10.0.0.1/8", via = "10.0.0.1"}]',
        'routes[0].to: found "10.0.0.1/8", allowed a network',
    ),
    (
        'version = 1\nroutes = [{to = "10.0.0.0/8", via = "x"}]',
        'routes[0].via: found "x", allowed an IP address',
    ),
    (
        'version = 1\nroutes = [{to = "10.0.0.0/8", via = "::1"}]',
        'routes[0].via: found "::1", allowed an address of the same family as 10.0.0.0/8',
    ),
    (
        'version = 1\nservices.enable = ["a b"]',
        'services.enable[0]: found "a b", allowed a name matching [A-Za-z0-9@_.:-]+',
    ),
    (
        "version = 1\nservice.enable = []",
        "service: found an unknown key, allowed version, runtime, rich, hooks, agents, routes, services,"
        " spawner (did you mean services)",
    ),
    (
        'version = 1\nrich.start_timeout = "1s"',
        "rich.start_timeout: found an unknown key, allowed enabled, mode",
    ),
    ("version = 1\nTypeUrl = 1", "TypeUrl: found 1, allowed a string"),
    ('version = 1\nConfigPath = "/a"', 'ConfigPath: found "/a", allowed none here'),
    ("version = 1\nversion = 1", "allowed TOML with each key once"),
    ("version = 1\n[rich]\n[rich]", "allowed TOML with each key once"),
    ("version = ", "found "),
    ("version = 1\nx = " + "[" * 5000, "allowed TOML with each key once"),
    ("version = " + "1" * 5000, "allowed TOML with each key once"),
    ("#" * (MAX_BYTES + 1), f"found {MAX_BYTES + 1} characters, allowed at most {MAX_BYTES}"),
]


@pytest.mark.parametrize(("text", "message"), WRONG, ids=[message[:50] for _, message in WRONG])
def test_an_error_names_file_key_found_and_allowed(text, message):
    found = error_of(text)
    assert found.startswith(NAMES)
    assert message in found
    assert "found" in found
    assert "allowed" in found


SECRET = '"/bin/fetch --token=hunter2"'


@pytest.mark.parametrize(
    "line",
    [
        f"hooks = {SECRET}",
        f"hooks.prestart = {SECRET}",
        f"hooks.prestart = [{SECRET}]",
        f"hooks.prestart = [{{command = {SECRET}}}]",
        f"hooks.prestart = [{{command = [['a', {SECRET}]]}}]",
        'hooks.prestart = [{command = ["a", "hunter2\\u0000"]}]',
        f"hooks.prestart = [{{command = [{SECRET[:1]}x {SECRET[1:]}], where = 'host'}}]",
        "hooks.poststop = [{command = ['a'], env = ['TOKEN=hunter2']}]",
        "hooks.poststop = [{command = ['a'], env = 'TOKEN=hunter2'}]",
        "hooks.poststop = [{command = ['a'], env = {'TOKEN=hunter2' = ''}}]",
        "hooks.poststop = [{command = ['a'], env = {TOKEN = ['hunter2']}}]",
        f"agents = [{{command = {SECRET}}}]",
        "agents = [{command = ['fetch --token=hunter2']}]",
        "agents = [{command = ['/fetch https://hunter2@host']}]",
        "agents = [{command = ['/fetch'], env = ['TOKEN=hunter2']}]",
    ],
)
def test_no_error_quotes_what_a_command_or_a_variable_may_keep_secret(line):
    """The users of pods see it in the events of their pods."""
    found = error_of(f"version = 1\n{line}")
    assert re.search(r": found (a string|a list|a name with =)[ ,]", found)
    assert "hunter2" not in found


def test_a_long_value_is_cut_in_the_message():
    message = error_of('version = 1\nrich.mode = "' + "x" * 10_000 + '"')
    assert len(message) < 250
    assert "..." in message


def test_the_hint_names_a_close_key():
    assert "(did you mean start-timeout)" in error_of("version = 1\nrich.start_timeout = 1")


LEAVES = st.one_of(st.booleans(), st.integers(), st.text(), st.just("auto"), st.just("1s"))
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3)
)


@given(key=st.sampled_from(schema.KEYS), value=ANYTHING)
def test_any_value_of_any_key_is_taken_or_refused_by_name(key, value):
    given_table = {key.name.rpartition(".")[2]: value}
    refused = None
    try:
        key.value(given_table, key.name)
    except schema.kinds.Refused as err:
        refused = err
    words = rf"{re.escape(key.name)}.*: found .+, allowed .+"
    assert refused is None or re.fullmatch(words, str(refused), re.DOTALL)


@given(st.text())
def test_any_text_parses_or_is_an_invalid_argument(text):
    message = "F: "
    try:
        config.parse(text, source="F")
    except InvalidArgument as err:
        message = str(err)
    assert message.startswith("F: ")


def test_every_key_of_the_table_reaches_the_configuration():
    for key in schema.KEYS:
        section = key.name.rpartition(".")[0]
        holder = getattr(config.DEFAULT, section) if section else config.DEFAULT
        assert hasattr(holder, key.attribute), key.name


def test_when_selects_by_every_list_that_is_not_empty():
    when = values.WHEN.read({"namespace": ["team-*"], "mode": ["systemd"]}, "when")
    about = {"namespace": "team-a", "image": "i", "container": "c"}
    assert when.selects(mode="systemd", **about)
    assert when.selects(mode=None, **about)
    assert not when.selects(mode="dumb-init", **about)
    assert not when.selects(mode="systemd", **(about | {"namespace": "prod"}))


def test_what_was_read_once_is_remembered_and_what_was_refused_is_refused_again():
    assert parse("rich.strict = true") is parse("rich.strict = true")
    assert parse("rich.strict = true") != parse("rich.strict = false")
    other = config.parse("version = 1\nrich.strict = true", source="/etc/y.toml")
    assert other.source == "/etc/y.toml"
    assert error_of("version = 2") == error_of("version = 2")


@pytest.mark.parametrize(
    ("written", "wanted"),
    [("true", ("profile",)), ("false", ()), ("[]", ()), ('["units", "pam"]', ("units", "pam"))],
)
def test_the_places_of_the_environment_are_a_list_or_yes_or_no(written, wanted):
    found = parse(f"rich.env-file = {written}\n")
    assert found.rich.env_file == wanted
    assert config.parse(render.effective(found), source="/x").rich.env_file == wanted


@pytest.mark.parametrize("written", ['"pam"', '["pam", "pam"]', '["ssh"]', "1"])
def test_other_places_are_refused_with_those_there_are(written):
    with pytest.raises(InvalidArgument, match=r"rich\.env-file"):
        parse(f"rich.env-file = {written}\n")

"""runtime.config.annotations: what a pod may say, and how it is told that it may not."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime import config
from runtime.config.annotations import PREFIX, read_overrides
from runtime.errors import InvalidArgument


def overrides(annotations, *, env=None, container="app", body=""):
    node = config.parse(f"version = 1\n{body}", source="/etc/c.toml")
    return read_overrides(
        {PREFIX + key: value for key, value in annotations.items()}, env or {}, container=container, config=node
    )


def error_of(annotations, **options):
    with pytest.raises(InvalidArgument) as caught:
        overrides(annotations, **options)
    return str(caught.value)


def test_the_containers_own_annotation_wins_over_the_pods_and_both_over_variables():
    env = {"rich_mode_launch_manner": "dumb-init", "rich_mode": "true"}
    found = overrides({"mode": "auto", "mode.app": "systemd", "mode.other": "nonsense"}, env=env)
    assert (found["mode"].value, found["mode"].source) == ("systemd", "annotation pouchrich.io/mode.app")
    assert found["mode"].is_own
    assert (found["rich"].value, found["rich"].source) == (True, "variable rich_mode")
    pod_wide = overrides({"mode": "auto"}, env=env)["mode"]
    assert (pod_wide.value, pod_wide.is_own) == ("auto", False)


def test_outside_a_pod_an_annotation_is_the_containers_own():
    assert overrides({"mode": "auto"}, container="")["mode"].is_own


def test_annotations_of_others_are_not_looked_at():
    node = config.DEFAULT
    assert read_overrides({"example.com/rich": "x"}, {}, container="app", config=node) == {}


def hooks(*extra, **fields):
    return json.dumps([{"command": ["/bin/true"], **fields}, *extra])


WRONG = [
    ({"rich": "yes"}, 'annotation pouchrich.io/rich: found "yes", allowed true, false'),
    ({"rich.app": "True"}, 'annotation pouchrich.io/rich.app: found "True", allowed true, false'),
    (
        {"mode": "sysv"},
        'annotation pouchrich.io/mode: found "sysv", allowed systemd, sbin-init, dumb-init, auto',
    ),
    ({"mod": "x"}, "annotation pouchrich.io/mod: found an unknown key, allowed pouchrich.io/KEY or"),
    ({"mod.other": "x"}, "annotation pouchrich.io/mod.other: found an unknown key, allowed"),
    ({"mode.": "x"}, "annotation pouchrich.io/mode.: found an unknown key, allowed"),
    ({"init-script": ""}, 'annotation pouchrich.io/init-script: found "", allowed a command line'),
    ({"init-script": "'a"}, 'annotation pouchrich.io/init-script: found "\'a", allowed a command line'),
    ({"init-script": "a\0b"}, "annotation pouchrich.io/init-script: found "),
    ({"init-script": "a" * 5000}, "allowed a command line of at most 4096 characters"),
    ({"services": "a,,b"}, 'annotation pouchrich.io/services: found "", allowed a name matching'),
    ({"services": "a/b"}, 'found "a/b", allowed a name matching [A-Za-z0-9@_.:-]+'),
    ({"services": ",".join(f"s{n}" for n in range(65))}, "found 65 names, allowed at most 64 names"),
    ({"stop-signal": "SIGFOO"}, 'annotation pouchrich.io/stop-signal: found "SIGFOO", allowed a signal'),
    ({"stop-signal": "SIGRTMIN+31"}, 'found "SIGRTMIN+31", allowed a signal'),
    ({"stop-signal": "15"}, 'found "15", allowed a signal'),
    ({"prestart": "x"}, "annotation pouchrich.io/prestart: found "),
    ({"prestart": "{}"}, "annotation pouchrich.io/prestart: found a table, allowed a list"),
    ({"prestart": "[NaN]"}, 'found "NaN is not JSON", allowed a JSON list'),
    ({"prestart": "[" * 30000}, "allowed a JSON list of hook tables, with each key once"),
    ({"prestart": "[" * 30000 + "]" * 30000}, "pouchrich.io/prestart"),
    ({"prestart": '[{"command":["a"],"command":["b"]}]'}, "twice"),
    (
        {"prestart": hooks(where="host")},
        'annotation pouchrich.io/prestart[0].where: found "host", allowed container',
    ),
    (
        {"prestart": hooks(user="root")},
        "annotation pouchrich.io/prestart[0].user: found an unknown key, allowed name",
    ),
    ({"poststop": hooks(mandatory=True)}, "annotation pouchrich.io/poststop[0].mandatory: found an unknown key"),
    (
        {"poststop": hooks(timeout="2m")},
        'annotation pouchrich.io/poststop[0].timeout: found "2m", allowed a duration',
    ),
    (
        {"poststop": hooks(command=["\ud800"])},
        "annotation pouchrich.io/poststop[0].command[0]: found a string with NUL or half",
    ),
    (
        {"poststop": hooks(command=["a\0"])},
        "annotation pouchrich.io/poststop[0].command[0]: found a string with NUL or half",
    ),
    ({"poststop": json.dumps([{"command": ["a"]}] * 17)}, "found 17 hooks, allowed at most 16 hooks"),
    ({"poststop": " " * 65537}, "found 65537 bytes, allowed at most 65536 bytes"),
    (
        {"prestart": json.dumps([{"command": ["a"]}] * 9), "poststop": json.dumps([{"command": ["a"]}] * 8)},
        "found 17 hooks together, allowed at most 16 hooks",
    ),
    (
        {"prestart": hooks() + " " * 40000, "poststop": hooks() + " " * 40000},
        "bytes together, allowed at most 65536 bytes",
    ),
]


@pytest.mark.parametrize(("annotations", "message"), WRONG, ids=[message[:60] for _, message in WRONG])
def test_an_error_names_the_annotation_found_and_allowed(annotations, message):
    found = error_of(annotations)
    assert found.startswith("config.json: annotation pouchrich.io/")
    assert message in found
    assert "allowed" in found
    assert len(found) < 600


def test_an_error_about_a_container_whose_name_is_no_utf_8_can_be_sent():
    """As JSON's escapes can write it (RFC 8259, section 8.2)."""
    found = error_of({"init-script.\ud800": ""}, container="\ud800")
    assert found.startswith(r"config.json: annotation pouchrich.io/init-script.\ud800: found")


def test_a_variables_error_names_the_variable():
    found = error_of({}, env={"rich_mode_launch_manner": "sysv"})
    assert found.startswith('config.json: variable rich_mode_launch_manner: found "sysv", allowed systemd')


@pytest.mark.parametrize(("annotations", "env"), [({"mode": "auto"}, {}), ({}, {"rich_mode_launch_manner": "auto"})])
def test_a_known_key_that_policy_keeps_from_pods_is_an_error(annotations, env):
    found = error_of(annotations, env=env, body='rich.pod-override = ["rich"]')
    assert 'found "auto", allowed only the keys in rich.pod-override (rich; /etc/c.toml)' in found


def test_values_are_read():
    found = overrides(
        {
            "init-script": "/bin/sh -c 'echo a  b'",
            "services": "cron.service, sshd",
            "stop-signal": "rtmin+3",
            "prestart": hooks({"command": ["x"], "timeout": 5, "env": {"A": "1"}}),
        }
    )
    assert found["init-script"].value == ("/bin/sh", "-c", "echo a  b")
    assert found["services"].value == ("cron.service", "sshd")
    assert found["stop-signal"].value == "SIGRTMIN+3"
    first, second = found["prestart"].value
    assert (first.name, first.where, first.timeout_s, first.on_failure) == (
        "prestart-1",
        "container",
        30.0,
        "abort",
    )
    assert (second.timeout_s, second.env, second.user, second.mandatory) == (5.0, (("A", "1"),), None, False)


def test_a_pods_hook_never_gets_more_time_than_the_node_allows():
    (hook,) = overrides({"poststop": hooks()}, body='hooks.pod-timeout-max = "5s"')["poststop"].value
    assert hook.timeout_s == 5.0


@given(st.dictionaries(st.sampled_from(["rich", "mode", "prestart", "services", "stop-signal"]), st.text()))
def test_any_text_is_read_or_refused(annotations):
    message = ""
    try:
        message = f"allowed {sorted(overrides(annotations))}"
    except InvalidArgument as err:
        message = str(err)
    assert "allowed" in message


def test_the_size_of_hooks_is_counted_in_bytes_before_they_are_read():
    assert error_of({"prestart": "\u20ac" * 30_000}) == (
        "config.json: annotation pouchrich.io/prestart: found 90000 bytes, allowed at most 65536 bytes"
    )

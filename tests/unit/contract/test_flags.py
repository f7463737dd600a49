"""Go's flag syntax, as a table."""

import pytest

from shim.contract import flags


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], {}),
        (["start"], {"action": "start"}),
        (["-id", "x", "start"], {"id": "x", "action": "start"}),
        (["--id", "x", "delete"], {"id": "x", "action": "delete"}),
        (["-id=x"], {"id": "x"}),
        (["--id=a=b"], {"id": "a=b"}),
        (["-id="], {"id": ""}),
        (["-id", "-debug", "start"], {"id": "-debug", "action": "start"}),
        (["-id", "a", "-id", "b"], {"id": "b"}),
        (["-debug", "start"], {"debug": True, "action": "start"}),
        (["-debug=false", "start"], {"debug": False, "action": "start"}),
        (["-debug", "false"], {"debug": True, "action": "false"}),
        (["start", "-debug"], {"action": "start", "debug": False}),
        (["--", "-debug"], {"action": "-debug"}),
        (["--"], {"action": ""}),
        (["-", "-debug"], {"action": "-"}),
        (["", "-debug"], {"action": ""}),
        (["-v"], {"version": True}),
        (["-version"], {"version": True}),
        (["-info"], {"info": True}),
        (["-publish-binary", "/c", "-socket", "/s", "-debug-socket", "/d"],
         {"publish_binary": "/c", "socket": "/s", "debug_socket": "/d"}),
        (["-namespace", "k8s.io", "-address", "/a", "-bundle", "/b"],
         {"namespace": "k8s.io", "address": "/a", "bundle": "/b"}),
    ],
)  # fmt: skip
def test_the_command_line_is_read_as_go_reads_it(args: list[str], expected: dict[str, object]):
    parsed = flags.parse(args)
    empty = flags.Flags()
    for name in flags.Flags.__slots__:
        assert getattr(parsed, name) == expected.get(name, getattr(empty, name)), name


@pytest.mark.parametrize("value", ["1", "t", "T", "true", "TRUE", "True"])
def test_a_boolean_may_be_said_in_gos_words(value: str):
    assert flags.parse([f"-debug={value}"]).debug is True


@pytest.mark.parametrize(
    ("args", "text"),
    [
        (["-id"], "flag needs an argument: -id"),
        (["--id"], "flag needs an argument: -id"),
        (["-nope"], "flag provided but not defined: -nope"),
        (["-nope=1"], "flag provided but not defined: -nope"),
        (["-debug=yes"], 'invalid boolean value "yes" for -debug'),
        (["-debug="], 'invalid boolean value "" for -debug'),
        (["---id", "x"], "bad flag syntax: ---id"),
        (["-=x"], "bad flag syntax: -=x"),
        (["--=x"], "bad flag syntax: --=x"),
    ],
)
def test_what_go_refuses_is_refused_in_its_words(args: list[str], text: str):
    with pytest.raises(flags.UsageError, match="^" + text):
        flags.parse(args)


def test_the_usage_names_every_flag():
    text = flags.usage("shim")
    for name in ("namespace", "id", "address", "publish-binary", "bundle", "socket", "debug", "v", "info"):
        assert f"\n  -{name}" in text

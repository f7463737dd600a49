import os
import stat
from pathlib import Path

import pytest

from runtime import bundle as bundles
from runtime.bundle import Bundle
from runtime.errors import InvalidArgument


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (None, "No such file"),
        (b"{", "not valid JSON"),
        (b"\xff\xfe{}", "not valid JSON"),
        (b"[]", "found list"),
        (b'{"annotations": ' + b"[" * 100_000, "not valid JSON: found arrays and objects nested more than 64 deep"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "not valid JSON: found arrays and objects nested more than 64 deep"),
        (b'{"linux": "x"}', "linux: found str, allowed an object"),
        (b'{"annotations": []}', "annotations: found list, allowed an object"),
        (b'{"annotations": {"a": 1}}', "annotations.a: found int, allowed a string"),
        (b'{"annotations": {"\\ud800\\n": 1}}', r"annotations.\\ud800\\n: found int, allowed a string"),
        (b'{"process": {"user": 0}}', "process.user: found int, allowed an object"),
        (b'{"root": true}', "root: found bool, allowed an object"),
        (b'{"linux": {"namespaces": {"a": 1}}}', "linux.namespaces: found dict, allowed an array"),
        (b'{"linux": {"namespaces": [null]}}', r"linux.namespaces\[0\]: found NoneType, allowed an object"),
    ],
)
def test_a_bad_spec_is_named_with_its_file(tmp_path: Path, content: bytes | None, text: str):
    if content is not None:
        (tmp_path / "config.json").write_bytes(content)
    with pytest.raises(InvalidArgument, match=f"^{tmp_path}/config.json: {text}"):
        Bundle(str(tmp_path)).load_spec()


def test_a_spec_as_deep_as_is_allowed_can_be_written_too(tmp_path: Path):
    (tmp_path / "config.json").write_bytes(b'{"a":' * 64 + b"1" + b"}" * 64)
    bundle = Bundle(str(tmp_path))
    spec = bundle.load_spec()
    bundle.write_spec(spec)
    assert bundle.load_spec() == spec


@pytest.mark.parametrize("content", [b"{}", b'{"linux": null, "process": {"user": null}, "annotations": null}'])
def test_a_spec_that_leaves_things_out_is_read(tmp_path: Path, content: bytes):
    (tmp_path / "config.json").write_bytes(content)
    assert "linux" not in Bundle(str(tmp_path)).load_spec() or content != b"{}"


def test_a_spec_is_replaced_whole_and_for_root_only(tmp_path: Path):
    bundle = Bundle(str(tmp_path))
    (tmp_path / "config.json").write_text('{"a": "long, long, long"}')
    bundle.write_spec({"b": 1})
    assert bundle.load_spec() == {"b": 1}
    assert stat.S_IMODE(os.stat(bundle.spec_file).st_mode) == 0o600
    assert os.listdir(tmp_path) == ["config.json"]


def test_a_record_is_there_until_it_is_removed(tmp_path: Path):
    bundle = Bundle(str(tmp_path))
    assert bundle.load_record() is None
    bundle.write_record({"version": 1})
    assert bundle.load_record() == {"version": 1}
    bundle.remove_record()
    bundle.remove_record()
    assert bundle.load_record() is None


def test_a_write_does_not_follow_a_link(tmp_path: Path):
    (tmp_path / "victim").write_text("as it was")
    (tmp_path / ".config.json").symlink_to(tmp_path / "victim")
    with pytest.raises(OSError, match="symbolic link"):
        Bundle(str(tmp_path)).write_spec({})
    assert (tmp_path / "victim").read_text() == "as it was"


@pytest.mark.parametrize(("text", "pid"), [("12", 12), ("12\n", 12)])
def test_a_pid_file_holds_a_pid(tmp_path: Path, text: str, pid: int):
    (tmp_path / "p").write_text(text)
    assert bundles.read_pid(str(tmp_path / "p")) == pid


@pytest.mark.parametrize("text", ["", "x", "1 2"])
def test_a_pid_file_with_something_else_is_a_value_error(tmp_path: Path, text: str):
    (tmp_path / "p").write_text(text)
    with pytest.raises(ValueError, match="invalid literal"):
        bundles.read_pid(str(tmp_path / "p"))


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (
            b'{"annotations": {"a": "b", "pouchrich.io/mode": "x\xff"}}',
            "annotations.pouchrich.io/mode: found byte 0xff",
        ),
        (
            b'{"annotations": {"pouchrich.io/\xfe": "x"}}',
            "annotations: found byte 0xfe in the key 'pouchrich.io/\\udcfe'",
        ),
        (b'{"process": {"args": ["sh", "\xff"]}}', "process.args[1]: found byte 0xff"),
        (b'{"process": \xff', "found byte 0xff at 12"),
    ],
)
def test_text_that_is_not_utf8_is_named(tmp_path, text, found):
    (tmp_path / "config.json").write_bytes(text)
    with pytest.raises(InvalidArgument) as failure:
        Bundle(str(tmp_path)).load_spec()
    assert str(failure.value) == f"{tmp_path}/config.json: {found}, allowed UTF-8"

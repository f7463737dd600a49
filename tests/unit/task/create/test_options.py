"""What a request's options mean, for each type they come in."""

import logging
import threading

import pytest
from google.protobuf.any_pb2 import Any
from google.protobuf.message import Message

from protos.gen import runc_options_pb2, runtimeoptions_pb2
from runtime import config, host
from runtime.config import file as config_file
from runtime.errors import FailedPrecondition, InvalidArgument
from shim.task import thread
from shim.task.create import options
from shim.task.stdio.stdio import Owner
from tests.fakes.loop import in_loop, until

BODY = b'version = 1\n[runtime]\nbinary = "/bin/sh"\nroot = "/state"\n'


def packed(message: Message, prefix: str = "") -> Any:
    return Any(type_url=prefix + message.DESCRIPTOR.full_name, value=message.SerializeToString())


def handler(**fields: object) -> Any:
    return packed(runtimeoptions_pb2.Options(**fields))


@pytest.mark.parametrize("prefix", ["", "types.googleapis.com/"])
def test_runc_options_are_all_honoured(prefix: str):
    given = runc_options_pb2.Options(
        no_pivot_root=True,
        no_new_keyring=True,
        io_uid=1,
        io_gid=2,
        binary_name="/bin/sh",
        root="/r",
        systemd_cgroup=True,
        criu_work_path="/w",
    )
    found = options.read(packed(given, prefix))
    assert (found.no_pivot, found.no_new_keyring, found.owner, found.criu_work_path) == (True, True, Owner(1, 2), "/w")
    binary = found.oci_binary({}, "ns")
    assert (binary.path, binary.root, binary.systemd_cgroup) == ("/bin/sh", "/r/ns", True)


def test_a_handlers_table_is_the_configuration():
    found = options.read(handler(config_body=BODY))
    binary = found.oci_binary({}, "ns")
    assert (binary.path, binary.root) == ("/bin/sh", "/state/ns")


def test_without_options_the_nodes_configuration_counts():
    assert options.read(Any()).config == config.load_node()


@pytest.mark.parametrize(
    ("given", "text"),
    [
        (handler(), "found neither ConfigPath nor keys"),  # containerd 1.6 lost the table
        (handler(config_body=b"version = 1\nnope = 1\n"), "nope"),
        (handler(config_body=b"= ="), "handler options"),
        (handler(config_path="/nowhere/config.toml"), "/nowhere/config.toml"),
        (handler(config_path="relative"), "relative"),
    ],
)
def test_a_broken_configuration_refuses_a_container_but_not_a_sandbox(
    given: Any, text: str, caplog: pytest.LogCaptureFixture
):
    with pytest.raises(InvalidArgument, match=text):
        options.read(given)
    with caplog.at_level(logging.WARNING):
        assert options.read(given, sandbox=True).config == config.DEFAULT
    assert text in caplog.text


@pytest.mark.parametrize("sandbox", [False, True])
@pytest.mark.parametrize(
    ("given", "text"),
    [
        (
            Any(type_url="containerd.linux.runc.CreateOptions"),
            "options: found type containerd.linux.runc.CreateOptions",
        ),
        (Any(type_url="containerd.runc.v1.Options", value=b"\xff"), "the value is no containerd.runc.v1.Options"),
        (Any(type_url="runtimeoptions.v1.Options", value=b"\xff"), "the value is no runtimeoptions.v1.Options"),
    ],
)
def test_options_that_cannot_be_read_are_refused(given: Any, text: str, sandbox: bool):
    with pytest.raises(InvalidArgument, match=text):
        options.read(given, sandbox=sandbox)


@pytest.mark.parametrize(
    ("key", "path", "expected"),
    [
        ('"auto"', "kubepods-burstable.slice:cri-containerd:abc", True),
        ('"auto"', "/kubepods/burstable/abc", False),
        ('"auto"', "/a:b:c", False),
        ('"auto"', "a:b", False),
        ('"auto"', "", False),
        ('"auto"', None, False),
        ("true", "/kubepods/abc", True),
        ("false", "a.slice:b:c", False),
    ],
)
def test_systemds_form_of_a_cgroups_path_asks_for_systemd(
    monkeypatch: pytest.MonkeyPatch, key: str, path: str | None, expected: bool
):
    monkeypatch.setattr(host, "has_systemd", lambda: True)
    found = options.read(handler(config_body=BODY + b"systemd-cgroup = " + key.encode() + b"\n"))
    spec = {"linux": {"cgroupsPath": path}} if path is not None else {"linux": None}
    assert found.oci_binary(spec, "ns").systemd_cgroup is expected


@pytest.mark.parametrize(
    ("given", "runs", "expected"),
    [
        (Any(), False, False),
        (handler(config_body=BODY + b"systemd-cgroup = true\n"), False, True),
        (packed(runc_options_pb2.Options(systemd_cgroup=True)), False, True),
        (packed(runc_options_pb2.Options(io_uid=65536, io_gid=65536)), True, True),
        (packed(runc_options_pb2.Options(io_uid=65536, io_gid=65536)), False, False),
        (Any(), True, True),
    ],
    ids=["no systemd", "node says so", "containerd says so", "user namespace", "user namespace, no systemd", "systemd"],
)
def test_auto_asks_whether_there_is_a_systemd_and_containerds_word_wins(
    monkeypatch: pytest.MonkeyPatch, given: Any, runs: bool, expected: bool
):
    monkeypatch.setattr(host, "has_systemd", lambda: runs)
    spec = {"linux": {"cgroupsPath": "kubepods.slice:cri-containerd:abc"}}
    assert options.read(given).oci_binary(spec, "ns").systemd_cgroup is expected


def test_a_runtime_that_is_not_installed_is_named_with_where_it_was_asked_for():
    asked = options.read(packed(runc_options_pb2.Options(binary_name="no-such-runtime")))
    with pytest.raises(InvalidArgument, match=r"^options\.binary_name: found 'no-such-runtime'"):
        asked.oci_binary({}, "ns")


HOOK = BODY.replace(b"[runtime]", b'hooks.prestart = [{where = "host", command = ["/hung/register"]}]\n[runtime]')


@in_loop
async def test_a_host_hooks_program_that_does_not_answer_is_an_error_and_holds_up_nothing(
    monkeypatch: pytest.MonkeyPatch,
):
    """On NFS or FUSE lstat(2) may take for ever: it may not run in the event loop."""
    answers = threading.Event()
    monkeypatch.setattr(config_file, "trusted_path", lambda path: answers.wait())
    monkeypatch.setattr(options, "NODE_PATIENCE_S", 0.01)
    rescue = threading.Timer(10, answers.set)  # for the test to fail where the loop waits
    rescue.start()
    try:
        with pytest.raises(FailedPrecondition, match=r"handler options: hooks: /hung/register did not answer for"):
            await options.read_and_check(handler(config_body=HOOK))
    finally:
        rescue.cancel()
        answers.set()
    await until(lambda: not thread._unanswered)


@in_loop
async def test_a_host_hooks_program_is_not_looked_at_for_a_sandbox_and_refuses_a_container(
    monkeypatch: pytest.MonkeyPatch,
):
    with pytest.raises(InvalidArgument, match=r"hooks\.prestart\[0\]\.command\[0\]: found /hung"):
        await options.read_and_check(handler(config_body=HOOK))
    monkeypatch.setattr(config_file, "trusted_path", pytest.fail)
    assert (await options.read_and_check(handler(config_body=HOOK), sandbox=True)).config.hooks.prestart

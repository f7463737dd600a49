import os
import socket

import pytest

from shim.contract import bootstrap, flags
from shim.manager import delete_fast
from shim.pod import cleanup


@pytest.fixture
def given():
    return flags.parse(["-namespace", "ns", "-id", "pod", "delete"])


@pytest.fixture
def bundle(tmp_path):
    (tmp_path / "bundle" / "rootfs").mkdir(parents=True)
    return tmp_path / "bundle"


def clean(given, bundle, tmp_path):
    return delete_fast.is_clean(given, str(bundle), records=str(tmp_path / "records"), run=str(tmp_path / "run"))


def test_a_bundle_without_traces_is_clean(given, bundle, tmp_path):
    (bundle / "address").write_text(f"unix://{tmp_path}/gone")
    assert clean(given, bundle, tmp_path)


def test_a_bundle_that_does_not_say_where_the_socket_was_is_work_for_delete(given, bundle, tmp_path):
    assert not clean(given, bundle, tmp_path)


@pytest.mark.parametrize(
    "left", ["bundle/pouchrich.json", "records/ns/pod.jsonl", "run/bundles/ns/pod", "run/pods/ns/pod"]
)
def test_a_trace_of_the_container_is_work_for_delete(given, bundle, tmp_path, left):
    (tmp_path / left).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / left).symlink_to("anywhere")
    assert not clean(given, bundle, tmp_path)


@pytest.mark.parametrize(("sandbox", "is_clean"), [("box", True), ("gone", False), ("../x", False)])
def test_a_member_is_clean_where_it_has_no_bundle_of_ours(given, bundle, tmp_path, sandbox, is_clean):
    (tmp_path / "run/pods/ns/gone/pod").mkdir(parents=True)
    (bundle / "sandbox").write_text(sandbox)
    assert clean(given, bundle, tmp_path) is is_clean


def test_a_socket_is_left_for_delete_only_when_nobody_listens(given, bundle, tmp_path):
    path = tmp_path / "s"
    (bundle / "address").write_text(f"unix://{path}")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        assert clean(given, bundle, tmp_path)
    assert not clean(given, bundle, tmp_path)


def test_the_fast_path_says_the_status_that_delete_says():
    assert delete_fast.KILLED == cleanup.KILLED


def test_the_answer_is_what_delete_would_say(bundle, tmp_path):
    (bundle / "init.pid").write_text("4321")
    (bundle / "address").write_text(f"unix://{tmp_path}/gone")
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.dup2(writer, 1)
        delete_fast.sys.argv = ["shim", "-namespace", "ns", "-id", "pod", "-bundle", str(bundle), "delete"]
        delete_fast.main()
        os._exit(9)
    os.close(writer)
    answer = os.read(reader, 100)
    os.close(reader)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert answer.startswith(bootstrap.delete_response(4321, 137, 0, 0)[:5])


@pytest.mark.parametrize(
    ("name", "plain"), [("a-b_c.d1", True), ("", False), ("a/b", False), ("..", False), ("é", False)]
)
def test_only_names_that_are_no_paths_take_the_fast_path(name, plain):
    assert delete_fast._is_plain(name) == plain

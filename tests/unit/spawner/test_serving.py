"""What a spawner's child takes for a request, and what a pod server keeps of who started it."""

import json
import os
import signal
import socket

import pytest

from protos.gen import bootstrap_pb2
from shim.contract import address, bootstrap
from shim.spawner import child, containerd_version, receive, server
from shim.spawner.request import DONE, FAILED, Request, encode


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def place(tmp_path, monkeypatch):
    """The working directory, which a request may change."""
    before = os.open(".", os.O_PATH)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    os.fchdir(before)
    os.close(before)


def send(theirs, directory, key="1 key"):
    fd = os.open(directory, os.O_PATH | os.O_DIRECTORY)
    socket.send_fds(theirs, [encode(key, 1, ["start"], {b"A": b"1"}, b"stdin")], [fd])
    os.close(fd)


def test_a_request_is_taken_with_its_directory(pair, place):
    ours, theirs = pair
    (place / "bundle").mkdir()
    send(theirs, place / "bundle")
    request, pid = receive._receive(ours, "1 key")
    assert (request.args, pid, os.getcwd()) == (["start"], os.getpid(), str(place / "bundle"))


def test_a_request_with_another_key_is_refused_and_changes_nothing(pair, place):
    ours, theirs = pair
    send(theirs, "/", key="1 other")
    with pytest.raises(ValueError, match="found key '1 other', allowed '1 key'"):
        receive._receive(ours, "1 key")
    assert os.getcwd() == str(place)


def test_a_request_of_another_user_is_not_read(pair, place, monkeypatch):
    ours, theirs = pair
    send(theirs, "/")
    uid = os.geteuid()
    monkeypatch.setattr(receive.os, "geteuid", lambda: uid + 1)
    with pytest.raises(PermissionError, match=f"found uid {uid}"):
        receive._receive(ours, "1 key")


def test_a_spawner_is_wanted_until_its_configuration_or_its_place_changes(tmp_path, monkeypatch):
    path = str(tmp_path / "s")
    lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT, 0o600)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    listener.bind(path)
    pidfd = os.pidfd_open(os.getpid())
    monkeypatch.setattr(server.stamp, "of_file", lambda file: (1,))
    one = server.Spawner(path, "1 key", lock, pidfd, listener.detach(), (1,), is_warm=True)
    assert one._is_wanted()
    monkeypatch.setattr(server.stamp, "of_file", lambda file: (2,))
    assert not one._is_wanted()
    monkeypatch.setattr(server.stamp, "of_file", lambda file: (1,))
    os.unlink(path + ".lock")
    assert not one._is_wanted()
    one._listener.close()
    for fd in (lock, pidfd):
        os.close(fd)


def request(*args):
    return Request(encode("1 key", os.getpid(), [*args, "start"], {}, b""))


def said(theirs):
    answer = theirs.recv(1000)
    return answer[:1], answer[1:].decode()


def test_a_bad_id_is_an_answer_and_nothing_listens(pair, place):
    ours, theirs = pair
    with pytest.raises(Exception, match="-id: found"):
        child._serve(request("-namespace", "ns", "-id", "../x", "-socket", str(place / "s")), ours, "")
    assert said(theirs)[0] == FAILED
    assert os.listdir(place) == []


def test_a_start_that_fails_after_it_listened_leaves_no_socket(pair, place, monkeypatch):
    ours, theirs = pair

    def full(bundle, found):
        assert (place / "s").exists()
        raise OSError(28, "No space left on device")

    real, listeners = address.listen, []
    monkeypatch.setattr(address, "listen", lambda path: listeners.append(real(path)) or listeners[0])
    monkeypatch.setattr(address, "write_address_file", full)
    monkeypatch.setattr(child, "raise_oom_score", lambda *, above: None)
    with pytest.raises(OSError, match="No space"):
        child._serve(request("-namespace", "ns", "-id", "c", "-socket", str(place / "s")), ours, "")
    kind, why = said(theirs)
    assert (kind, "No space left" in why) == (FAILED, True)
    assert not (place / "s").exists()
    listeners[0].close()


def test_where_a_server_listens_already_its_address_is_the_answer(pair, place, monkeypatch):
    ours, theirs = pair
    monkeypatch.setattr(address, "listen", lambda path: None)
    assert child._serve(request("-namespace", "ns", "-id", "c", "-socket", str(place / "s")), ours, "") == 0
    assert said(theirs) == (DONE, f"unix://{place}/s")
    assert (place / "address").read_text() == f"unix://{place}/s"


@pytest.mark.parametrize(
    ("is_known", "group", "version"),
    [(True, "c", 3), (True, "other", 2), (True, "", 2), (False, "c", 2)],
    ids=["a sandbox", "a member", "a container by itself", "a sandbox of an old containerd"],
)
def test_version_3_is_for_sandboxes_of_a_containerd_that_takes_it(pair, place, monkeypatch, is_known, group, version):
    ours, theirs = pair
    monkeypatch.setattr(address, "listen", lambda path: None)
    monkeypatch.setattr(containerd_version, "accepts_version_3", lambda: is_known)
    annotations = {"io.kubernetes.cri.sandbox-id": group} if group else {}
    (place / "config.json").write_text(json.dumps({"annotations": annotations}))
    assert child._serve(request("-namespace", "ns", "-id", "c", "-address", "/c"), ours, "") == 0
    kind, answer = said(theirs)
    plain = (place / "address").read_text()
    assert (kind, answer) == (DONE, bootstrap.start_answer(plain, version=version))


def test_version_3_is_also_for_a_containerd_that_says_its_release(pair, place, monkeypatch):
    ours, theirs = pair
    monkeypatch.setattr(address, "listen", lambda path: None)
    (place / "config.json").write_text('{"annotations": {"io.kubernetes.cri.sandbox-id": "c"}}')
    params = bootstrap_pb2.BootstrapParams(instance_id="c", namespace="ns").SerializeToString()
    words = ["-namespace", "ns", "-id", "c", "-address", "/c", "start"]
    assert child._serve(Request(encode("1 key", os.getpid(), words, {}, params)), ours, "") == 0
    assert said(theirs)[1].startswith('{"version":3,')


def in_child(work):
    """What `work()` returns in a process of its own, which it may change as it likes."""
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(write, work().encode())
        finally:
            os._exit(0)
    os.close(write)
    with open(read) as file:
        text = file.read()
    os.waitpid(pid, 0)
    return text


def test_a_pod_server_is_killed_for_memory_before_its_containerd():
    def work():
        child.raise_oom_score(above=os.getppid())
        return child.read("/proc/self/oom_score_adj").decode()

    above = int(child.read("/proc/self/oom_score_adj"))
    assert int(in_child(work)) == min(above + 1, 1000)


def test_a_pod_server_keeps_nothing_of_its_parents_session_mask_or_signals(pair):
    ours, theirs = pair

    def work():
        os.umask(0o077)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
        child._let_go(theirs.fileno(), ())
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
        facts = (os.getsid(0) == os.getpid(), len(mask), os.umask(0), sorted(os.listdir("/proc/self/fd"))[:4])
        socket.socket(fileno=child.CHANNEL).send(repr(facts).encode())
        return ""

    in_child(work)
    assert ours.recv(1000) == repr((True, 0, 0o022, ["0", "1", "2", "3"])).encode()


def test_a_log_is_no_link_to_anywhere(place):
    os.mkfifo(place / "elsewhere")
    reader = os.open(place / "elsewhere", os.O_RDONLY | os.O_NONBLOCK)
    (place / "log").symlink_to("elsewhere")
    assert child.open_log() == -1
    (place / "log").unlink()
    (place / "elsewhere").rename(place / "log")
    log = child.open_log()
    assert log >= 0
    for fd in (reader, log):
        os.close(fd)

"""Which version of the start protocol the spawner's containerd takes."""

import os
import time

import pytest

from shim.spawner import containerd_version


@pytest.fixture(autouse=True)
def unknown(monkeypatch):
    monkeypatch.setattr(containerd_version, "_takes_3", False)


@pytest.mark.parametrize(
    ("said", "major"),
    [
        (b"containerd github.com/containerd/containerd/v2 v2.1.9 0123abc\n", 2),
        (b"containerd github.com/containerd/containerd/v2 2.1.9+unknown \n", 2),
        (b"containerd github.com/k3s-io/containerd v2.0.5-k3s2 a1b2\n", 2),
        (b"containerd github.com/containerd/containerd 1.7.24~ds1 1.7.24~ds1-6+deb13u1\n", 1),
        (b"containerd github.com/containerd/containerd/v2 v12.0.0\n", 12),
        (b"containerd github.com/containerd/containerd/v2\n", 0),
        (b"containerd x devel\n", 0),
        (b"containerd x v.1\n", 0),
        ("containerd x \u0662.1\n".encode(), 0),
        (b"Python 3.11.2\n", 0),
        (b"python3 x 3.11.2\n", 0),
        (b"\xff\xfe", 0),
        (b"", 0),
    ],
)
def test_what_containerd_prints_names_its_release(said: bytes, major: int):
    assert containerd_version.major_of(said) == major


@pytest.fixture
def answering(monkeypatch):
    """Have what is executed be a shell script."""

    def with_script(script: str) -> None:
        real = os.posix_spawn

        def spawn(path, words, env, **more):
            assert (path, words) == ("/proc/4711/exe", ["containerd", "--version"])
            return real("/bin/sh", ["containerd", "-c", script], env, **more)

        monkeypatch.setattr(containerd_version.os, "posix_spawn", spawn)

    return with_script


@pytest.mark.parametrize(
    ("script", "takes"),
    [
        ("echo containerd x v2.0.0", True),
        ("echo containerd x v1.7.24; echo containerd x v2.0.0 >&2", False),
        ("exit 1", False),
        ("kill -9 $$", False),
    ],
)
def test_it_is_what_the_executable_says(answering, script: str, takes: bool):
    answering(script)
    containerd_version.VersionQuery(4711).finish()
    assert containerd_version.accepts_version_3() is takes


def test_one_that_does_not_answer_is_ended_and_counts_as_old(answering, monkeypatch):
    answering("echo containerd x v2.0; exec sleep 60")
    question = containerd_version.VersionQuery(4711)
    while not os.fstat(question._said).st_size:
        time.sleep(0.01)
    monkeypatch.setattr(containerd_version, "PATIENCE_S", 0.05)
    began = time.monotonic()
    question.finish()
    assert time.monotonic() - began < 30
    assert containerd_version.accepts_version_3() is False
    with pytest.raises(ChildProcessError):
        os.waitpid(question._pid, os.WNOHANG)


def test_nobody_to_ask_is_no_error(monkeypatch):
    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(containerd_version.os, "posix_spawn", refuse)
    containerd_version.VersionQuery(4711).finish()
    assert containerd_version.accepts_version_3() is False

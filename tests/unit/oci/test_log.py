"""What runc 1.1.5, crun 1.8.1 and 1.21 said when they were provoked."""

import pytest

from runtime.oci import log

RUNC_UNKNOWN = b'{"level":"error","msg":"container does not exist","time":"2026-11-22T21:16:23Z"}\n'
CRUN_UNKNOWN = (
    b'{"msg":"error opening file `/run/pouchrich/runtime/k8s.io/c/status`: No such file or directory",'
    b'"level":"error","time":"2026-11-22T21:16:22.991416Z"}\n'
)
CRUN_UNKNOWN_DELETE = (
    b'{"msg":"cannot open directory \'/run/pouchrich/runtime/k8s.io/c\': No such file or directory",'
    b'"level":"error","time":"2026-11-22T21:16:22.996748Z"}\n'
)
CRUN_1_21_UNKNOWN_DELETE = (
    b'{"msg":"cannot open directory `/run/pouchrich/runtime/k8s.io/c`: No such file or directory",'
    b'"level":"error","time":"2026-11-29T17:56:03.996748Z"}\n'
)


@pytest.mark.parametrize("said", [RUNC_UNKNOWN, CRUN_UNKNOWN, CRUN_UNKNOWN_DELETE, CRUN_1_21_UNKNOWN_DELETE])
def test_a_container_that_the_runtime_does_not_know_is_recognised(said: bytes):
    text = log.last_error(said, b"", 1)
    assert text
    assert log.says_unknown(text)


@pytest.mark.parametrize(
    "text",
    [
        "cannot open `/etc/passwd`: No such file or directory",
        "rmdir `/sys/fs/cgroup/x`: Device or resource busy",
        "container not running",
        'exec: "nope": executable file not found in $PATH: no such file or directory',
    ],
)
def test_another_missing_file_is_not_taken_for_a_missing_container(text: str):
    assert not log.says_unknown(text)


@pytest.mark.parametrize(
    "text",
    ["container not running", "os: process already finished", "kill: No such process", "the container is not running"],
)
def test_an_ended_process_is_recognised(text: str):
    assert log.says_finished(text)


@pytest.mark.parametrize(
    ("said", "output", "expected"),
    [
        (b'{"level":"error","msg":"first"}\n{"level":"error","msg":" second "}\n', b"", "second"),
        (b'{"level":"error","msg":"why"}\n{"level":"warning","msg":"and"}\n', b"", "why"),
        (b'{"level":"error","msg":"why"}\n{"level":"error","msg":" "}\n', b"", "why"),
        (b'tail of a line"}\n{"level":"info","msg":"x"}\n', b" printed \n", "printed"),
        (b'["error"]\n"error"\n1\nnull\n', b"", "exit status 3"),
        (b"", b"\xff", "\N{REPLACEMENT CHARACTER}"),
        (b"", b"", "exit status 3"),
        (b'{"level":"error"}', b"", "exit status 3"),
    ],
)
def test_the_best_explanation_is_the_last_error(said: bytes, output: bytes, expected: str):
    assert log.last_error(said, output, 3) == expected

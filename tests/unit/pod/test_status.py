"""Every category of failure has its code, and nothing else has one."""

import errno

import pytest

from runtime import errors
from shim.pod import status
from shim.ttrpc.errors import Code


def categories() -> list[type[BaseException]]:
    return [
        kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.PouchrichError)
    ]


def test_no_category_is_missing():
    assert set(categories()) == set(status.CODES)


@pytest.mark.parametrize(
    ("error", "code", "message"),
    [
        (errors.InvalidArgument("x"), 3, "x: invalid argument"),
        (errors.NotFound("container not created"), 5, "container not created: not found"),
        (errors.AlreadyExists("id e"), 6, "id e: already exists"),
        (errors.FailedPrecondition("x"), 9, "x: failed precondition"),
        (errors.Unsupported("x"), 12, "x: not implemented"),
        (errors.Unavailable("x"), 14, "x: unavailable"),
        (errors.DeadlineExceeded("x"), 4, "x"),
        (errors.RuntimeFailed("OCI runtime create failed: x"), 2, "OCI runtime create failed: x"),
        (errors.HookFailed("x"), 2, "x"),
        (errors.PouchrichError("rootfs mount 0: x"), 2, "rootfs mount 0: x"),
        (errors.NotFound("x: not found"), 5, "x: not found"),
    ],
)
def test_each_category_has_its_code_and_tail(error: Exception, code: int, message: str):
    assert status.status_of(error) == (code, message)


def test_a_category_of_a_category_takes_its_parents_code():
    class Missing(errors.NotFound):
        pass

    assert status.code_of(Missing("x")) is Code.NOT_FOUND


@pytest.mark.parametrize("number", sorted(errno.errorcode))
def test_a_refusal_of_the_kernel_never_means_that_the_task_is_gone(number: int):
    answer = status.status_of(OSError(number, "what it says", "/path"))
    assert answer is not None
    assert answer[0] == Code.UNKNOWN
    assert "what it says" in answer[1]


@pytest.mark.parametrize("error", [ValueError("x"), KeyError("x"), AssertionError(), RuntimeError("x")])
def test_a_bug_is_of_no_category(error: Exception):
    assert status.status_of(error) is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2Jgone\x07", "\\x1b[2Jgone\\x07"),
        ("one\r\n two\n\n", "one; two"),
        ("\udcff\u202e", "\\udcff\\u202e"),
        ("köln €", "köln €"),
        ("x" * 20000, "x" * 8192 + " ... " + "x" * 8192),
    ],
)
def test_what_a_container_wrote_steers_no_terminal_and_fits_a_message(text: str, shown: str):
    assert status.status_of(errors.RuntimeFailed(text)) == (2, shown)
    assert status.status_of(OSError(text)) == (2, shown)

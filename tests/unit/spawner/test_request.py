"""shim.spawner.request: what a starter sends is what the spawner's child reads, whatever a command line holds."""

import os
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shim.spawner import request

words = st.binary(max_size=40).map(lambda data: data.replace(b"\0", b""))
names = st.binary(min_size=1, max_size=20).map(lambda data: data.replace(b"\0", b"").replace(b"=", b"")).filter(bool)


@given(st.lists(words.map(os.fsdecode), max_size=6), st.dictionaries(names, words, max_size=6), st.binary(max_size=200))
def test_a_request_is_read_as_it_was_packed(args, environment, stdin):
    read = request.Request(request.encode("1 2 3", 77, args, environment, stdin))
    assert (read.key, read.containerd, read.args) == ("1 2 3", 77, args)
    assert (read.environment, read.stdin) == (environment, stdin)


@given(st.binary(max_size=300) | st.lists(st.sampled_from([b"0", b"1", b"-1", b"99999999999", b"x"])).map(b"\0".join))
def test_anything_else_is_refused_or_means_what_is_read(message):
    try:
        read = request.Request(message)
    except ValueError:
        return
    again = request.Request(request.encode(read.key, read.containerd, read.args, read.environment, read.stdin))
    assert [getattr(again, name) for name in read.__slots__] == [getattr(read, name) for name in read.__slots__]


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((b"k", b"1"), "not enough values to unpack"),
        ((b"k", b"x", b"0", b"0", b""), "invalid literal"),
        ((b"k", b"1", b"x", b"0", b""), "invalid literal"),
        ((b"k", b"1", b"-1", b"0", b""), "found -1 words"),
        ((b"k", b"1", b"2", b"a", b"0"), "found 1 words, not 2"),
        ((b"k", b"1", b"0", b"1", b""), "found 1 words in 0 bytes"),
        ((b"k", b"1", b"9" * 30, b"a", b"0", b""), "words in"),
        ((b"\xff", b"1", b"0", b"0", b""), "can't decode"),
    ],
)
def test_a_request_with_other_numbers_or_words_is_refused(words, reason):
    with pytest.raises(ValueError, match=reason):
        request.Request(b"\0".join(words))


def test_what_is_no_variable_is_left_out():
    """As Python leaves it out of os.environ; the native program sends its environment as it is."""
    message = b"\0".join([b"1", b"1", b"0", b"3", b"A=1", b"no variable", b"B==", b"stdin"])
    assert request.Request(message).environment == {b"A": b"1", b"B": b"="}


def test_a_key_begins_with_the_process_served_and_names_what_is_shared():
    key = request.key()
    assert request.containerd_of(key) == os.getppid()
    for fact in (os.stat(sys.executable).st_ino, os.stat("/").st_ino, os.readlink("/proc/self/ns/mnt")):
        assert str(fact) in key.split()


@pytest.mark.parametrize(("key", "number"), [("a", 0x61), ("aa", 0x6161), ("x" * 200, None)])
def test_a_socket_is_named_by_the_remainder_of_the_key(key, number):
    expected = int.from_bytes(key.encode(), "big") % (2**61 - 1) if number is None else number
    assert request.socket_path(key) == f"/run/pouchrich/spawner-{expected:016x}.sock"


@pytest.mark.parametrize(
    "message",
    [
        b"k\x001\x001" + b"0" * 30 + b"\x00rest",
        b"k\x001\x000\x003\x00A=1\x00stdin",
        b"k\x001\x000\x00-1\x00A=1\x00stdin",
    ],
)
def test_a_number_of_words_that_are_not_there_is_refused(message):
    with pytest.raises(ValueError, match="request: found"):
        request.Request(message)


def test_a_key_changes_with_each_installation(tmp_path):
    os.utime(tmp_path, ns=(1, 1))
    before = request.key_of(1, code=str(tmp_path), python=sys.executable)
    assert request.key_of(1, code=str(tmp_path), python=sys.executable) == before
    os.utime(tmp_path, ns=(1, 2))
    assert request.key_of(1, code=str(tmp_path), python=sys.executable) != before

"""pouchrich.private_keys: what a private key looks like in a text and in a log, whole or cut."""

import pytest

from pouchrich import private_keys
from pouchrich.private_keys import GONE

BODY = "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj"
BEGINS = [
    ("-----BEGIN PRIVATE KEY-----", "-----END PRIVATE KEY-----"),
    ("-----BEGIN RSA PRIVATE KEY-----", "-----END RSA PRIVATE KEY-----"),
    ("-----BEGIN OPENSSH PRIVATE KEY-----", "-----END OPENSSH PRIVATE KEY-----"),
    ("-----BEGIN PGP PRIVATE KEY BLOCK-----", "-----END PGP PRIVATE KEY BLOCK-----"),
    ("---- BEGIN SSH2 ENCRYPTED PRIVATE KEY ----", "---- END SSH2 ENCRYPTED PRIVATE KEY ----"),
]


@pytest.mark.parametrize(("begin", "end"), BEGINS)
def test_a_key_of_several_lines_or_of_one(begin, end):
    assert private_keys.without(f"a\nkey: {begin}\nhunter2\n{end} b\nc") == f"a\nkey: {GONE} b\nc"
    assert private_keys.without(f"key='{begin}\\nhunter2\\n{end}' b") == f"key='{GONE}' b"
    assert private_keys.without(f"{begin}hunter2{end} {begin}hunter2{end}") == f"{GONE} {GONE}"


@pytest.mark.parametrize(("begin", "end"), BEGINS)
def test_a_key_that_is_cut(begin, end):
    assert private_keys.without(f"a {begin}\nhunter2") == f"a {GONE}"
    assert private_keys.without(f"x\ninit[1]: {BODY}\ninit[1]: hunter2=\ninit[1]: {end} b") == (
        f"x\ninit[1]: {GONE}\ninit[1]: {GONE}\ninit[1]: {GONE} b"
    )
    assert private_keys.without(f"hunter2\n{end}") == GONE
    assert private_keys.without(f"hunter2{end}\nb") == f"{GONE}\nb"
    assert private_keys.without(f"x {BODY}\nx {BODY}\n") == f"x {GONE}\nx {GONE}\n"


@pytest.mark.parametrize(
    "text",
    [
        "sha256:" + "0123456789abcdef" * 4,
        "0::/kubepods.slice/" + "a" * 40,
        "/opt/" + "/".join(["directory"] * 12),
        "-----BEGIN CERTIFICATE-----",
        "the PRIVATE KEY of nobody",
        "",
    ],
)
def test_what_is_no_key_stays(text):
    assert private_keys.without(text) == text


def test_a_key_ends_at_the_latest_after_some_lines():
    """A container that writes only the first line of a key does not hide all that comes after it."""
    lines = [("a", "-----BEGIN PRIVATE KEY-----"), *[("a", "x y")] * 1000]
    assert private_keys.without_in_log(lines).index("x y") == private_keys.MOST_LINES


def test_each_writer_of_a_log_has_its_own_keys():
    begin, end = BEGINS[0]
    lines = [("a", begin), ("b", "hunter"), ("a", "hunter2"), ("b", "hunter"), ("a", f"{end} x"), ("a", "y")]
    assert private_keys.without_in_log(lines) == [GONE, "hunter", GONE, "hunter", f"{GONE} x", "y"]
    cut = [("a", "hunter2"), ("b", "hunter"), ("a", end)]
    assert private_keys.without_in_log(cut) == [GONE, "hunter", GONE]

import os
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.rich import env_pam


def lines(text):
    return [one for one in text.splitlines() if one and not one.startswith("#")]


def test_a_value_stands_between_double_quotes_that_need_no_escapes():
    assert env_pam.line("A", 'it\'s "x" \\') == 'A="it\'s "x" \\"\n'


@pytest.mark.parametrize("value", ["a#b", "a\nb", "\n", "a\rb", "a\x01", "\x7f", "x" * 1000, "\ud800"])
def test_what_pam_would_read_as_something_else_has_no_line(value):
    assert env_pam.line("A", value) is None


def test_a_line_of_a_thousand_bytes_is_the_longest():
    assert len(env_pam.line("A", "x" * 995)) == 1000
    assert env_pam.line("A", "x" * 996) is None
    assert env_pam.line("A", "ü" * 498) is None


@given(st.dictionaries(st.from_regex(r"[A-Z]{1,4}", fullmatch=True), st.text(max_size=12), max_size=4))
def test_any_environment_gives_one_line_for_each_name_or_says_that_there_is_none(env):
    env.pop("PATH", None)
    text, unholdable = env_pam.text(env)
    assert os.fsencode(text).count(b"\n") == 1 + len(env) - len(unholdable)


def test_the_lines_of_the_image_come_first_and_those_of_the_pod_hold():
    text, _ = env_pam.text({"A": "pod"}, "# ours\nA=image\nB=image")
    assert lines(text) == ["A=image", "B=image", 'A="pod"']
    # A line that the image ended with a backslash goes on in a comment.
    text, _ = env_pam.text({"A": "pod"}, "A=image\\\n\n\n")
    assert text.startswith("A=image\\\n# ")


@pytest.mark.parametrize(
    ("image", "wanted"),
    [
        ("", 'PATH="/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/opt/x"'),
        ('PATH="/a:/usr/bin"\n', 'PATH="/a:/usr/bin:/opt/x"'),
        ("export PATH=/a\nPATH='/b'\n", 'PATH="/b:/opt/x"'),
    ],
)
def test_path_is_that_of_the_image_made_longer(image, wanted):
    text, _ = env_pam.text({"PATH": "/opt/x:/usr/bin:bin::/opt/x" if "/usr/bin" in wanted else "/opt/x"}, image)
    assert lines(text)[-1] == wanted


def test_a_path_that_adds_nothing_leaves_the_sessions_own_alone():
    assert lines(env_pam.text({"PATH": "/bin:/usr/bin:.:"})[0]) == []


def test_the_images_service_gets_one_line_at_its_end():
    text = env_pam.service("session required pam_env.so")
    assert text.startswith("session required pam_env.so\n")
    assert lines(text)[-1].endswith(f"conffile=/dev/null readenv=1 envfile={env_pam.CRON_ENVIRONMENT} user_readenv=0")


def test_a_line_of_blanks_is_read_in_one_pass():
    """An image's file, of as many bytes as are taken: nothing in it makes a Create wait."""
    began = time.process_time()
    env_pam.text({"PATH": "/opt/bin"}, "PATH=" + " " * (env_pam.MAX_TEXT - 6) + "#")
    assert time.process_time() - began < 0.1

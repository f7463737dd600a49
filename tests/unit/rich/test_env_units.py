import pytest

from runtime.rich import env_units


def assignments(text):
    return [one for one in text.splitlines() if one.startswith("DefaultEnvironment=")]


def test_values_are_quoted_and_escaped_as_systemd_unescapes_them():
    text, unholdable = env_units.drop_in({"A": "100% \"x\" 'y' \\n\n\t$HOME ü"}, 252)
    assert assignments(text) == ['DefaultEnvironment="A=100%% \\"x\\" \'y\' \\\\n\\n\\t$HOME ü"']
    assert unholdable == ()


@pytest.mark.parametrize("value", ["a\rb", "a\x01", "\x7f", "\udcff"])
def test_what_systemd_refuses_in_a_value_is_named_instead(value):
    text, unholdable = env_units.drop_in({"A": value, "B": "b"}, 252)
    assert (assignments(text), unholdable) == (['DefaultEnvironment="B=b"'], ("A",))


@pytest.mark.parametrize(
    ("version", "value", "wanted"),
    [
        (None, "100%", None),
        (234, "100%", None),
        (247, "%h %%", '"A=%h %%"'),
        (248, "100%", None),
        (252, "%h %%", '"A=%%h %%%%"'),
        (None, "x" * 2000, None),
        (234, "x" * 2000, None),
        (247, "x" * 2000, f'"A={"x" * 2000}"'),
    ],
)
def test_a_systemd_that_may_not_read_it_so_is_not_given_it(version, value, wanted):
    text, unholdable = env_units.drop_in({"A": value}, version)
    assert assignments(text) == ([f"DefaultEnvironment={wanted}"] if wanted else [])
    assert unholdable == (() if wanted else ("A",))


def test_path_is_made_longer_and_else_left_alone():
    assert assignments(env_units.drop_in({"PATH": "/bin:.:/usr/bin"}, 252)[0]) == []
    (line,) = assignments(env_units.drop_in({"PATH": "/opt/x:/bin"}, 252)[0])
    assert line.endswith(':/sbin:/bin:/opt/x"')


def test_the_script_becomes_its_arguments():
    assert env_units.script({"A": "it's"}).endswith("|| A='it'\\''s'; export A\nexec \"$@\"\n")

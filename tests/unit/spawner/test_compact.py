import sys

import pytest

from shim.spawner import compact


def plain(number):
    return number + 1


def with_inner(numbers):
    def inner(number, step=2):
        return number + step

    return [inner(number) for number in numbers]


def not_called():
    return "never"


class Thing:
    def __init__(self, number):
        self.number = number

    @property
    def doubled(self):
        return 2 * self.number

    @staticmethod
    def static():
        return "static"


def play():
    Thing.static()
    return plain(1), with_inner([1, 2]), Thing(4).doubled


def test_what_is_called_is_found_and_nothing_else():
    names = {code.co_name for code in compact.called_by(play)}
    assert {"play", "plain", "with_inner", "inner", "__init__", "doubled", "static"} <= names
    assert "not_called" not in names


def test_who_called_is_no_longer_told_of_calls():
    def fail():
        raise KeyError("x")

    for played in (play, fail):
        try:
            compact.called_by(played)
        except KeyError:
            assert played is fail
        assert sys.getprofile() is None


@pytest.mark.skipif(sys.version_info >= (3, 13), reason="there nothing is gathered")
def test_functions_keep_what_they_do_and_get_code_of_their_own():
    before = {function: function.__code__ for function in (plain, with_inner, not_called, Thing.__init__)}
    inner_before = next(one for one in with_inner.__code__.co_consts if getattr(one, "co_name", "") == "inner")
    answers = play()
    compact.gather(compact.called_by(play))
    assert play() == answers
    changed = {function.__name__ for function, code in before.items() if function.__code__ is not code}
    assert changed == {"plain", "with_inner", "__init__"}
    assert all(function.__code__ == code for function, code in before.items())
    inner = next(one for one in with_inner.__code__.co_consts if getattr(one, "co_name", "") == "inner")
    assert inner is not inner_before


def test_all_functions_of_a_module_are_found():
    found = compact.defined_in([__name__])
    assert {plain.__code__, not_called.__code__, Thing.static.__code__} <= set(found)
    assert play.__code__ in found
    assert compact.gather.__code__ not in found

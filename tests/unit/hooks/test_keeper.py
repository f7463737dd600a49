"""runtime.hooks.keeper: who is below whom."""

from runtime.hooks.keeper import descendants

TABLE = {
    1: (0, "S", "1"),
    10: (1, "S", "2"),
    11: (10, "S", "3"),
    12: (11, "Z", "4"),
    13: (11, "R", "5"),
    14: (13, "D", "6"),
    20: (1, "S", "7"),
}


def test_descendants_are_found_at_any_depth_and_zombies_are_none():
    assert descendants(10, TABLE) == {11: "3", 13: "5", 14: "6"}


def test_neighbours_and_the_top_itself_are_no_descendants():
    assert descendants(20, TABLE) == {}


def test_a_table_that_was_read_while_pids_changed_hands_does_not_loop():
    assert descendants(1, {2: (3, "S", "1"), 3: (2, "S", "1"), 4: (1, "S", "1")}) == {4: "1"}

"""A label goes where it covers nothing."""

from skipdit_cli.report.room import room

ALL = (0.0, 0.0, 100.0, 100.0)


def test_a_label_begins_above_and_to_the_right():
    assert room((50, 50), (20, 10), gap=8, inside=ALL, taken=[]) == ("start", (58, 36, 78, 46))


def test_what_is_taken_or_outside_moves_it():
    above = (58, 30, 60, 46)
    anchor, box = room((50, 50), (20, 10), gap=8, inside=ALL, taken=[above])
    assert (anchor, box) == ("start", (58, 54, 78, 64))
    anchor, box = room((95, 50), (20, 10), gap=8, inside=ALL, taken=[])
    assert (anchor, box) == ("end", (67, 36, 87, 46))
    anchor, box = room((50, 3), (94, 10), gap=8, inside=ALL, taken=[])
    assert (anchor, box) == ("middle", (3, 11, 97, 21))


def test_where_there_is_no_room_there_is_no_place():
    assert room((50, 50), (20, 10), gap=8, inside=ALL, taken=[ALL]) is None
    assert room((50, 50), (200, 10), gap=8, inside=ALL, taken=[]) is None

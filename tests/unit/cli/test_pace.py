"""The time that is left, with a clock that the test turns."""

import pytest

from skipdit_cli.cli._pace import WINDOW, Pace, span


@pytest.fixture
def pace():
    now = [1000.0]
    made = Pace(clock=lambda: now[0])

    def told(done, total, *, after=0.0):
        now[0] += after
        return made.left(done, total)

    return told


def test_nothing_is_said_before_a_piece_is_done_and_at_the_end(pace):
    assert pace(0, 4) == ""
    assert pace(1, 4, after=10) == "30 s left"
    assert pace(2, 4, after=10) == "20 s left"
    assert pace(4, 4, after=20) == ""


def test_without_a_beginning_the_first_piece_is_it(pace):
    assert pace(1, 4, after=99) == ""
    assert pace(2, 4, after=5) == "10 s left"


def test_what_was_there_when_it_began_is_no_work(pace):
    assert pace(900, 1000) == ""
    assert pace(901, 1000, after=2) == "3 min left"  # 99 x 2 s, and not a 900th of that
    assert pace(902, 1000, after=2) == "3 min left"


def test_what_is_passed_in_no_time_is_no_work(pace):
    """As features of samples that were scored before."""
    for done in range(0, 500, 10):
        pace(done, 1000, after=0.001)
    assert pace(500, 1000, after=60) == "50 min left"
    assert pace(510, 1000, after=60) == "49 min left"


def test_the_pace_is_that_of_late(pace):
    """A machine that others use now is slower than it was."""
    pace(0, 10_000)
    for done in range(1, 101):
        pace(done, 10_000, after=1)
    for done in range(101, 102 + WINDOW):
        told = pace(done, 10_000, after=10)
    assert told == f"{span((10_000 - 101 - WINDOW) * 10)} left"


def test_a_piece_that_is_told_twice_is_one(pace):
    pace(0, 10)
    pace(1, 10, after=2)
    assert pace(1, 10) == "18 s left"
    assert pace(2, 10, after=2) == "16 s left"


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "0 s"),
        (29, "29 s"),
        (45, "1 min"),
        (3540, "59 min"),
        (3599, "1 h 00 min"),
        (47.5 * 3600, "47 h 30 min"),
        (100 * 3600, "4 d 4 h"),
    ],
)
def test_span(seconds, said):
    assert span(seconds) == said

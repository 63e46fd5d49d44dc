"""Motion@digits on single bright pixels, by hand."""

import numpy as np
import pytest

from skipdit_cli.embedded import captions
from skipdit_cli.errors import UsageError
from skipdit_cli.metrics import motion_at_digits


def clip(*places, level=255):
    """A clip with one bright pixel per frame."""
    frames = np.zeros((len(places), 16, 16, 3), np.uint8)
    for frame, (row, column) in zip(frames, places, strict=True):
        frame[row, column] = level
    return frames


def asked(direction):
    return {"prompt": f"a two moving {direction}"}


WAYS = {"to the right": (8, 11), "to the left": (8, 5), "down": (11, 8), "up": (5, 8)}


@pytest.mark.parametrize("direction", WAYS)
def test_each_direction_is_told_from_the_others(direction):
    moved = clip((8, 8), (0, 0), WAYS[direction])  # frames between the ends do not count
    shares = {way: motion_at_digits.score_set([moved], [asked(way)]) for way in WAYS}
    assert shares == {way: float(way == direction) for way in WAYS}


def test_the_centre_of_mass_is_weighted_by_brightness():
    frame = np.zeros((16, 16, 3), np.uint8)
    frame[2, 4], frame[6, 4], frame[2, 8] = 100, 50, 50  # (2 * 150 + 6 * 50) / 200 = 3
    assert motion_at_digits._centre(frame).tolist() == [3.0, 5.0]
    assert motion_at_digits._centre(np.zeros((16, 16, 3), np.uint8)).tolist() == [7.5, 7.5]


def test_the_share_of_right_clips():
    clips = [clip((8, 8), (8, 12)), clip((8, 8), (8, 4)), clip((8, 8), (9, 13))]
    assert motion_at_digits.score_set(iter(clips), iter([asked("to the right")] * 3)) == 2 / 3


@pytest.mark.parametrize(
    ("samples", "metas", "text"),
    [
        ([clip((0, 0), (1, 1))], [{"prompt": "a stop sign"}], "name a direction"),
        ([clip((0, 0), (1, 1))], [{"class": 3}], "name a direction"),
        ([clip((0, 0))[0]], [asked("up")], "cannot score an image"),
        ([], [], "no samples"),
    ],
)
def test_what_cannot_be_scored(samples, metas, text):
    with pytest.raises(UsageError, match=text):
        motion_at_digits.score_set(samples, metas)


def test_captions_say_what_they_ask_for():
    assert len(set(captions.VIDEO)) == 40
    assert len(set(captions.IMAGE)) == 30
    assert captions.digit("A Seven moving up") == 7
    assert captions.digit("someone at a desk") is None  # "one" inside a word is no digit
    assert captions.direction("a three moving to the left") == (0, -1)
    assert captions.direction("a three") is None
    asked_for = {(captions.digit(text), captions.direction(text)) for text in captions.VIDEO}
    assert len(asked_for) == 40

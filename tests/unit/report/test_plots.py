"""The plot shows the numbers of the table, at a size that can be read."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

from skipdit_cli.errors import IncompleteError
from skipdit_cli.report import plots
from skipdit_cli.report.table import Cell


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def count(image: np.ndarray, colour: str) -> int:
    """Number of pixels of (almost) a colour."""
    return int((abs(image - ImageColor.getrgb(colour)).max(axis=-1) < 12).sum())


def test_points_are_measured_speedup_and_psnr_without_the_reference(alone):
    key, series = plots.points(alone)
    assert key == "speedup"
    assert {
        name: [(*point.at, point.label) for point in points] for name, points in series.items()
    } == {"skip-cache": [(1.4567, 30.0, "n=2"), (1.9, 26.0, "n=3")]}
    assert series["skip-cache"][0].bars == ((1.4255, 1.4879), (27.874, 32.126))
    assert series["skip-cache"][1].bars == ((1.88, 1.92), (26.0, 26.0))


def test_the_reference_is_no_point_even_with_a_psnr(alone):
    first, *others = alone.lines
    identical = replace(first, cells=(*first.cells[:2], Cell(ours=100.0, status="measured")))
    assert plots.points(replace(alone, lines=(identical, *others))) == plots.points(alone)


def test_ideal_speedup_where_one_was_not_measured(alone):
    first, second, *others = alone.lines
    untimed = replace(second, cells=(second.cells[0], Cell(status="not run"), second.cells[2]))
    key, series = plots.points(replace(alone, lines=(first, untimed, *others)))
    assert key == "ideal"
    assert [point.at for point in series["skip-cache"]] == [(1.5, 30.0), (2.0, 26.0)]


def test_one_series_per_method(alone):
    first, second, third, fourth = alone.lines
    moved = replace(third, series="other")
    _, series = plots.points(replace(alone, lines=(first, second, moved, fourth)))
    assert {name: [point.label for point in found] for name, found in series.items()} == {
        "skip-cache": ["n=2"],
        "other": ["n=3"],
    }


def spot(speedup: float, psnr: float, *, margin: float = 0.1, scores=None) -> plots.Point:
    """A point whose speedup is exact, as one that is counted."""
    within = (psnr - margin, psnr + margin)
    known = Cell(ours=psnr, interval=within, scores=scores, status="measured")
    return plots.Point(Cell(ours=speedup, status="measured"), known, "")


def test_the_front_has_what_no_other_point_surely_beats():
    slow, fast, worse, tie = spot(1.2, 30), spot(1.5, 28), spot(1.4, 27), spot(1.5, 27.9)
    assert plots.front([slow, fast, worse, tie], "ideal") == [slow, fast, tie]
    assert plots.front([], "ideal") == []


def test_points_of_one_noise_are_told_apart_in_pairs_on_the_front():
    scores = tuple(20.0 + i for i in range(16))  # each mean alone is known to 2 dB
    better = spot(1.5, 27.6, margin=2, scores=tuple(score + 0.1 for score in scores))
    assert plots.front([better, spot(1.5, 27.5, margin=2, scores=scores)], "ideal") == [better]
    unlike = tuple(score + (0.3 if i % 2 else -0.1) for i, score in enumerate(scores))
    both = [spot(1.5, 27.6, margin=2, scores=unlike), spot(1.5, 27.5, margin=2, scores=scores)]
    assert plots.front(both, "ideal") == both


def test_an_axis_does_not_zoom_into_noise():
    low, high = plots.extent("psnr", [30.0, 30.02])
    assert high - low == pytest.approx(1.0)
    low, high = plots.extent("psnr", [20.0, 30.0])
    assert (low, high) == (pytest.approx(18.8), pytest.approx(31.2))


def test_nothing_to_plot(alone, compared):
    with pytest.raises(IncompleteError, match="a sweep: no line has a PSNR and a speedup"):
        plots.points(replace(alone, lines=alone.lines[:1]))
    with pytest.raises(IncompleteError, match="no line has a PSNR and a speedup"):
        plots.points(compared)  # has PSNR, no speedup


def test_png_has_its_size_and_each_series_its_colour(alone, tmp_path):
    assert plots.plot(alone, tmp_path / "a.png") == tmp_path / "a.png"
    one = pixels(tmp_path / "a.png")
    assert one.shape == (plots.HEIGHT, plots.WIDTH, 3)
    assert count(one, plots.COLOURS[0]) > 500
    assert count(one, plots.COLOURS[1]) == 0
    first, second, third, fourth = alone.lines
    two_series = replace(alone, lines=(first, second, replace(third, series="b"), fourth))
    two = pixels(plots.plot(two_series, tmp_path / "b.png"))
    assert 100 < count(two, plots.COLOURS[0]) < count(one, plots.COLOURS[0])
    assert count(two, plots.COLOURS[1]) > 100


def test_another_psnr_moves_the_marker(alone, tmp_path):
    first, second, third, fourth = alone.lines
    lower = replace(third, cells=(*third.cells[:2], replace(third.cells[2], ours=29.0)))
    changed = replace(alone, lines=(first, second, lower, fourth))
    before, after = (pixels(plots.plot(table, tmp_path / "p.png")) for table in (alone, changed))
    assert (before != after).any()
    same = pixels(plots.plot(alone, tmp_path / "p.png"))
    assert (before == same).all()


def test_no_two_of_many_series_look_alike():
    looks = {
        (plots.COLOURS[i % len(plots.COLOURS)], plots.MARKERS[i % len(plots.MARKERS)])
        for i in range(56)
    }
    assert len(looks) == 56

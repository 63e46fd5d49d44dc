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
    assert plots.points(alone) == (
        "speedup",
        {"skip-cache": [(1.4567, 30.0, 0.0312, "n=2"), (1.9, 26.0, 0.02, "n=3")]},
    )


def test_the_reference_is_no_point_even_with_a_psnr(alone):
    first, *others = alone.lines
    identical = replace(first, cells=(*first.cells[:2], Cell(ours=100.0, status="measured")))
    assert plots.points(replace(alone, lines=(identical, *others))) == plots.points(alone)


def test_ideal_speedup_where_one_was_not_measured(alone):
    first, second, *others = alone.lines
    untimed = replace(second, cells=(second.cells[0], Cell(status="not run"), second.cells[2]))
    key, series = plots.points(replace(alone, lines=(first, untimed, *others)))
    assert key == "ideal"
    assert series == {"skip-cache": [(1.5, 30.0, None, "n=2"), (2.0, 26.0, None, "n=3")]}


def test_one_series_per_method(alone):
    first, second, third, fourth = alone.lines
    moved = replace(third, series="other")
    _, series = plots.points(replace(alone, lines=(first, second, moved, fourth)))
    assert {name: [point[3] for point in found] for name, found in series.items()} == {
        "skip-cache": ["n=2"],
        "other": ["n=3"],
    }


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

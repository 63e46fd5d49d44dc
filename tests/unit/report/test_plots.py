"""The plot shows the numbers of the table, at a size that can be read."""

from dataclasses import replace

import numpy as np
import pytest
from PIL import Image, ImageColor

from skipdit_cli.report import charts, look, plots
from skipdit_cli.report.table import Cell, Heading

PSNR = Heading("psnr", "psnr", "PSNR", "dB", "higher")


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def count(image: np.ndarray, colour: str) -> int:
    """Number of pixels of (almost) a colour."""
    return int((abs(image - ImageColor.getrgb(colour)).max(axis=-1) < 12).sum())


def only(table) -> plots.Scatter:
    (one,) = plots.scatters(table)
    return one


def drawn(table, path):
    with look.SCREEN.applied():
        return look.save(plots.draw(only(table), look.SCREEN, title=table.title), path)


def scored(table, heading, *values):
    """The table with another metric in place of its last column: a value per line or None."""
    lines = tuple(
        replace(line, cells=(*line.cells[:-1], Cell(ours=value, status="measured")))
        for line, value in zip(table.lines, values, strict=True)
    )
    return replace(table, headings=(*table.headings[:-1], heading), lines=lines)


def test_points_are_measured_speedup_and_psnr_without_the_reference(alone):
    one = only(alone)
    assert one.speedup == "speedup"
    assert {
        name: [(*point.at, point.label) for point in points] for name, points in one.series.items()
    } == {"skip-cache": [(1.4567, 30.0, "n=2"), (1.9, 26.0, "n=3")]}
    assert one.series["skip-cache"][0].bars == ((1.4255, 1.4879), (27.874, 32.126))
    assert one.series["skip-cache"][1].bars == ((1.88, 1.92), (26.0, 26.0))


def test_the_reference_is_no_point_even_with_a_psnr(alone):
    first, *others = alone.lines
    identical = replace(first, cells=(*first.cells[:2], Cell(ours=100.0, status="measured")))
    assert only(replace(alone, lines=(identical, *others))) == only(alone)


def test_ideal_speedup_where_one_was_not_measured(alone):
    first, second, *others = alone.lines
    untimed = replace(second, cells=(second.cells[0], Cell(status="not run"), second.cells[2]))
    one = only(replace(alone, lines=(first, untimed, *others)))
    assert one.speedup == "ideal"
    assert [point.at for point in one.series["skip-cache"]] == [(1.5, 30.0), (2.0, 26.0)]


def test_one_series_per_method(alone):
    first, second, third, fourth = alone.lines
    moved = replace(third, series="other")
    one = only(replace(alone, lines=(first, second, moved, fourth)))
    assert {name: [point.label for point in found] for name, found in one.series.items()} == {
        "skip-cache": ["n=2"],
        "other": ["n=3"],
    }


def test_the_line_to_beat_comes_last_and_has_no_colour(alone, tmp_path):
    """Beside one other series that has the first colour, also where it stands before it."""
    first, second, third, fourth = alone.lines
    fewer = replace(third, series="fewer steps", fewer=True)
    table = replace(alone, lines=(first, fewer, second, fourth))
    one = only(table)
    assert [*one.series] == ["skip-cache", "fewer steps"]
    assert one.to_beat == "fewer steps"
    assert only(alone).to_beat == ""
    image = pixels(drawn(table, tmp_path / "a.png"))
    assert count(image, look.COLOURS[0]) > 100
    assert count(image, look.COLOURS[1]) == 0
    text = charts.scatter(one)
    assert text.count('<polyline class="to-beat"') == 1
    assert text.count('class="point to-beat"') == text.count('class="key to-beat"') == 1
    assert "to-beat" not in charts.scatter(only(alone))


def spot(speedup: float, psnr: float, *, margin: float = 0.1, scores=None) -> plots.Point:
    """A point whose speedup is exact, as one that is counted."""
    within = (psnr - margin, psnr + margin)
    known = Cell(ours=psnr, interval=within, scores=scores, status="measured")
    return plots.Point(Cell(ours=speedup, status="measured"), known, "")


def front(points, heading=PSNR):
    return plots.Scatter(heading, "ideal", {"": points}).front


def test_the_front_has_what_no_other_point_surely_beats():
    slow, fast, worse, tie = spot(1.2, 30), spot(1.5, 28), spot(1.4, 27), spot(1.5, 27.9)
    assert front([slow, fast, worse, tie]) == [slow, fast, tie]
    assert front([]) == []


def test_the_front_of_what_is_better_when_lower():
    lpips = Heading("lpips", "lpips", "LPIPS", better="lower")
    slow, fast, worse = spot(1.2, 1.0), spot(1.5, 3.0), spot(1.4, 4.0)
    assert front([slow, fast, worse], lpips) == [slow, fast]


def test_points_of_one_noise_are_told_apart_in_pairs_on_the_front():
    scores = tuple(20.0 + i for i in range(16))  # each mean alone is known to 2 dB
    better = spot(1.5, 27.6, margin=2, scores=tuple(score + 0.1 for score in scores))
    assert front([better, spot(1.5, 27.5, margin=2, scores=scores)]) == [better]
    unlike = tuple(score + (0.3 if i % 2 else -0.1) for i, score in enumerate(scores))
    both = [spot(1.5, 27.6, margin=2, scores=unlike), spot(1.5, 27.5, margin=2, scores=scores)]
    assert front(both) == both


def test_an_axis_does_not_zoom_into_noise():
    low, high = plots.extent("psnr", [30.0, 30.02])
    assert high - low == pytest.approx(1.0)
    low, high = plots.extent("psnr", [20.0, 30.0])
    assert (low, high) == (pytest.approx(18.8), pytest.approx(31.2))
    low, high = plots.extent("fid", [50.0, 50.0])
    assert high - low == pytest.approx(1.0)
    assert plots.extent("lpips", [0.0]) == (-0.5, 0.5)
    low, high = plots.extent("fid", [2.4e-13, -1e-13])  # of one image as often as there are
    assert low < 0 < high


def test_both_axes_hold_the_intervals_and_the_reference():
    one = plots.Scatter(PSNR, "speedup", {"": [spot(1.5, 30, margin=2)]})
    across, up = one.extents
    assert across[0] < 1.0 < 1.5 < across[1]
    assert up[0] < 28 < 32 < up[1]
    assert replace(one, baselines=(50.0,)).extents[1][1] > 50


def test_a_plot_for_every_metric_that_says_what_is_better(alone):
    ssim = Heading("ssim", "ssim", "SSIM", better="higher")
    assert [one.heading for one in plots.scatters(scored(alone, ssim, None, 0.9, 0.8, None))] == [
        ssim
    ]
    for lacking in (replace(ssim, better=""), replace(ssim, metric="memory", key="memory")):
        assert plots.scatters(scored(alone, lacking, None, 0.9, 0.8, None)) == []


def test_a_metric_that_compares_with_nothing_has_the_score_of_the_reference(alone):
    clip = Heading("clip-score", "clip-score", "CLIP score", better="higher")
    one = only(scored(alone, clip, 31.0, 30.0, 29.0, None))
    assert one.baselines == (31.0,)
    assert [point.at[1] for point in one.points] == [30.0, 29.0]
    assert one.axes[1] == "CLIP score ↑"
    assert only(alone).axes == ("measured speedup (×)", "PSNR against the uncached samples (dB) ↑")


def test_nothing_to_plot(alone, compared):
    assert plots.scatters(replace(alone, lines=alone.lines[:1])) == []
    assert plots.scatters(compared) == []  # has PSNR, no speedup


def test_png_has_its_size_and_each_series_its_colour(alone, tmp_path):
    assert drawn(alone, tmp_path / "a.png") == tmp_path / "a.png"
    one = pixels(tmp_path / "a.png")
    assert one.shape[1] == look.SCREEN.width * look.SCREEN.dpi
    assert count(one, look.COLOURS[0]) > 500
    assert count(one, look.COLOURS[1]) == 0
    first, second, third, fourth = alone.lines
    two_series = replace(alone, lines=(first, second, replace(third, series="b"), fourth))
    two = pixels(drawn(two_series, tmp_path / "b.png"))
    assert 100 < count(two, look.COLOURS[0]) < count(one, look.COLOURS[0])
    assert count(two, look.COLOURS[1]) > 100


def test_another_psnr_moves_the_marker(alone, tmp_path):
    first, second, third, fourth = alone.lines
    lower = replace(third, cells=(*third.cells[:2], replace(third.cells[2], ours=29.0)))
    changed = replace(alone, lines=(first, second, lower, fourth))
    before, after = (pixels(drawn(table, tmp_path / "p.png")) for table in (alone, changed))
    assert (before != after).any()
    same = pixels(drawn(alone, tmp_path / "p.png"))
    assert (before == same).all()

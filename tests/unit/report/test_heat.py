"""Heat maps: which settings are axes, what stands in a cell, and what is blank."""

import re
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from skipdit_cli.plan import plan
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.report import figures, heat
from skipdit_cli.report.gallery import Behind
from skipdit_cli.report.page import to_html
from skipdit_cli.report.sweep import build_sweep_table
from skipdit_cli.score.sweep import SweepRow
from skipdit_cli.spec import parse_grid
from skipdit_cli.storage.results import Result


def swept(*grids, without=(), more=()):
    """(table, runs) of a sweep; PSNR is 10 n + branch dB, but of the specs in `without`.

    Of `more` (spec and settings) it is 99 dB.
    """
    runs = [make_run("digits-skip", "none", {"steps": "6"})]
    for grid in grids:
        runs += [make_run("digits-skip", spec, {"steps": "6"}) for spec in parse_grid(grid)]
    others = [make_run("digits-skip", spec, {"steps": "6", **given}) for spec, given in more]
    runs += others
    rows = []
    for run in runs:
        n, branch = run.cache.setting("n"), run.cache.setting("branch")
        value = 10.0 * n + (branch or 0) if n and str(run.cache) not in without else None
        value = 99.0 if run in others else value
        found = Result(metric="psnr", value=value, unit="dB", n=2, run=run.key)
        rows.append(SweepRow(str(run.cache), run, plan.plan(run), {"psnr": found}))
    return build_sweep_table(rows), runs


def psnr(*grids, without=(), more=()):
    found = heat.maps(*swept(*grids, without=without, more=more))
    return next((maps for each, maps in found if each.metric == "psnr"), [])


def test_a_grid_of_two_settings_is_one_map_of_every_metric_and_of_the_speedup():
    table, runs = swept("skip-cache(n=2..4,branch=1..2)")
    found = heat.maps(table, runs)
    assert [each.metric for each, _ in found] == ["ideal", "psnr"]  # nothing was timed
    assert [len(maps) for _, maps in found] == [1, 1]
    (one,) = found[1][1]
    assert (one.title, one.down, one.across) == ("skip-cache on digits-skip", "n", "branch")
    assert (one.rows, one.columns) == (("2", "3", "4"), ("1", "2"))
    assert one.values == {(i, j): 10.0 * (i + 2) + j + 1 for i in range(3) for j in range(2)}
    (ideal,) = found[0][1]
    for run in runs[1:]:
        place = (run.cache.setting("n") - 2, run.cache.setting("branch") - 1)
        assert ideal.values[place] == pytest.approx(plan.plan(run).ideal_speedup)


def test_of_three_settings_the_one_with_fewest_values_has_a_map_for_each():
    maps = psnr("skip-cache(n=2..4,window=700-50|1000-0|900-100,branch=1..2)")
    assert [one.title for one in maps] == [
        f"skip-cache on digits-skip, branch={branch}" for branch in (1, 2)
    ]
    assert {(one.rows, one.columns) for one in maps} == {
        (("2", "3", "4"), ("700-50", "900-100", "1000-0"))
    }
    assert maps[1].values[1, 0] == 32.0


def test_every_method_has_its_own():
    maps = psnr("fora(n=2..3,window=700-50|900-50)", "skip-cache(n=2..3,branch=1|2)", "pab")
    assert [one.title for one in maps] == ["fora on digits-skip", "skip-cache on digits-skip"]


def test_a_setting_that_follows_from_another_is_no_axis():
    """pab's interval of spatial attention is its n, and that of the others grows with it."""
    (one,) = psnr("pab(n=2..3,window=700-50|900-50)")
    assert (one.title, one.down, one.across) == ("pab on digits-skip", "n", "window")
    assert len(one.values) == 4


def test_the_window_of_a_method_without_one():
    (one,) = psnr("fora(n=2..3,window=700-50)", "fora(n=2..3)")
    assert one.columns == ("700-50", "whole")


@pytest.mark.parametrize(
    "grids",
    [
        ("skip-cache(n=2..4)",),
        ("pab(n=2..5)",),  # whose other intervals follow from n
        ("skip-cache(n=2,branch=1)", "skip-cache(n=3,branch=2)"),
        # a cross of 3 x 2 with two places of six empty is less than three quarters
        ("skip-cache(n=2..3,branch=1)", "skip-cache(n=3..4,branch=2)"),
        ("none",),
    ],
)
def test_what_is_no_grid_has_no_map(grids):
    table, runs = swept(*grids)
    assert heat.maps(table, runs) == []
    assert heat.html(table, runs) == ""
    assert "Over two settings" not in to_html(table)


def test_a_grid_that_lacks_a_line_and_a_number_is_blank_there(tmp_path):
    grids = ("skip-cache(n=2..4,branch=1)", "skip-cache(n=2..3,branch=2)")
    lacking = "skip-cache(n=3,window=1000-20,branch=1)"
    table, runs = swept(*grids, without=(lacking,))
    (one,) = psnr(*grids, without=(lacking,))
    assert set(one.values) == {(0, 0), (0, 1), (1, 1), (2, 0)}
    page = heat.html(table, runs)
    cells = re.findall(r"<td[^>]*>[^<]*</td>", page[page.index("PSNR") :])
    assert cells == [
        '<td style="--heat: 0%">21.00</td>',
        '<td style="--heat: 5%">22.00</td>',
        '<td class="absent" title="no number"></td>',
        '<td style="--heat: 55%">32.00</td>',
        '<td style="--heat: 100%">41.00</td>',
        '<td class="absent" title="no number"></td>',
    ]


def test_the_best_is_darkest_whichever_way_it_goes():
    found = [
        SimpleNamespace(values={(0, 0): 2.0, (0, 1): 4.0}),
        SimpleNamespace(values={(0, 0): 3.0}),
    ]
    up, down = (SimpleNamespace(better=better) for better in ("higher", "lower"))
    assert heat._shades(found, up) == [{(0, 0): 0.0, (0, 1): 1.0}, {(0, 0): 0.5}]
    assert heat._shades(found, down) == [{(0, 0): 1.0, (0, 1): 0.0}, {(0, 0): 0.5}]
    same = [SimpleNamespace(values={(0, 0): 1.0, (1, 0): 1.0})]
    assert heat._shades(same, up) == [{(0, 0): 0.5, (1, 0): 0.5}]


def test_the_pictures(tmp_path):
    table, runs = swept("skip-cache(n=2..4,branch=1..2)")
    paths = figures.draw(table, Behind(tmp_path, runs), tmp_path, name="mine")
    names = ["mine-psnr-speedup.png", "mine-heat-ideal.png", "mine-heat-psnr.png"]
    assert [path.name for path in paths] == names
    for path in paths:
        with Image.open(path) as picture:
            colours = np.unique(np.asarray(picture.convert("RGB")).reshape(-1, 3), axis=0)
        assert len(colours) > 30


def test_the_page_has_them_after_the_plot(tmp_path):
    table, runs = swept("skip-cache(n=2..4,branch=1..2)")
    page = to_html(table, Behind(tmp_path, runs))
    names = re.findall(r"<h2[^>]*>([^<]*)</h2>", page)
    assert names[1:3] == ["Quality against speedup", "Over two settings"]
    assert page.count('<table class="heat">') == 2


def test_a_run_of_other_samples_is_on_no_map_of_these():
    """The same cell with another guidance or seed: its number is of other samples."""
    (one,) = psnr(
        "skip-cache(n=2..3,branch=1..2)",
        more=[("skip-cache(n=2,branch=1)", {"guidance": 3.0}), ("skip-cache(n=2)", {"seed": 1})],
    )
    assert 99.0 not in one.values.values()
    assert one.title == "skip-cache on digits-skip, ddim 6, guidance 2, seed 0"


def test_lines_of_several_models_are_on_no_map():
    """A recipe's lines hold a run of every data set, whose windows may differ."""
    table, runs = swept("skip-cache(n=2..3,branch=1..2)")
    others = [
        make_run("moving-digits-skip", str(run.cache), {"steps": "6", "guidance": None})
        for run in runs
    ]
    lines = [
        replace(line, runs=(*line.runs, other.key))
        for line, other in zip(table.lines, others, strict=True)
    ]
    assert heat.maps(table, runs)
    assert heat.maps(replace(table, lines=tuple(lines)), [*runs, *others]) == []

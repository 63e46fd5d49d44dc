"""Panels of analyses: what a figure and a page show of the numbers, and the page as a whole."""

import math
import re
from dataclasses import replace
from xml.etree import ElementTree

import pytest
from PIL import Image

from skipdit_cli.report import analysis, figures, panels, panels_page
from skipdit_cli.report.look import SCREEN
from skipdit_cli.storage.analysis import Analysis, Lines, Map, read_analysis

CURVES = Lines(
    title="errors <of> two",
    across="timestep",
    up="relative error",
    at=(900, 500, 100),
    series={"a": (0.01, None, 1.0), "b & c": (0.0, 0.1, 0.1)},
    low={"a": (0.005, None, 0.5)},
    high={"a": (0.02, None, 2.0)},
    log=True,
)
GRID = Map(
    title="similarity",
    down="layer",
    across="step",
    rows=("0", "1"),
    columns=("49", "48", "47"),
    values=((0.0, 0.5, 1.0), (None, 0.25, 0.75)),
    measure="cosine similarity",
    marks={"n=2": ((0, 1), (0, 2))},
)
SURFACE = Map(
    title="surface",
    down="beta",
    across="alpha",
    rows=("-1", "0", "1"),
    columns=("-1", "0", "1"),
    values=((0.8, 0.9, 0.8), (0.9, 1.0, 0.9), (0.8, 0.9, 0.8)),
    measure="similarity",
    surface=True,
)
FOUND = Analysis(
    kind="dynamics",
    models=("digits",),
    settings={"sampler": "ddim", "at": [3, 1], "guidance": None},
    panels=(CURVES, GRID, SURFACE),
    summary=({"model": "digits", "mean": 0.123456, "worst": None},),
    notes=("Features move & stay <near>.",),
    provenance={"command": "skipdit analyze dynamics", "device": "a processor"},
)


def drawn(panel):
    with SCREEN.applied():
        return panels.draw(panel, SCREEN)


def svg(panel):
    return ElementTree.fromstring(re.search(r"<svg.*?</svg>", panels_page.html(panel))[0])


def test_curves_have_gaps_a_band_and_run_from_the_left():
    (axes,) = drawn(CURVES).axes
    first, second = axes.lines
    assert [*first.get_xdata()] == [900, 500, 100]
    low, high = axes.get_xlim()
    assert low > high  # timesteps fall
    assert axes.get_yscale() == "log"
    assert math.isnan(first.get_ydata()[1])
    assert math.isnan(second.get_ydata()[0])  # 0 has no logarithm
    assert len(axes.collections) == 1
    assert axes.get_title(loc="left") == CURVES.title


STACKS = Lines(
    title="norms",
    across="stack",
    up="norm",
    at=(1, 2, 3),
    series={"a": (2.1, 3.0, 9.0)},
    low={},
    high={},
    log=True,
)


def test_whole_numbers_and_powers_are_marked_as_such():
    texts = [each.text for each in svg(STACKS).iter("text")]
    assert texts == ["1", "2", "3", "2", "4", "6", "8", "stack", "norm"]
    (axes,) = drawn(STACKS).axes
    assert {*axes.get_xticks()} <= {0, 1, 2, 3, 4}


@pytest.mark.parametrize(
    ("ends", "marks"),
    [((0.005, 2), [0.01, 0.1, 1]), ((1.5, 40), [2, 5, 10, 20]), ((4.1, 4.9), [4.2, 4.4, 4.6, 4.8])],
)
def test_round_numbers_of_a_logarithmic_axis(ends, marks):
    found = panels_page._powers(*map(math.log10, ends))
    assert found == pytest.approx(marks)


def test_long_texts_at_an_axis_stay_within_a_figure():
    long = "the norm of what the sample strays by, over the norm of the error that was put in"
    with SCREEN.applied():
        axes = drawn(replace(STACKS, up=long)).axes
        bar = drawn(replace(GRID, measure=long)).axes[1]
    for text in (axes[0].get_ylabel(), bar.get_ylabel()):
        assert "\n" in text
        assert text.replace("\n", " ") == long


def test_a_map_has_its_numbers_texts_and_outlines():
    axes, bar = drawn(GRID).axes
    (image,) = axes.images
    assert image.get_array().tolist()[0] == [0.0, 0.5, 1.0]
    assert [text.get_text() for text in axes.get_xticklabels()] == [*GRID.columns]
    assert bar.get_ylabel() == "cosine similarity"
    (outline,) = axes.lines
    # two places side by side: two edges above, two below, one at each end
    assert len(outline.get_xdata()) == 3 * 6
    assert (min(outline.get_xdata()), max(outline.get_xdata())) == (0.5, 2.5)
    assert not drawn(replace(GRID, marks={})).axes[0].lines


def test_a_surface_is_drawn_with_its_contours():
    solid, flat, _ = drawn(SURFACE).axes
    assert solid.name == "3d"
    assert flat.get_aspect() == 1.0
    assert (solid.get_xlabel(), flat.get_ylabel()) == ("alpha", "beta")
    same = replace(SURFACE, values=((1.0,) * 3,) * 3)  # without a level to draw
    assert len(drawn(same).axes) == 2


def test_curves_on_a_page():
    picture = svg(CURVES)
    groups = [each for each in picture.iter("g") if "curve" in each.get("class")]
    assert [each.get("aria-label") for each in groups] == ["a: 0.01 to 1", "b & c: 0 to 0.1"]
    paths = [[*each.iter("path")][1].get("d") for each in groups]
    assert paths[0].count("M") == 2  # a gap
    assert paths[1].count("M") == 1
    assert paths[1].count("L") == 1
    (band,) = (each for each in picture.iter("path") if "band" in each.get("class", ""))
    assert band.get("d").count("L") == 3  # two ends there, two back
    texts = [each.text for each in picture.iter("text")]
    assert {"timestep", "relative error", "0.01", "1"} <= {*texts}
    assert "errors &lt;of&gt; two" in panels_page.html(CURVES)


def test_a_map_on_a_page():
    places = [*svg(GRID).iter("rect")]
    assert [each.get("style") for each in places] == [
        f"--heat:{share}%" for share in (0, 50, 100, 25, 75)
    ]
    assert places[3][0].text == "layer 1, step 48: 0.25"
    (mark,) = (each for each in svg(GRID).iter("path") if "mark" in each.get("class"))
    assert mark.get("d").count("M") == 6
    assert "cosine similarity, 0 to 1" in panels_page.html(GRID)
    flat = replace(GRID, values=((1.0,) * 3,) * 2)
    assert {each.get("style") for each in svg(flat).iter("rect")} == {"--heat:50%"}


def test_a_map_whose_colours_follow_the_logarithm():
    """10 is half way from 1 to 100, and 0 is left out."""
    steep = replace(GRID, values=((1.0, 10.0, 100.0), (0.0, None, 1.0)), log=True)
    places = [*svg(steep).iter("rect")]
    assert [each.get("style") for each in places] == [
        f"--heat:{share}%" for share in (0, 50, 100, 0)
    ]
    assert "cosine similarity, 1 to 100" in panels_page.html(steep)
    (image,) = drawn(steep).axes[0].images
    assert image.norm(10.0) == pytest.approx(0.5)
    assert math.isnan(image.get_array().filled(math.nan)[1, 0])


@pytest.mark.parametrize(
    "empty",
    [
        replace(CURVES, series={"a": (0.0, -1.0, None)}, low={}, high={}),
        replace(GRID, values=((None,) * 3,) * 2),
        replace(GRID, values=((None, 0.0, 0.0),) * 2, log=True),
    ],
)
def test_what_has_no_numbers_says_so(empty):
    assert "nothing to draw" in panels_page.html(empty)


def test_everything_is_written_and_what_is_old_goes(tmp_path):
    at = tmp_path / "analysis" / "digits"
    wanted, two = figures.wanted("pdf,png", "column"), replace(FOUND, panels=(CURVES, GRID))
    paths = analysis.publish(two, tmp_path, figures=wanted)
    stems = ["dynamics-1", "dynamics-2"]
    names = ["dynamics.json", "dynamics.csv", *(f"{stem}.png" for stem in stems)]
    names += [f"{stem}{end}" for stem in stems for end in (".pdf", "-paper.png")]
    assert sorted(path.name for path in paths) == sorted(names)
    assert all(path.stat().st_size > 500 for path in paths[2:])
    with Image.open(at / "dynamics-2.png") as image:
        assert image.width == 1000
    analysis.publish(replace(FOUND, panels=(GRID,)), tmp_path)
    left = {path.name for path in at.iterdir()}
    assert {name for name in left if name.endswith(".png") and "paper" not in name} == {
        "dynamics.png"
    }
    assert read_analysis(tmp_path, "dynamics", ["digits"]).panels == (GRID,)


def test_the_page(tmp_path):
    path = analysis.write_page([FOUND, replace(FOUND, kind="spectra", summary=())], tmp_path)
    assert path == tmp_path / "analysis" / "digits" / "analysis.html"
    page = path.read_text(encoding="utf-8")
    assert page.count("<h2") == 3
    assert "Features move &amp; stay &lt;near&gt;." in page
    assert "<td>0.1235</td><td>\N{EN DASH}</td>" in page
    assert page.count("<figure") == 6
    assert "sampler ddim, at 3, 1, guidance none" in page
    assert "http" not in re.sub(r"http-equiv|www.w3.org", "", page)

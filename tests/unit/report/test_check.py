"""A check counts what can be compared, and names the first number that is outside."""

from dataclasses import replace

import pytest

from skipdit_cli.errors import IncompleteError, ToleranceError, UsageError
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.recipe.shape import Column, Recipe
from skipdit_cli.report.check import check, require
from skipdit_cli.report.recipe import _verdict
from skipdit_cli.report.table import Cell

COLUMNS = (
    Column("flops_t", "FLOPs", "macs", unit="T", tolerance=0.0005),
    Column("psnr", "PSNR", "psnr", unit="dB", better="higher"),
    Column("lpips", "LPIPS", "lpips", better="lower"),
)


@pytest.fixture
def recipe():
    return Recipe(
        name="table0",
        table="table1",
        title="by hand",
        scale="paper",
        rows=(),
        columns=COLUMNS,
        settings={},
        paper={"hardware": "one A100"},
    )


def only(table, *cells):
    """The table with one line, and as many columns as cells."""
    line = replace(table.lines[0], names=("a row",), cells=cells)
    return replace(table, lines=(line,), headings=table.headings[: len(cells)])


def test_what_is_compared_and_what_is_left_out(compared, recipe):
    found = check(compared, recipe)
    assert found.compared == 4
    assert [(each.row, each.column) for each in found.outside] == [
        ("a|b, n=2", "FLOPs (T)"),
        ("a|b, n=2", "PSNR (dB)"),
    ]
    assert found.left_out == {"planned": 2, "needs weights": 1, "tiny scale": 1}
    assert str(found) == (
        "4 of 8 published values compared, 2 within tolerance; left out: 2 planned, "
        "1 needs weights, 1 tiny scale"
    )
    assert found.record()["outside"][0]["tolerance"] == 0.0005


def test_outside_names_the_first_and_what_to_look_at(compared, recipe):
    with pytest.raises(ToleranceError) as caught:
        require(check(compared, recipe), recipe)
    assert caught.value.exit_code == 5
    assert str(caught.value) == (
        "table0 at paper scale: 2 of 4 compared cells are outside tolerance, first a|b, n=2, "
        "FLOPs (T): paper 180.68, ours 184.1806, 1.9 % apart, tolerance 0.05 %; look at the "
        "schedule and the text tokens of the row: `skipdit plan table0 --scale paper`"
    )


def test_all_within_tolerance(compared, recipe):
    one = replace(recipe, columns=COLUMNS[:2])
    table = only(compared, Cell(paper=1.0, ours=1.0, status="match"), Cell(status="reference"))
    found = check(table, one)
    require(found, one)
    assert str(found) == "1 of 1 published values compared, 1 within tolerance"


@pytest.mark.parametrize(
    ("cell", "look"),
    [
        (
            Cell(paper=1.0, ours=2.0, n=3, status="off", protocol="VideoSys"),
            "(n=3), the weights and the protocol (VideoSys)",
        ),
        (
            Cell(paper=1.0, ours=2.0, status="off", note="scored with another number of samples"),
            "samples: scored with another number",
        ),
    ],
)
def test_a_score_outside_says_where_to_look(compared, recipe, cell, look):
    one = replace(recipe, columns=COLUMNS[:2])
    with pytest.raises(ToleranceError) as caught:
        require(check(only(compared, Cell(status="not run"), cell), one), one)
    assert "1 of 1 compared cells is outside" in str(caught.value)
    assert look in str(caught.value)


def test_a_timing_outside_names_the_hardware(compared, recipe):
    one = replace(recipe, columns=(Column("latency_s", "Latency", "latency", unit="s"),))
    table = only(compared, Cell(paper=1.0, ours=2.0, status="off"))
    with pytest.raises(ToleranceError, match="paper's is one A100, this was timed on a CPU"):
        require(check(replace(table, provenance={"device": "a CPU"}), one), one)


@pytest.mark.parametrize(("scale", "fix"), [("tiny", "--scale paper, whose"), ("paper", "run `")])
def test_nothing_to_compare(compared, recipe, scale, fix):
    cells = (Cell(paper=1.0, status="not run"), Cell(paper=2.0, ours=2.0, status="tiny scale"))
    mine = replace(recipe, columns=COLUMNS[:2], scale=scale)
    with pytest.raises(IncompleteError) as caught:
        require(check(only(compared, *cells), mine), mine)
    assert "0 of 2 published values compared" in str(caught.value)
    assert "1 not run, 1 tiny scale" in str(caught.value)
    assert fix in str(caught.value)


def test_a_recipe_of_no_table(compared, recipe):
    with pytest.raises(UsageError, match="table0 does not name a table of the paper"):
        check(compared, replace(recipe, table=None))


def test_scores_of_random_weights_are_not_compared_and_costs_are(compared, recipe):
    run = make_run("dit-xl-2", settings={"weights": "random"})
    assert _verdict(COLUMNS[1], run, 30.0, 30.0) == "random weights"
    assert _verdict(COLUMNS[0], run, 30.0, 30.0) == "match"
    assert _verdict(Column("s", "Latency", "latency", unit="s"), run, 30.0, 60.0) == "off"
    assert _verdict(COLUMNS[1], make_run("dit-xl-2"), 30.0, 30.0) == "match"
    cells = (
        Cell(paper=1.0, ours=1.0, status="match"),
        Cell(paper=2.0, ours=90.0, status="random weights"),
        Cell(status="planned"),
    )
    assert cells[1].difference is None
    found = check(only(compared, *cells), recipe)
    assert (found.compared, found.outside) == (1, ())
    assert found.left_out == {"random weights": 1}

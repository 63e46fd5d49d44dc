"""results/paper-flops is what `make paper-flops` would write, and has the paper's FLOPs."""

import csv
from pathlib import Path

import pytest

from skipdit_cli.plan import costs
from skipdit_cli.recipe import published, recipe

FOLDER = Path(__file__).parents[2] / "results" / "paper-flops"
TABLES = [name for name in recipe.names() if name.startswith("table")]


def committed(name):
    with (FOLDER / f"{name}.csv").open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_every_table_is_there_and_nothing_else():
    expected = {f"{name}.{ending}" for name in TABLES for ending in ("csv", "md")}
    assert {path.name for path in FOLDER.iterdir()} == expected


LARGE = ("table1", "table2", "table3", "table4", "table5")  # seconds each


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, marks=[pytest.mark.slow] * (name in LARGE)) for name in TABLES],
)
def test_the_committed_files_are_not_stale(name, tmp_path):
    loaded = recipe.load_recipe(name, scale="paper")
    for path in costs.write_costs(loaded, costs.cost_lines(loaded), tmp_path):
        assert path.read_bytes() == (FOLDER / path.name).read_bytes(), "run `make paper-flops`"


def test_all_34_published_flops_are_within_0_05_percent():
    checked = 0
    for name in TABLES:
        lines = {line["row"]: line for line in committed(name)}
        for row in recipe.load_recipe(name, scale="paper").rows:
            paper = published.numbers(name, row.published).get("flops_t") if row.published else None
            line = lines[row.id]
            assert line["published_t"] == ("" if paper is None else str(paper))
            if paper is not None:
                difference = (int(line["macs"]) / 1e12 / paper - 1) * 100
                assert abs(difference) <= 0.05
                assert float(line["difference_percent"]) == pytest.approx(difference, abs=1e-4)
                checked += 1
    assert checked == 34


@pytest.mark.parametrize("name", TABLES)
def test_what_people_read_is_what_programs_read(name):
    text = (FOLDER / f"{name}.md").read_text(encoding="utf-8")
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    for row, line in zip(rows, committed(name), strict=True):
        cells = [cell.strip() for cell in row.strip("|").split("|")]
        assert cells[:3] == [line["label"], line["model"], line["cache"]]
        assert cells[4:7] == [
            line["full_steps"],
            line["cached_steps"],
            f"{int(line['macs']) / 1e12:.3f}",
        ]


def test_the_tiny_scale_is_not_compared_with_the_paper():
    for line in costs.cost_lines(recipe.load_recipe("table1")):
        assert line.difference is None
        assert line.published is not None or not line.row.published


def test_what_is_not_known_yet_is_empty(tmp_path):
    """A row that cannot be run, and one that decides while it runs."""
    path = tmp_path / "own.yaml"
    path.write_text(
        """
title: an own table
scales:
  tiny: &scale
    groups: {digits: digits-skip}
    settings: {num_samples: 2, steps: 6}
    columns: [{label: MACs, metric: macs}]
  paper: *scale
rows:
  - {id: a, label: at run, model: "{model}", cache: first-block}
  - {id: b, label: later, planned: no such method yet}
"""
    )
    loaded = recipe.load_recipe(str(path))
    counted = costs.cost_lines(loaded)
    dynamic, planned = csv.DictReader(costs.to_csv(counted).splitlines())
    assert (dynamic["full_steps"], dynamic["macs"], dynamic["ideal_speedup"]) == ("", "", "")
    assert int(dynamic["samples_bytes"]) > 0
    assert [key for key, value in planned.items() if value] == ["row", "label"]
    first, second = costs.to_markdown(loaded, counted).splitlines()[4:6]
    assert first.count("at run") == 7  # the row's label and six counts
    assert second.endswith("no such method yet |")

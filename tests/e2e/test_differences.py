"""Recipes with rows of fewer steps, differences of rows, and a cost for every data set."""

import csv
import statistics

import pytest

from skipdit_cli import frame
from skipdit_cli.recipe.recipe import load_recipe
from skipdit_cli.report.plots import scatters
from skipdit_cli.report.recipe import build_recipe_table

OWN = """\
title: own
scales:
  tiny:
    groups: {digits: digits-skip, painted: painted-digits}
    settings: {num_samples: 6, batch_size: 6, sampler: ddim, steps: "12"}
    columns:
      - {label: digits PSNR, metric: psnr, group: digits, unit: dB, better: higher}
      - {label: painted PSNR, metric: psnr, group: painted, unit: dB, better: higher}
      - {label: digits ideal, metric: ideal, group: digits}
      - {label: painted ideal, metric: ideal, group: painted}
      - {label: painted share, metric: macs_share, group: painted, unit: "%"}
rows:
  - {id: all, label: no cache, model: "{model}"}
  - {id: two, label: two, model: "{model}", cache: "skip-cache(n=2,window=1000-0,branch=1)"}
  - {id: four, label: four, model: "{model}", cache: "skip-cache(n=4,window=1000-0,branch=1)"}
  - {id: few, label: few, model: "{model}", fewer_steps: {digits: 8, painted: 7}}
  - {id: gain, label: two - four, difference: [two, four]}
  - {id: lost, label: two - few, difference: [two, few]}
"""


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    path = tmp_path_factory.mktemp("own") / "own.yaml"
    path.write_text(OWN)
    return str(path)


@pytest.fixture(scope="module")
def results(tmp_path_factory):
    return tmp_path_factory.mktemp("swept") / "results"


@pytest.fixture(scope="module")
def swept(skipdit, own, results):
    return skipdit("cache-sweep", own, "--repeats", "0", "--results", results).ok()


def rows_of(path):
    with path.open(newline="", encoding="utf-8") as file:
        return {row["method"]: row for row in csv.DictReader(file)}


def test_the_table_of_differences(swept, own, table, results):
    shown = {row["method"]: row for row in table(swept.out)}
    assert [*shown] == ["no cache", "two", "four", "few", "two - four", "two - few"]
    assert shown["no cache"]["digits PSNR (dB) ↑"] == "reference"
    assert shown["two - four"]["digits PSNR (dB) ↑"].startswith("+")
    assert " ± " in shown["two - four"]["digits PSNR (dB) ↑"]

    scores = frame(own, results=str(results), per_sample=True)
    for group in ("digits", "painted"):
        mine = scores[scores["group"] == group].groupby("row")["value"].apply(list)
        for other in ("four", "few"):
            apart = [a - b for a, b in zip(mine["two"], mine[other], strict=True)]
            row = rows_of(results / "tiny" / "own.csv")[f"two - {other}"]
            assert float(row[f"{group}_psnr"]) == pytest.approx(statistics.mean(apart), rel=1e-6)
            assert min(apart) <= float(row[f"{group}_psnr_low"]) < float(row[f"{group}_psnr_high"])
            assert row[f"{group}_psnr_n"] == "6"


def test_costs_are_of_the_data_set_of_their_column(swept, results):
    """Twelve steps over seven or eight; the painted model has more layers to skip."""
    rows = rows_of(results / "tiny" / "own.csv")
    assert float(rows["few"]["digits_ideal"]) == pytest.approx(12 / 8)
    assert float(rows["few"]["painted_ideal"]) == pytest.approx(12 / 7)
    assert float(rows["few"]["painted_macs_share"]) == pytest.approx(100 * 7 / 12)
    assert 1 < float(rows["two"]["digits_ideal"]) < float(rows["two"]["painted_ideal"])
    assert float(rows["two - few"]["painted_ideal"]) == pytest.approx(
        float(rows["two"]["painted_ideal"]) - 12 / 7
    )


def test_what_loses_to_fewer_steps_is_named_by_column(swept, own, results):
    """On digits n=2 costs what 8 steps do; on the painted ones 7 steps are fewer than that."""
    rows = rows_of(results / "tiny" / "own.csv")
    assert all(float(rows["two - few"][f"{group}_psnr"]) < 0 for group in ("digits", "painted"))
    (note,) = [line for line in swept.out.splitlines() if "At equal cost" in line]
    assert note.endswith("better by its mean alone than two (digits PSNR).")

    found = scatters(build_recipe_table(load_recipe(own), root=results))
    assert [one.heading.group for one in found] == ["digits", "painted"]
    for one in found:
        drawn = {point.label: point.at[0] for point in one.points}
        steps = "8 steps" if one.heading.group == "digits" else "7 steps"
        assert [*drawn] == ["two", "four", steps]
        assert drawn["two"] == pytest.approx(float(rows["two"][f"{one.heading.group}_ideal"]))
        assert one.to_beat == "no cache, fewer steps"


def test_a_plan_has_what_runs(skipdit, own, table):
    shown = skipdit("plan", own).ok()
    assert [row["run"] for row in table(shown.out)] == ["no cache", "two", "four", "few"]


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("[two, four]", "[two, five]", "rows[4].difference: unknown row 'five'"),
        ("[two, four]", "[two, lost]", "rows[4].difference: unknown row 'lost'"),
        ("[two, four]", "two", "rows[4].difference"),
        ("[two, four]", "[two, two]", "rows[4].difference: is not two rows"),
        ("[two, four]}", "[two, four], cache: none}", "a row of a difference has no cache"),
        ("painted: 7}", "painted: 0}", "rows[3].fewer_steps: '0' is not a number of steps"),
        ("{digits: 8, painted: 7}", "8.5", "rows[3].fewer_steps: '8.5' is not a number of steps"),
        (", painted: 7", "", "rows[3].fewer_steps: 'painted' is missing"),
        ("painted: 7", "painted: 7, drawn: 7", "rows[3].fewer_steps: unknown key 'drawn'"),
        ("painted: 7}", 'painted: 7}, cache: "skip-cache"', "a run of fewer steps has no cache"),
        ("painted: 7", "painted: 12", "own row few: 12 steps are no fewer than 12"),
    ],
)
def test_mistakes_name_their_place(skipdit, tmp_path, old, new, said):
    path = tmp_path / "own.yaml"
    assert old in OWN
    path.write_text(OWN.replace(old, new, 1))
    skipdit("plan", str(path)).failed(2, said)

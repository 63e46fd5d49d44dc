"""The figures of docs/tables.md are those of the recipes and the catalogue."""

import csv
import re
from pathlib import Path

import pytest

from skipdit_cli.assets import assets
from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints.licences import RESTRICTED
from skipdit_cli.recipe import recipe
from skipdit_cli.report import doctor
from skipdit_cli.score import real_clips

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
TABLES = [f"table{i}" for i in range(1, 9)]


@pytest.fixture
def lines(table):
    """The table of what each takes, by recipe; "as Table 1" is what is written there."""
    takes = TEXT.partition("## What it takes")[2]
    found = {f"table{line['table']}": line for line in table(takes)}
    for line in found.values():
        for key, cell in line.items():
            if match := re.fullmatch(r"as Table (\d)", cell):
                line[key] = found[f"table{match[1]}"][key]
    return found


def counted(name):
    """As `skipdit plan --out` wrote it; tests/contract/test_paper_flops.py holds that fresh."""
    path = ROOT / "results" / "paper-flops" / f"{name}.csv"
    return list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))


def test_every_table_has_a_line(lines):
    assert list(lines) == TABLES


@pytest.mark.parametrize("name", TABLES)
def test_hours_and_hardware_are_those_of_the_recipe(lines, name):
    paper, line = recipe.load_recipe(name).paper, lines[name]
    assert f"about {line['GPU hours'].split()[0]}" == paper["hours"]
    assert line["hardware of the paper"] in paper["hardware"]


@pytest.mark.parametrize(
    ("name", "hours", "other"), [("table5", 48, "table3"), ("table7", 0, "table8")]
)
def test_hours_that_are_left_after_another_table(lines, name, hours, other):
    assert f"({hours} after Table {other[-1]})" in lines[name]["GPU hours"]
    (own, settings), (made, others) = (
        (
            {
                line["row"]: [
                    line[key] for key in ("model", "cache", "sampler", "steps", "guidance")
                ]
                for line in counted(each)
            },
            recipe.load_recipe(each, scale="paper").settings,
        )
        for each in (name, other)
    )
    assert [settings[key] for key in ("num_samples", "seed")] == [
        others[key] for key in ("num_samples", "seed")
    ]
    left = {row for row, run in own.items() if run not in made.values()}
    assert left == ({"skip-cache-950-300", "skip-cache-900-50"} if hours else set())
    if hours:  # at the seconds that the recipe takes for these two, for 4720 clips
        assert round((20.0 + 16.7) * 4720 / 3600) == hours


@pytest.mark.parametrize("name", TABLES)
def test_disk_is_that_of_plan(lines, name):
    size = sum(int(line["samples_bytes"]) for line in counted(name))
    assert lines[name]["samples on disk, at most"] == f"{size / 1e9:.0f} GB"


@pytest.fixture
def lacks(tmp_path, monkeypatch):
    """What doctor says of every recipe where nothing is here."""
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    return {check.removeprefix("recipe "): detail for check, _, detail in doctor.recipes()}


def test_downloads_are_those_of_the_catalogue(lines, lacks):
    for name in TABLES:
        loaded = recipe.load_recipe(name, scale="paper")
        metrics = {column.metric for column in loaded.columns}
        size = float(re.search(r"\(about ([\d.]+) GB\)$", lacks[name])[1])
        datasets = {
            catalog.card(model).dataset for row in loaded.rows for model in row.models.values()
        }
        beside = [", real clips"] * bool(datasets & set(real_clips.DATASETS))
        beside += [", VBench"] * ("vbench" in metrics)
        assert lines[name]["downloads"] == f"{size:.1f} GB{''.join(beside)}", name


def test_licences_are_those_of_the_catalogue(lines, lacks):
    for name in TABLES:
        needs = re.match(r"lacks (.*?): ", lacks[name])[1].split(", ")
        known = {**catalog.CARDS, **assets.declared()}
        licences = {known[need].licence for need in needs if need in known}
        told = lines[name]["licences to accept"].split(", ")
        assert {each.partition(" (")[0] for each in told} == licences & set(RESTRICTED), name

"""The figures of docs/tables.md are those of the recipes and the catalogue."""

import csv
import re
from pathlib import Path

import pytest

from skipdit_cli.assets import assets
from skipdit_cli.checkpoints import catalog
from skipdit_cli.checkpoints.licences import RESTRICTED
from skipdit_cli.cli import plan as cli_plan
from skipdit_cli.plan import tables
from skipdit_cli.plan.estimate import estimate
from skipdit_cli.plan.gpus import GPUS
from skipdit_cli.recipe import recipe, runs
from skipdit_cli.report import doctor
from skipdit_cli.score import real_clips

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "tables.md").read_text(encoding="utf-8")
TABLES = [f"table{i}" for i in range(1, 9)]


@pytest.fixture
def lines(table):
    """The table of what each takes, by recipe; "as Table 1" is what is written there."""
    takes = TEXT.partition("## What it takes")[2]
    found = {f"table{line['table']}": line for line in table(takes, 1)}
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
def test_hardware_is_that_of_the_recipe(lines, name):
    assert lines[name]["hardware of the paper"] in recipe.load_recipe(name).paper["hardware"]


@pytest.fixture(scope="module")
def hours(table):
    """The block that `make hours` writes, by recipe."""
    _, _, block = TEXT.partition("<!-- hours: begin -->")
    return {line["table"].lower().replace(" ", ""): line for line in table(block)}


def test_every_table_has_its_hours(hours):
    assert list(hours) == TABLES


def of(names):
    """What `plan --all` says of some tables, in the words of its cells."""
    found = {line.name: line for line in tables.lines(names)}
    return {name: cli_plan.hours_of(line) for name, line in found.items()}


def test_the_hours_are_not_stale(hours):
    """Those of a table that is counted in seconds."""
    for name, cells in of(["table7"]).items():
        assert tuple(hours[name].values()) == cells, "run `make hours`"


@pytest.mark.slow
def test_the_hours_of_the_other_tables_are_not_stale(hours):
    for name, cells in of(TABLES).items():
        assert tuple(hours[name].values()) == cells, "run `make hours`"


@pytest.mark.parametrize(
    ("name", "eflop", "published"),
    [("table1", 55.9, None), ("table2", 53.5, None), ("table3", None, 443), ("table4", None, 1180)],
)
def test_the_hours_are_in_the_region_of_what_was_published(hours, name, eflop, published):
    """By the operations of the tables, and by the seconds a sample that the paper has."""
    a100 = float(hours[name]["A100 hours"].split()[0])
    if eflop:  # decoding and timing are beside them
        sampling = eflop * 1e18 / 120e12 / 3600
        assert sampling < a100 < 1.2 * sampling
    if published:
        assert 0.6 < a100 / published < 1.3


@pytest.mark.slow
@pytest.mark.parametrize(("name", "said"), [("table7", "108"), ("table8", "271")])
def test_the_hours_in_strict_float32(name, said):
    loaded = recipe.load_recipe(name, scale="paper", overrides=["precision=float32"])
    machine = next(each for each in tables.MACHINES if each.gpu == "h100")
    found = estimate(runs.scored(loaded), machine, timed=runs.timed(loaded), repeats=tables.REPEATS)
    assert f"{found.hours:.0f}" == said
    assert "108 and 271 of an H100" in " ".join(TEXT.split())


def test_tables_share_runs_as_their_hours_say(hours):
    """Three of the five runs of Table 5 are in Table 3, and all of Table 7 in Table 8."""
    shared = {"table2": 1, "table5": 3, "table6": 3, "table8": 7}
    for name, line in hours.items():
        after = re.search(r"\(\d+ after Table (\d)\)", line["A100 hours"])
        assert (int(after[1]) if after else None) == shared.get(name)


@pytest.mark.parametrize("name", TABLES)
def test_disk_has_all_samples(hours, name):
    size = sum(int(line["samples_bytes"]) for line in counted(name))
    told = float(hours[name]["disk, at most"].removesuffix(" GB")) * 1e9
    assert size < told < 1.15 * size


def test_what_is_assumed_of_gpus_is_what_is_documented(table):
    _, _, section = (ROOT / "docs" / "gpus.md").read_text(encoding="utf-8").partition("`--gpu`")
    lines = {line["`--gpu`"].strip("`"): line for line in table("| `--gpu`" + section)}
    assert list(lines) == list(GPUS)
    for name, gpu in GPUS.items():
        line = lines[name]
        for heading in ("float32", "tf32", "float16, bfloat16"):
            assert line[heading] == f"{gpu.rates[heading.split(',')[0]]:g}"
        assert line["memory"] == f"{gpu.memory / 1e9:.0f} GB"
        assert line["source"] == gpu.source


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

"""A recipe's table: which number stands in which cell, and what is said about it."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from skipdit_cli.checkpoints import local
from skipdit_cli.errors import UsageError
from skipdit_cli.plan import plan
from skipdit_cli.recipe import recipe as recipes
from skipdit_cli.recipe import runs
from skipdit_cli.recipe.shape import Column, Recipe, RecipeRow
from skipdit_cli.report import markdown
from skipdit_cli.report import recipe as recipe_table
from skipdit_cli.report.notes import protocols, sizes
from skipdit_cli.report.table import (
    Cell,
    Heading,
    Line,
    Table,
    one_protocol,
    scaled,
)
from skipdit_cli.spec import parse_cache
from skipdit_cli.storage import failures, results
from skipdit_cli.storage.store import open_store

PROVENANCE = {
    "skipdit": "0.1.0",
    "commit": "0123456789abcdef",
    "dirty": False,
    "device": "a GPU",
    "torch": "2.13.0",
    "time": "2026-11-21T08:00:00+00:00",
    "command": "skipdit cache-sweep --recipe table1",
}
UNCACHED = RecipeRow(
    "u", "Skip-DiT", {"sky": "skytimelapse-skip"}, parse_cache("none"), {"method": "Skip-DiT"}
)
CACHED = RecipeRow(
    "c2",
    "Skip-Cache n=2",
    {"sky": "skytimelapse-skip"},
    parse_cache("skip-cache(n=2)"),
    {"method": "Skip-Cache", "n": "2"},
)
FVD = Column("sky_fvd", "FVD", "fvd@digits", "sky", better="lower", tolerance=0.05)
PSNR = Column("psnr", "PSNR", "psnr", "sky", unit="dB", better="higher")
FLOPS = Column("flops_t", "FLOPs", "macs", unit="T", tolerance=0.0005)
SHARE = Column("macs_share", "Share of FLOPs", "macs_share", unit="%")
SPEEDUP = Column("speedup", "Speedup", "speedup", unit="x", better="higher", tolerance=0.05)


@pytest.fixture(autouse=True)
def present(monkeypatch):
    """Which weights are there; none are looked for on the disk."""
    names = {"skytimelapse-skip", "moving-digits-skip"}
    monkeypatch.setattr(
        local, "fingerprint", lambda card, path=None: "f00d" if card.name in names else "absent"
    )
    monkeypatch.setattr(local, "locate", lambda card: None)
    return names


def recipe(*rows, columns, scale="paper", paper_table="table1", **settings):
    common = {"num_samples": 8, "batch_size": 2, "sampler": "ddim", "steps": "ddim50"}
    return Recipe(
        name="mine",
        table=paper_table,
        title="Mine",
        scale=scale,
        rows=rows,
        columns=columns,
        settings=common | settings,
    )


def score(root: Path, run: plan.Run, metric: str, value: float | None, **changes):
    result = {"unit": "", "n": 8, "run": run.key, "provenance": PROVENANCE} | changes
    results.write_result(root, results.Result(metric=metric, value=value, **result))


def only(recipe: Recipe, root: Path) -> Cell:
    """The cell of the last row and the only column."""
    return recipe_table.build_recipe_table(recipe, root=root).lines[-1].cells[0]


def run_of(recipe: Recipe) -> plan.Run:
    return runs.of_recipe(recipe)[-1][2]


@pytest.mark.parametrize(
    ("value", "status", "difference"),
    [
        (51.13, "match", 0.0),
        (53.6865, "match", 2.5565),  # 51.13 * 1.05
        (53.69, "off", 2.56),
        (48.5, "off", -2.63),
    ],
)
def test_match_and_off_by_the_relative_tolerance(tmp_path, value, status, difference):
    mine = recipe(CACHED, columns=(FVD,))
    score(tmp_path, run_of(mine), "fvd@digits", value)
    expected = Cell(paper=51.13, ours=value, n=8, status=status)
    assert only(mine, tmp_path) == expected
    assert expected.difference == difference


def test_not_run(tmp_path):
    assert only(recipe(CACHED, columns=(FVD,)), tmp_path) == Cell(paper=51.13, status="not run")


def test_a_result_without_a_number_says_why(tmp_path):
    mine = recipe(CACHED, columns=(FVD,))
    note = "run `skipdit download --metrics fvd`"
    score(tmp_path, run_of(mine), "fvd@digits", None, status="needs weights", note=note)
    assert only(mine, tmp_path) == Cell(paper=51.13, status="needs weights", note=note)


def test_a_failure_says_why_until_there_is_a_number(tmp_path):
    mine = recipe(UNCACHED, CACHED, columns=(FVD,))
    run = run_of(mine)
    failures.write_failure(tmp_path, run.reference.key, "samples", reason="a worker died")
    failed = Cell(paper=51.13, status="failed", note="its uncached reference failed: a worker died")
    assert only(mine, tmp_path) == failed
    failures.write_failure(tmp_path, run.key, "fvd@digits", reason="values that are not finite")
    assert only(mine, tmp_path).note == "values that are not finite"
    failures.write_failure(tmp_path, run.key, "samples", reason="out of memory at batch size 2")
    assert only(mine, tmp_path).note == "out of memory at batch size 2"
    score(tmp_path, run, "fvd@digits", 51.0)
    assert only(mine, tmp_path).status == "match"


def test_a_timing_that_failed_leaves_the_scores(tmp_path):
    mine = recipe(CACHED, columns=(FVD, SPEEDUP))
    failures.write_failure(
        tmp_path, run_of(mine).key, "timing", reason="out of memory at batch size 2"
    )
    fvd, speedup = recipe_table.build_recipe_table(mine, root=tmp_path).lines[0].cells
    assert (fvd.status, speedup.status) == ("not run", "failed")
    assert speedup == Cell(paper=1.56, status="failed", note="out of memory at batch size 2")


def test_missing_checkpoint_names_the_download(tmp_path, present):
    present.clear()
    cell = only(recipe(CACHED, columns=(FVD,)), tmp_path)
    assert (cell.paper, cell.ours, cell.status) == (51.13, None, "needs weights")
    command = "skipdit download skytimelapse-skip --accept-license"
    assert f"`{command}` (about 2.77 GB, and 335.0 MB of vae)" in cell.note


def test_planned_row_and_column_keep_the_published_value(tmp_path):
    fora = RecipeRow("fora", "FORA", {}, published={"method": "FORA"}, planned="FORA comes later")
    later = Column("sky_fvd", "FVD", "fvd", "sky", planned="FVD comes later")
    assert only(recipe(fora, columns=(FVD,)), tmp_path) == Cell(
        paper=52.90, status="planned", note="FORA comes later"
    )
    assert only(recipe(fora, columns=(FLOPS,)), tmp_path).ours is None
    assert only(recipe(CACHED, columns=(later,)), tmp_path) == Cell(
        paper=51.13, status="planned", note="FVD comes later"
    )


def test_a_pair_metric_of_the_uncached_run_is_the_reference(tmp_path):
    built = recipe_table.build_recipe_table(
        recipe(UNCACHED, CACHED, columns=(PSNR, FVD)), root=tmp_path
    )
    statuses = [[cell.status for cell in line.cells] for line in built.lines]
    assert statuses == [["reference", "not run"], ["not run", "not run"]]
    assert [line.reference for line in built.lines] == [True, False]


def test_nothing_published_to_compare_with(tmp_path):
    mine = recipe(CACHED, columns=(PSNR,))
    score(tmp_path, run_of(mine), "psnr", 30.5, unit="dB", interval=(28.5, 32.5))
    cell = only(mine, tmp_path)
    assert cell == Cell(ours=30.5, interval=(28.5, 32.5), n=8, status="measured")
    assert cell.difference is None


def test_another_number_of_samples_is_said(tmp_path):
    mine = recipe(CACHED, columns=(FVD,), num_samples=16)
    score(tmp_path, run_of(mine), "fvd@digits", 51.0)
    cell = only(mine, tmp_path)
    assert (cell.n, cell.note) == (8, "scored with another number of samples than 16")


def test_embedded_models_are_never_compared(tmp_path):
    row = RecipeRow(
        "c2", "n=2", {"sky": "moving-digits-skip"}, CACHED.cache, dict(CACHED.published)
    )
    mine = recipe(row, columns=(FVD, FLOPS), scale="tiny", steps="10")
    score(tmp_path, run_of(mine), "fvd@digits", 51.13)
    built = recipe_table.build_recipe_table(mine, root=tmp_path)
    fvd, flops = built.lines[0].cells
    assert fvd == Cell(ours=51.13, n=8, status="tiny scale")
    assert (flops.paper, flops.status, flops.difference) == (None, "tiny scale", None)
    assert 0 < flops.ours < 0.1
    assert built.headings[1].unit == "T"  # what CSV has; people read it in G
    assert (built.headings[1].shown, built.headings[1].factor) == ("G", pytest.approx(1000))
    assert not built.published


def test_what_a_tiny_model_compares_in_has_the_paper_s_value(tmp_path):
    """Speedup as it is published; the share of FLOPs is that of two published values."""
    tiny = {"sky": "moving-digits-skip"}
    rows = (
        RecipeRow("u", "Skip-DiT", tiny, parse_cache("none"), {"method": "Skip-DiT"}),
        RecipeRow("c2", "Skip-Cache n=2", tiny, CACHED.cache, dict(CACHED.published)),
        RecipeRow("own", "not in the paper", tiny, parse_cache("fora(n=2)")),
    )
    mine = recipe(*rows, columns=(FLOPS, SHARE, SPEEDUP), scale="tiny", steps="10")
    run = runs.profile_run(mine, rows[1])
    score(tmp_path, run, "speedup", 1.25, interval=(1.125, 1.375))
    built = recipe_table.build_recipe_table(mine, root=tmp_path)
    assert [heading.paper for heading in built.headings] == [False, True, True]
    uncached, cached, own = ([cell.paper for cell in line.cells] for line in built.lines)
    assert uncached == [None, 100, 1.0]
    assert cached == [None, pytest.approx(100 * 180.68 / 290.05), 1.56]
    assert own == [None, None, None]
    flops, share, speedup = built.lines[1].cells
    assert share.ours == pytest.approx(100 * flops.ours / built.lines[0].cells[0].ours)
    assert (share.status, share.difference, speedup.difference) == ("tiny scale", None, None)
    text = markdown.body(built)
    heads = [head.strip() for head in text.splitlines()[0].split("|")]
    assert heads[2:-1] == ["FLOPs (G)", "Share of FLOPs (%)", "paper's", "Speedup ↑", "paper's"]
    assert re.search(r"Skip-Cache n=2 .* 62\.3 \| +\*\*1\.25\*\* \| +1\.56 \|", text)
    assert re.search(r"not in the paper .* – \| +not run \| +– \|", text)
    assert "tiny scale" not in text


def test_a_share_of_macs_at_paper_scale_is_compared(tmp_path, present):
    present.clear()
    mine = recipe(UNCACHED, CACHED, columns=(FLOPS, SHARE), profile={"batch_size": 3})
    share = recipe_table.build_recipe_table(mine, root=tmp_path).lines[1].cells[1]
    assert (share.status, share.difference) == ("match", pytest.approx(0, abs=2e-3))


def test_what_only_the_paper_scale_has_is_left_out_and_said_once(tmp_path):
    built = recipe_table.build_recipe_table(recipes.load_recipe("table8"), root=tmp_path)
    assert [heading.key for heading in built.headings][-2:] == ["macs", "speedup"]
    assert not {"fid", "sfid", "is"} & {heading.key for heading in built.headings}
    (note,) = [note for note in built.notes if "Left out" in note]
    assert note == (
        "Left out: FID, sFID, IS, Precision, Recall. They are measured at paper scale only: "
        "`skipdit cache-sweep --recipe table8 --scale paper`."
    )
    paper = recipe_table.build_recipe_table(
        recipes.load_recipe("table5", scale="paper"), root=tmp_path
    )
    assert not any("Left out" in note for note in paper.notes)


def test_the_number_of_samples_and_the_largest_margin_are_told_once():
    headings = (Heading("psnr", "psnr", "PSNR", "dB"), Heading("t", "latency", "Latency", "s"))
    lines = [
        Line(
            ("a",),
            (Cell(status="reference"), Cell(ours=2.0, interval=(1.99, 2.01), status="measured")),
        ),
        Line(
            ("b",),
            (Cell(ours=30.0, interval=(28.5, 31.5), n=16, status="off"), Cell(status="not run")),
        ),
        Line(
            ("c",),
            (Cell(ours=20.0, interval=(17.5, 22.5), n=16, status="off"), Cell(status="not run")),
        ),
    ]
    samples, margins = sizes(headings, lines)
    assert samples == "Every score is of 16 samples."
    assert margins.startswith("Largest margin of error of a column: PSNR 2.5 dB, Latency 0.01 s; ")
    table = Table("t", ("row",), headings, tuple(lines), margins=False)
    assert "n=" not in markdown.body(table)
    lines[2] = replace(lines[2], cells=(replace(lines[2].cells[0], n=8), lines[2].cells[1]))
    assert len(sizes(headings, lines)) == 1
    table = replace(table, lines=tuple(lines))
    assert "20.00 (n=8)" in markdown.body(replace(table, published=False))
    assert "– / 30.00 (n=16) off" in markdown.body(table)
    assert sizes(headings, lines[:0]) == ()


def test_flops_are_counted_for_the_profiled_batch_and_match(tmp_path, present):
    present.clear()  # counting needs no weights
    profile = {"batch_size": 3}
    built = recipe_table.build_recipe_table(
        recipe(UNCACHED, CACHED, columns=(FLOPS,), profile=profile), root=tmp_path
    )
    (uncached,), (cached,) = (line.cells for line in built.lines)
    assert (uncached.paper, uncached.status, uncached.n) == (290.05, "match", None)
    assert (cached.paper, cached.status) == (180.68, "match")
    assert uncached.ours == pytest.approx(290.050, abs=5e-4)
    assert cached.ours == pytest.approx(180.676, abs=5e-4)
    single = only(recipe(CACHED, columns=(FLOPS,), profile={"batch_size": 1}), tmp_path)
    assert single.ours == pytest.approx(cached.ours / 3)
    assert single.status == "off"


def test_what_a_dynamic_method_costs_is_not_run_until_its_first_batch_is_there(tmp_path):
    row = RecipeRow("d", "First-Block", {"sky": "moving-digits-skip"}, parse_cache("first-block"))
    columns = (Column("m", "MACs", "macs", unit="G"), Column("f", "FLOPs", "flops", unit="G"))
    mine = recipe(row, columns=columns, paper_table=None, steps="4", batch_size=1)
    assert (
        recipe_table.build_recipe_table(mine, root=tmp_path).lines[0].cells
        == (Cell(status="not run"),) * 2
    )
    run = runs.profile_run(mine, row)
    frame = np.zeros((2, 16, 16, 3), np.uint8)
    open_store(tmp_path, run).write(0, frame, meta={"reused_steps": [1, 2]})
    macs, flops = recipe_table.build_recipe_table(mine, root=tmp_path).lines[0].cells
    counted = plan.plan(run, root=tmp_path)
    assert counted.cached_steps == 2
    assert (macs.ours, macs.status) == (pytest.approx(counted.macs_paper / 1e9), "tiny scale")
    assert flops.ours == pytest.approx(counted.flops / 1e9)


@pytest.mark.parametrize(("batch_size", "told"), [(2, True), (1, False)])
def test_a_method_that_decides_by_the_batch_is_named(tmp_path, batch_size, told):
    models = {"sky": "moving-digits-skip"}
    rows = (
        RecipeRow("d", "First-Block", models, parse_cache("first-block")),
        RecipeRow("f", "FORA", models, parse_cache("fora(n=2)")),
    )
    columns = (Column("p", "PSNR", "psnr", group="sky"),)
    mine = recipe(*rows, columns=columns, paper_table=None, steps="4", batch_size=batch_size)
    note = (
        "Decided for a whole batch, so that a sample depends on the others of its batch: "
        "first-block."
    )
    assert (note in recipe_table.build_recipe_table(mine, root=tmp_path).notes) == told


def test_what_a_method_says_of_itself_stands_there_once(tmp_path):
    specs = ("taylorseer(n=2,schedule=diffusers)", "taylorseer(n=3,schedule=diffusers)")
    models = {"sky": "moving-digits-skip"}
    rows = [RecipeRow(spec, spec, models, parse_cache(spec)) for spec in specs]
    columns = (Column("p", "PSNR", "psnr", group="sky"),)
    mine = recipe(*rows, columns=columns, paper_table=None, steps="4")
    note = "taylorseer: full steps are those of diffusers, not of its authors."
    assert recipe_table.build_recipe_table(mine, root=tmp_path).notes.count(note) == 1


def test_timings_are_those_of_the_profiled_run(tmp_path):
    mine = recipe(CACHED, columns=(SPEEDUP,), profile={"batch_size": 3})
    score(tmp_path, run_of(mine), "speedup", 1.99, n=5)  # of another batch size
    assert only(mine, tmp_path).status == "not run"
    profiled = runs.profile_run(mine, CACHED)
    assert profiled.batch_size == 3
    score(tmp_path, profiled, "speedup", 1.5, n=5, interval=(1.49, 1.51))
    assert only(mine, tmp_path) == Cell(paper=1.56, ours=1.5, interval=(1.49, 1.51), status="match")


def test_what_is_timed_may_be_another_run_than_what_is_counted(tmp_path):
    settings = {"profile": {"batch_size": 3}, "timing": {"batch_size": 1}}
    mine = recipe(CACHED, columns=(FLOPS, SPEEDUP), **settings)
    timed, counted = runs.timed_run(mine, CACHED), runs.profile_run(mine, CACHED)
    score(tmp_path, counted, "speedup", 1.99, n=5)
    score(tmp_path, timed, "speedup", 1.5, n=5)
    (line,) = recipe_table.build_recipe_table(mine, root=tmp_path).lines
    assert [cell.ours for cell in line.cells] == [
        pytest.approx(plan.plan(counted, batch=3).macs_paper / 1e12),
        1.5,
    ]
    assert line.runs == (counted.key, timed.key)


def test_each_group_has_its_own_model(tmp_path):
    row = RecipeRow(
        "c2",
        "Skip-Cache n=2",
        {"sky": "skytimelapse-skip", "ffs": "ffs-skip"},
        CACHED.cache,
        dict(CACHED.published),
    )
    ffs = Column("ffs_fvd", "FVD", "fvd@digits", "ffs")
    mine = recipe(row, columns=(FVD, ffs))
    sky_run = runs.of_recipe(mine)[0][2]
    score(tmp_path, sky_run, "fvd@digits", 52.0)
    sky_cell, ffs_cell = recipe_table.build_recipe_table(mine, root=tmp_path).lines[0].cells
    assert (sky_cell.paper, sky_cell.ours) == (51.13, 52.0)
    assert (ffs_cell.paper, ffs_cell.ours, ffs_cell.status) == (23.55, None, "needs weights")


def test_a_recipe_of_ones_own_has_no_published_values(tmp_path):
    row = RecipeRow("c2", "n=2", dict(CACHED.models), CACHED.cache)
    built = recipe_table.build_recipe_table(
        recipe(row, columns=(PSNR,), paper_table=None), root=tmp_path
    )
    assert not built.published
    assert built.lines[0].cells[0].paper is None


def test_an_ambiguous_published_line_is_an_error(tmp_path):
    row = RecipeRow(
        "c", "Skip-Cache", dict(CACHED.models), parse_cache("none"), {"method": "Skip-Cache"}
    )
    with pytest.raises(UsageError, match=r"5 lines of table1\.csv have method=Skip-Cache"):
        recipe_table.build_recipe_table(recipe(row, columns=(FVD,)), root=tmp_path)


def test_headings_title_and_notes(tmp_path):
    mine = recipe(columns=(FLOPS, SPEEDUP))
    mine = Recipe(
        **vars(mine) | {"notes": ("One.",), "paper": {"hardware": "one A100", "headline": "FID 2"}}
    )
    built = recipe_table.build_recipe_table(mine, root=tmp_path)
    assert built.title == "Mine (paper scale)"
    assert built.notes == ("One.", "At paper scale: FID 2; one A100.")
    assert [(h.label, h.unit, h.better) for h in built.headings] == [
        ("FLOPs", "T", ""),
        ("Speedup", "", "higher"),
    ]


def test_provenance_says_each_thing_once(tmp_path):
    mine = recipe(CACHED, columns=(FVD, PSNR))
    run = run_of(mine)
    later = PROVENANCE | {
        "time": "2026-11-22T08:00:00+00:00",
        "device": "a CPU",
        "dirty": True,
        "command": "skipdit evaluate mine",
    }
    score(tmp_path, run, "fvd@digits", 51.0)
    score(tmp_path, run, "psnr", 30.0, provenance=later)
    built = recipe_table.build_recipe_table(mine, root=tmp_path)
    assert built.provenance == {
        "skipdit": "0.1.0 (commit 0123456789), 0.1.0 (commit 0123456789 with changes)",
        "device": "a GPU, a CPU",
        "torch": "2.13.0",
        "time": "2026-11-21T08:00:00+00:00 to 2026-11-22T08:00:00+00:00",
    }
    assert built.command == "skipdit cache-sweep --recipe table1\nskipdit evaluate mine"


def test_series_tell_methods_and_settings_apart(tmp_path):
    guided = RecipeRow("g", "Skip-Cache n=3, cfg=1", settings={"guidance": None}, planned="later")
    guided = RecipeRow(**vars(guided) | {"cache": parse_cache("skip-cache(n=3)")})
    moved = RecipeRow(
        "m", "Skip-Cache n=2, 800-50", cache=parse_cache("skip-cache(n=2,window=800-50)")
    )
    plain = RecipeRow("p", "Skip-DiT")
    pab = RecipeRow("b", "PAB235", cache=parse_cache("pab(cross=5)"))
    fora = RecipeRow(
        "f", "FORA, cfg=1", cache=parse_cache("fora(n=2)"), settings={"guidance": None}
    )
    order = RecipeRow(
        "o", "skip-cache n=2, order=1, K=25", cache=parse_cache("skip-cache(n=2,order=1)")
    )
    full = RecipeRow("d", "dp-cache K=25", cache=parse_cache("dp-cache(full=25)"))
    rows = (guided, moved, plain, pab, fora, order, full)
    lines = recipe_table.build_recipe_table(recipe(*rows, columns=(FVD,)), root=tmp_path).lines
    assert [(line.series, line.point) for line in lines] == [
        ("skip-cache, guidance none", "n=3"),
        ("skip-cache, window 800-50", "n=2"),
        ("Skip-DiT", "Skip-DiT"),
        ("PAB", "PAB235"),
        ("FORA, guidance none", "FORA"),
        ("skip-cache, order=1", "n=2"),
        ("dp-cache", "K=25"),
    ]


def scored(value, protocol):
    return Cell(ours=value, n=4, status="measured", protocol=protocol)


def test_two_protocols_share_no_column():
    counted = Cell(ours=1.0, status="measured")
    lines = [
        Line(names=("a",), cells=(scored(70.0, "VBench"), counted)),
        Line(names=("b",), cells=(scored(90.0, "VBench, custom input"), counted)),
        Line(names=("c",), cells=(scored(71.0, "VBench"), counted)),
        Line(names=("d",), cells=(Cell(status="not run"), counted)),
    ]
    first, other, third, absent = one_protocol(lines)
    assert (first, third, absent) == (lines[0], lines[2], lines[3])
    assert (other.cells[0].ours, other.cells[0].n) == (None, None)
    assert other.cells[0].status == "not run"
    assert other.cells[0].note == "scored by VBench, custom input, the column by VBench"
    assert other.cells[1] == counted
    headings = [Heading("v", "vbench", "VBench"), Heading("m", "macs", "MACs")]
    assert protocols(headings, one_protocol(lines)) == ("Protocols: VBench: VBench.",)
    assert protocols(headings[1:], [Line(names=("a",), cells=(counted,))]) == ()


def test_columns_of_one_protocol_are_told_together():
    headings = [Heading(name, name, name.upper()) for name in ("psnr", "ssim", "fid")]
    line = Line(names=("a",), cells=(scored(1.0, "eval"), scored(2.0, "eval"), scored(3.0, "ADM")))
    assert protocols(headings, [line]) == ("Protocols: PSNR, SSIM: eval; FID: ADM.",)


def test_shares_are_shown_in_percent_only_where_they_are_shares():
    assert scaled(0.8252, "%") == pytest.approx(82.52)  # precision, in Table 8
    assert scaled(75.6, "%", "%") == 75.6  # VBench, which counts in percent itself
    assert scaled(0.5, "") == 0.5

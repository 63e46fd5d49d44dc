"""The table of a sweep, from hand-made runs."""

from dataclasses import replace

import pytest

from skipdit_cli.checkpoints import catalog
from skipdit_cli.plan.plan import RunPlan
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.report import notes, sweep
from skipdit_cli.report.table import Cell
from skipdit_cli.run import Run
from skipdit_cli.score.sweep import SweepRow
from skipdit_cli.spec import parse_cache
from skipdit_cli.storage.results import Result

CACHED = make_run(
    "moving-digits-skip",
    "skip-cache(n=2)",
    {"guidance": 2.0, "seed": 7, "num_samples": 16, "batch_size": 8},
)
RUN = CACHED.reference
FACTS = {"skipdit": "0.1.0", "device": "a CPU", "time": "t", "command": "skipdit cache-sweep"}


def planned(run: Run, *, cached_steps: int, macs: int, flops: int, ideal: float) -> RunPlan:
    return RunPlan(
        run=run,
        steps=50,
        full_steps=50 - cached_steps,
        cached_steps=cached_steps,
        batch=1,
        macs_paper=macs,
        macs_executed=macs - 1,
        flops=flops,
        ideal_speedup=ideal,
        disk_bytes=0,
        missing=[],
    )


def result(metric: str, value: float, margin: float | None = None, n: int = 16) -> Result:
    interval = None if margin is None else (round(value - margin, 9), round(value + margin, 9))
    return Result(
        metric=metric, value=value, unit="", n=n, run="r", interval=interval, provenance=FACTS
    )


UNCACHED_ROW = SweepRow(
    "no cache",
    RUN,
    planned(RUN, cached_steps=0, macs=12_300_000_000, flops=26_000_000_000, ideal=1.0),
    {"latency": result("latency", 2.0, 0.1, 5), "speedup": result("speedup", 1.0, 0.0, 5)},
)
CACHED_ROW = SweepRow(
    "skip-cache n=2",
    CACHED,
    planned(CACHED, cached_steps=22, macs=8_200_000_000, flops=17_000_000_000, ideal=1.53),
    {
        "latency": result("latency", 1.4, 0.05, 5),
        "speedup": result("speedup", 1.43, 0.02, 5),
        "memory": result("memory", 3 * 2**20, n=1),
        "psnr": result("psnr", 31.5, 2.5),
        "ssim": result("ssim", 0.95, 0.01),
        "fvd@digits": result("fvd@digits", 12.0),
    },
)


def test_every_column():
    table = sweep.build_sweep_table([UNCACHED_ROW, CACHED_ROW])
    assert table.names == ("model", "cache", "window", "full", "cached")
    assert [(h.key, h.unit) for h in table.headings] == [
        ("macs_g", "G"),
        ("flops_g", "G"),
        ("ideal", ""),
        ("speedup", ""),
        ("latency_s", "s"),
        ("latency_per_sample_s", "s"),
        ("memory_mib", "MiB"),
        ("psnr", "dB"),
        ("ssim", ""),
        ("fvd@digits", ""),
    ]
    uncached, cached = table.lines
    assert uncached.names == ("moving-digits-skip", "no cache", "", "50", "0")
    assert cached.names == ("moving-digits-skip", "skip-cache n=2", "900-50", "28", "22")
    tiny = {"status": "tiny scale"}
    assert cached.cells == (
        Cell(ours=pytest.approx(8.2), **tiny),
        Cell(ours=pytest.approx(17.0), **tiny),
        Cell(ours=1.53, **tiny),
        Cell(ours=1.43, interval=(1.41, 1.45), n=5, **tiny),
        Cell(ours=1.4, interval=(1.35, 1.45), n=5, **tiny),
        Cell(ours=0.175, interval=(1.35 / 8, 1.45 / 8), n=5, **tiny),  # a batch is of 8
        Cell(ours=3.0, n=1, **tiny),
        Cell(ours=31.5, interval=(29.0, 34.0), n=16, **tiny),
        Cell(ours=0.95, interval=(0.94, 0.96), n=16, **tiny),
        Cell(ours=12.0, n=16, **tiny),
    )
    assert [cell.status for cell in uncached.cells[6:]] == [
        "not run",
        "reference",
        "reference",
        "not run",
    ]


def test_lines_of_a_plot():
    table = sweep.build_sweep_table([UNCACHED_ROW, CACHED_ROW])
    assert [line.reference for line in table.lines] == [True, False]
    assert (table.lines[1].series, table.lines[1].point) == ("skip-cache, window 900-50", "n=2")
    assert table.lines[1].runs == (CACHED.key,)
    other = replace(CACHED_ROW, run=replace(CACHED, card=catalog.card("digits-skip")), results={})
    series = [line.series for line in sweep.build_sweep_table([CACHED_ROW, other]).lines]
    assert series == [
        "moving-digits-skip skip-cache, window 900-50",
        "digits-skip skip-cache, window 900-50",
    ]


FEWER = replace(RUN, steps="34", reference_steps=RUN.steps)


def beside(psnr, ssim, *, cached=CACHED_ROW):
    """A table with an uncached row of 34 steps, which cost what the cached one does."""
    own = cached.results | {"psnr": replace(result("psnr", 30.0), scores=(30.0,) * 16)}
    scores = {
        "psnr": replace(result("psnr", sum(psnr) / len(psnr)), scores=tuple(psnr)),
        "ssim": result("ssim", ssim),
        "latency": result("latency", 1.3),
    }
    counted = planned(FEWER, cached_steps=0, macs=1, flops=1, ideal=1.47)
    row = SweepRow("no cache, 34 steps", FEWER, replace(counted, steps=34, full_steps=34), scores)
    return sweep.build_sweep_table([UNCACHED_ROW, replace(cached, results=own), row])


@pytest.fixture
def costs_34_steps(monkeypatch):
    monkeypatch.setattr("skipdit_cli.plan.fewer.count", lambda planned: 34)


def test_the_line_of_fewer_steps(costs_34_steps):
    line = beside([35.0] * 16, 0.9).lines[2]
    assert line.names == ("moving-digits-skip", "no cache, 34 steps", "", "34", "0")
    assert (line.fewer, line.reference, line.runs) == (True, False, (FEWER.key,))
    assert (line.series, line.point) == ("no cache, fewer steps", "34 steps")
    assert [each.fewer for each in beside([35.0] * 16, 0.9).lines] == [False, False, True]


def test_it_makes_no_windows_differ(costs_34_steps):
    table = beside([35.0] * 16, 0.9)
    assert "window" not in [table.names[i] for i in table.shown]
    assert "window 900-50" in table.same
    assert not any(note.startswith("Windows differ") for note in table.notes)


@pytest.mark.parametrize(
    ("psnr", "ssim", "said"),
    [
        ([35.0] * 16, 0.9, "better than skip-cache n=2 (PSNR)."),  # ssim is 0.95 with the cache
        ([25.0] * 16, 0.9, ""),
        ([30.0] * 16, 0.9, ""),  # as good
        ([29.0, 35.0] * 8, 0.9, "better than skip-cache n=2 (PSNR)."),
        ([24.0, 37.0] * 8, 0.9, "better by its mean alone than skip-cache n=2 (PSNR)."),
        (  # nothing says how sure the other one is
            [35.0] * 16,
            0.96,
            "better than skip-cache n=2 (PSNR); by its mean alone than skip-cache n=2 (SSIM).",
        ),
    ],
)
def test_caches_that_lose_to_fewer_steps_are_named(costs_34_steps, psnr, ssim, said):
    told = [note for note in beside(psnr, ssim).notes if "equal cost" in note]
    assert told == ([f"At equal cost an uncached run of fewer steps is {said}"] if said else [])


def test_of_random_weights_nothing_is_said(costs_34_steps):
    drawn = replace(CACHED_ROW, run=replace(CACHED, card=replace(CACHED.card, random=True)))
    assert not [note for note in beside([35.0] * 16, 0.9, cached=drawn).notes if "cost" in note]


@pytest.mark.parametrize(
    ("macs", "unit", "shown"),
    [(5_572_695_000_000, "T", 5.572695), (999e9, "G", 999), (21_500_000, "M", 21.5)],
)
def test_counts_are_in_the_unit_of_the_largest(macs, unit, shown):
    rows = [
        SweepRow("a", RUN, planned(RUN, cached_steps=0, macs=macs, flops=10**12, ideal=1)),
        SweepRow("b", RUN, planned(RUN, cached_steps=0, macs=1000, flops=1, ideal=1)),
    ]
    table = sweep.build_sweep_table(rows)
    assert [heading.unit for heading in table.headings[:2]] == [unit, "T"]
    assert table.lines[0].cells[0].ours == pytest.approx(shown)


def test_a_failed_run_keeps_its_line_and_says_why():
    failed = replace(CACHED_ROW, results={}, failure="a worker process died")
    (line,) = (table := sweep.build_sweep_table([failed], metrics=["lpips"])).lines
    assert [heading.key for heading in table.headings[6:]] == ["lpips"]
    assert line.names == ("moving-digits-skip", "skip-cache n=2", "900-50", "28", "22")
    assert line.cells[0].ours == pytest.approx(8.2)
    assert {(c.ours, c.status, c.note) for c in line.cells[3:]} == {
        (None, "failed", "a worker process died")
    }


def test_a_metric_without_its_network():
    lacking = Result(
        metric="ssim", value=None, unit="", n=16, run="r", status="needs weights", note="fetch it"
    )
    row = replace(CACHED_ROW, results={"ssim": lacking})
    table = sweep.build_sweep_table([row], metrics=["psnr"])
    assert table.cell(table.lines[0], "ssim") == Cell(status="needs weights", note="fetch it")
    assert table.cell(table.lines[0], "psnr") == Cell(status="not run")
    assert table.cell(table.lines[0], "lpips") is None


def test_only_what_was_asked_for_has_a_column():
    """PSNR and SSIM, where they are among it, come first."""
    row = replace(CACHED_ROW, results={"psnr": CACHED_ROW.results["psnr"]})

    def columns(**asked):
        return [heading.key for heading in sweep.build_sweep_table([row], **asked).headings[6:]]

    assert columns() == ["psnr"]
    assert columns(metrics=["lpips", "psnr"]) == ["psnr", "lpips"]
    assert columns(metrics=["fvd@digits", "ssim"]) == ["psnr", "ssim", "fvd@digits"]


def test_title_notes_and_provenance():
    table = sweep.build_sweep_table([UNCACHED_ROW, CACHED_ROW])
    assert (
        table.title == "moving-digits-skip: 16 samples, ddim 50, guidance 2, seed 7, batch size 8"
    )
    assert table.same == "window 900-50"
    assert [table.names[place] for place in table.shown] == ["cache", "full", "cached"]
    assert [line.spec for line in table.lines] == ["none", CACHED.cache.short]
    embedded, margins = table.notes
    assert embedded == sweep.EMBEDDED
    assert margins.startswith(
        "± is the margin of error: half the width of the 95 % interval, of a "
    )
    assert table.provenance == {"skipdit": "0.1.0", "device": "a CPU", "time": "t"}
    assert table.command == "skipdit cache-sweep"
    assert not table.published


def test_full_size_models_are_measured_not_tiny():
    run = replace(RUN, card=catalog.card("taichi-skip"), guidance=None)
    row = replace(UNCACHED_ROW, run=run, results={"latency": result("latency", 9.9)}, timed_batch=1)
    table = sweep.build_sweep_table([row])
    assert table.cell(table.lines[0], "latency") == Cell(ours=9.9, n=16, status="measured")
    assert table.notes == ()
    assert table.title == "taichi-skip: 16 samples, ddim 50, seed 7, batch size 8"
    assert [h.label for h in table.headings[4:6]] == ["latency of batch 1", "memory"]


def test_what_a_dynamic_method_saves_is_not_known_before_it_has_run():
    run = replace(RUN, cache=parse_cache("first-block(threshold=0.1)").resolve(RUN.cache.layout))
    unknown = dict.fromkeys(
        ("full_steps", "cached_steps", "macs_paper", "macs_executed", "flops", "ideal_speedup")
    )
    row = SweepRow("first-block threshold=0.1", run, replace(UNCACHED_ROW.plan_row, **unknown))
    table = sweep.build_sweep_table([UNCACHED_ROW, row])
    uncached, line = table.lines
    assert uncached.names[3:] == ("50", "0")
    assert line.names[3:] == ("", "")
    assert [heading.unit for heading in table.headings[:2]] == ["G", "G"]
    assert [(cell.ours, cell.status) for cell in line.cells[:3]] == [(None, "not run")] * 3
    assert line.names[2] == "whole"
    assert (line.series, line.point) == ("first-block, window whole", "threshold=0.1")


def test_a_dynamic_method_that_skipped_nothing_is_named():
    run = replace(RUN, cache=parse_cache("first-block(threshold=0.1)").resolve(RUN.cache.layout))
    idle = replace(UNCACHED_ROW.plan_row, run=run)
    note = "first-block threshold=0.1 skipped nothing; a higher threshold skips more."
    label = "first-block threshold=0.1"
    assert note in sweep.build_sweep_table([UNCACHED_ROW, SweepRow(label, run, idle)]).notes
    busy = replace(idle, full_steps=49, cached_steps=1)
    assert note not in sweep.build_sweep_table([UNCACHED_ROW, SweepRow(label, run, busy)]).notes
    assert not [n for n in sweep.build_sweep_table([UNCACHED_ROW]).notes if "skipped nothing" in n]


def test_a_method_that_decides_by_the_batch_is_named():
    note = (
        "Decided for a whole batch, so that a sample depends on the others of its batch: "
        "first-block."
    )
    run = replace(RUN, cache=parse_cache("first-block(threshold=0.1)").resolve(RUN.cache.layout))
    rows = [SweepRow("f", each, replace(UNCACHED_ROW.plan_row, run=each)) for each in (run, run)]
    assert sweep.build_sweep_table([UNCACHED_ROW, CACHED_ROW, *rows]).notes.count(note) == 1
    single = replace(run, batch_size=1)
    row = SweepRow("f", single, replace(UNCACHED_ROW.plan_row, run=single))
    assert note not in sweep.build_sweep_table([UNCACHED_ROW, CACHED_ROW, row]).notes


def test_what_a_method_says_of_itself_stands_there_once():
    note = "taylorseer: full steps are those of diffusers, not of its authors."
    for spec, times in (("taylorseer(schedule=diffusers)", 1), ("taylorseer", 0)):
        run = replace(RUN, cache=parse_cache(spec).resolve(RUN.cache.layout))
        rows = [SweepRow("t", run, replace(UNCACHED_ROW.plan_row, run=run))] * 2
        assert sweep.build_sweep_table([UNCACHED_ROW, *rows]).notes.count(note) == times


def test_what_speaks_against_a_cache_stands_under_its_rows_with_that_sampler():
    note = "skip-cache with ddpm: order=1 extrapolates, and with noise added at every step that can"
    run = make_run("digits-skip", "skip-cache(order=1)", {"sampler": "ddpm"})
    said = notes.of_methods([run, run, run.reference])
    assert said == (run.cache.note, f"{note} lose to order=0.")
    assert notes.of_methods([replace(run, sampler=CACHED.sampler)]) == (run.cache.note,)


def of_cache(cache):
    return replace(
        CACHED_ROW, run=replace(CACHED, cache=parse_cache(cache).resolve(RUN.cache.layout))
    )


def test_windows_that_differ_are_told_of_every_method():
    caches = ("fora", "skip-cache(window=700-50)", "pab(window=700-50)", "fora(n=2)", "none")
    rows = [UNCACHED_ROW, *map(of_cache, caches)]
    (note,) = [each for each in sweep.build_sweep_table(rows).notes if "Windows" in each]
    assert note == (
        "Windows differ, so that the same n does not save the same: whole of fora; "
        "700-50 of skip-cache, pab."
    )


@pytest.mark.parametrize("caches", [("fora", "delta-dit"), ("fora(window=9-1)", "pab(window=9-1)")])
def test_windows_that_are_the_same_need_no_note(caches):
    rows = [UNCACHED_ROW, *map(of_cache, caches)]
    assert not [each for each in sweep.build_sweep_table(rows).notes if "Windows" in each]

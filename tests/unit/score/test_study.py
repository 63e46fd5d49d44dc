"""The lines of a study, from hand-made files on disk."""

from dataclasses import replace

from skipdit_cli import registry
from skipdit_cli.recipe.runs import make_run
from skipdit_cli.score.study import Study, read, rows, write
from skipdit_cli.score.sweep import SweepRow, timed_as
from skipdit_cli.storage import failures, results
from skipdit_cli.storage.results import Result

SETTINGS = {"steps": 4, "num_samples": 4, "batch_size": 2}
RUN = make_run("digits-skip", "skip-cache(n=2)", SETTINGS)
VERSION = registry.load("metrics", "accuracy@digits").VERSION
STUDY = Study(name="s", runs=(RUN,), batch_size=4)


def put(root, run, metric, value, **more):
    own = {"reference": run.reference.key}
    results.write_result(
        root, Result(metric=metric, value=value, unit="", n=1, run=run.key, **own, **more)
    )


def test_timings_are_of_the_batch_that_was_chosen(tmp_path):
    chosen = timed_as(RUN, 4)
    put(tmp_path, RUN, "latency", 1.0)
    assert rows(STUDY, tmp_path)[1].results["latency"].value == 1.0  # of the run's, without it
    put(tmp_path, chosen, "latency", 3.0)
    row = rows(STUDY, tmp_path)[1]
    assert (row.results["latency"].value, row.timed_batch) == (3.0, 4)


def test_a_run_of_fewer_steps_is_kept_with_the_reference_that_it_has(tmp_path):
    fewer = make_run("digits-skip", settings={**SETTINGS, "steps": 3, "reference_steps": "4"})
    written = replace(STUDY, runs=(RUN, fewer))
    write(tmp_path, written)
    found = read(tmp_path, "s")
    assert found.runs == (RUN, fewer)
    assert [row.label for row in rows(found, tmp_path)] == [
        "no cache (n=1)",
        "skip-cache n=2",
        "no cache, 3 steps",
    ]


def test_a_run_of_fewer_steps_has_the_numbers_against_its_reference(tmp_path):
    """And the plain run of as many steps has its own."""
    plain = make_run("digits-skip", settings={**SETTINGS, "steps": 3})
    fewer = replace(plain, reference_steps="4")
    put(tmp_path, plain, "speedup", 1.0)
    put(tmp_path, plain, "accuracy@digits", 0.5, version=VERSION)
    series = {"provenance": {"series": "a"}}
    found = Result(
        metric="speedup",
        value=1.3,
        unit="x",
        n=1,
        run=fewer.key,
        reference=fewer.reference.key,
        **series,
    )
    results.write_result(tmp_path, found, series="a")
    psnr = replace(found, metric="psnr", value=40.0, n=4, version=1, provenance={})
    results.write_result(tmp_path, psnr, series=results.apart(fewer, "psnr"))

    def values(run):
        row = rows(replace(STUDY, runs=(run,)), tmp_path)[-1]
        return {metric: result.value for metric, result in row.results.items()}

    assert values(fewer) == {"accuracy@digits": 0.5, "psnr": 40.0, "speedup": 1.3}
    assert values(plain) == {"accuracy@digits": 0.5, "speedup": 1.0}
    assert results.read_result(tmp_path, plain.key, "psnr") is None
    assert results.read_score(tmp_path, fewer, "psnr").value == 40.0
    assert results.read_score(tmp_path, fewer, "speedup").value == 1.3
    assert results.read_score(tmp_path, replace(fewer, num_samples=2), "psnr") is None


def test_why_the_chosen_batch_could_not_be_timed_is_told(tmp_path):
    failures.write_failure(tmp_path, timed_as(RUN, 4).key, failures.TIMING, reason="out of memory")
    latency = rows(STUDY, tmp_path)[1].results["latency"]
    assert (latency.status, latency.note) == ("failed", "out of memory")


def test_what_was_just_made_comes_before_what_is_on_disk(tmp_path):
    put(tmp_path, RUN, "psnr", 20.0, version=1)
    reference, row = rows(STUDY, tmp_path)
    new = Result(metric="ssim", value=0.5, unit="", n=4, run=RUN.key)
    made = SweepRow("old label", RUN, row.plan_row, {"ssim": new}, failure="it failed")
    again = rows(STUDY, tmp_path, made=[made])
    assert again[0] == reference
    assert again[1].label == row.label == "skip-cache n=2"
    assert again[1].results == {**row.results, "ssim": new}
    assert again[1].failure == "it failed"
    assert again[1].plan_row is row.plan_row

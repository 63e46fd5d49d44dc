"""A DataFrame has what is on disk and what is counted, with the paper's value beside it."""

import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

import skipdit_cli
from skipdit_cli.errors import UsageError
from skipdit_cli.recipe import recipe as recipes
from skipdit_cli.recipe import runs
from skipdit_cli.storage import results
from skipdit_cli.storage.store import open_store


def put(root: Path, run: str, metric: str, value: float | None, **changes) -> None:
    given = {"unit": "", "n": 4, "run": run} | changes
    results.write_result(root, results.Result(metric=metric, value=value, **given))


def test_a_recipe_has_a_row_for_each_of_its_cells(tmp_path):
    recipe = recipes.load_recipe("table1")
    row = next(row for row in recipe.rows if row.id == "skip-cache-n2")
    run = next(run for each, _, run in runs.of_recipe(recipe) if each is row)
    put(
        *(tmp_path, run.key, "psnr", 30.0),
        unit="dB",
        n=20,
        spread=2.0,
        interval=(29.0, 31.0),
        protocol="VideoSys",
        reference=run.reference.key,
    )
    put(
        tmp_path,
        runs.profile_run(recipe, row).key,
        "speedup",
        1.25,
        n=5,
        interval=(1.2, 1.3),
        unit="x",
    )
    frame = skipdit_cli.frame("table1", results=tmp_path)
    assert len(frame) == len(recipe.rows) * len(recipe.columns)
    assert not frame.duplicated(["row", "metric", "group"]).any()
    mine = frame[frame.row == "Skip-Cache n=2"].set_index("metric")

    psnr = mine.loc["psnr"]
    assert (psnr.value, psnr.n, psnr.spread) == (30.0, 20, 2.0)
    assert (psnr.interval_low, psnr.interval_high) == (29.0, 31.0)
    assert (psnr.protocol, psnr.unit, psnr.label, psnr.group) == (
        "VideoSys",
        "dB",
        "PSNR",
        "digits",
    )
    assert (psnr.run, psnr.reference) == (run.key, run.reference.key)
    assert (psnr.model, psnr.cache, psnr.seed) == ("moving-digits-skip", str(run.cache), 0)
    assert pd.isna(psnr.paper)

    speedup = mine.loc["speedup"]
    assert (speedup.value, speedup.n, speedup.paper, speedup.batch_size) == (1.25, 5, 1.56, 4)
    assert (speedup.status, speedup.interval_low) == ("tiny scale", 1.2)
    assert mine.paper["macs_share"] == pytest.approx(100 * 180.68 / 290.05)
    absent = mine.loc["ssim"]
    assert (absent.status, absent.run) == ("not run", run.key)
    assert absent[["value", "n", "spread", "reference"]].isna().all()
    reference = frame[(frame.row == "Latte") & (frame.metric == "psnr")].iloc[0]
    assert (reference.status, reference.cache) == ("reference", "none")


def test_values_are_in_the_unit_of_their_column(tmp_path):
    recipe = recipes.load_recipe("table8", scale="paper")
    row, _, run = runs.of_recipe(recipe)[0]
    put(tmp_path, run.key, "precision", 0.8, interval=(0.75, 0.85))
    frame = skipdit_cli.frame("table8", results=str(tmp_path), scale="paper")
    found = frame[(frame.row == row.label) & (frame.metric == "precision")].iloc[0]
    shown = (found.value, found.interval_low, found.interval_high)
    assert (found.unit, *shown) == ("%", 80.0, 75.0, 85.0)
    assert found.paper == 82.68


def test_overrides_are_those_of_set():
    frame = skipdit_cli.frame("smoke", overrides=["seed=3"])
    assert set(frame.seed) == {3}


def test_a_folder_has_a_row_for_each_result(tmp_path):
    run = runs.make_run("digits-skip", "skip-cache(n=2)", {"num_samples": 4, "steps": 4})
    open_store(tmp_path, run)._create()
    put(tmp_path, run.key, "ssim", 0.9, spread=0.25, interval=(0.8, 0.95), protocol="VideoSys")
    put(tmp_path, run.key, "latency", 1.5, unit="s")
    put(tmp_path, "0123456789abcdef", "fid@digits", None, status="failed", note="it broke")
    frame = skipdit_cli.frame(tmp_path).set_index("metric")
    assert sorted(frame.index) == ["fid@digits", "latency", "ssim"]
    ssim = frame.loc["ssim"]
    assert (ssim.label, ssim.value, ssim.interval_low, ssim.run) == ("SSIM", 0.9, 0.8, run.key)
    assert (ssim.cache, ssim.steps, ssim.num_samples) == (str(run.cache), "4", 4)
    assert (frame.label["latency"], frame.unit["latency"]) == ("latency", "s")
    failed = frame.loc["fid@digits"]
    assert (failed.status, failed.note) == ("failed", "it broke")
    assert failed[["value", "model", "cache", "seed"]].isna().all()
    assert frame.paper.isna().all()


def test_types_do_not_depend_on_what_is_there(tmp_path):
    put(tmp_path, "0123456789abcdef", "psnr", None, status="failed")
    one = skipdit_cli.frame(tmp_path).dtypes
    other = skipdit_cli.frame("table5", results=tmp_path).dtypes
    assert one.equals(other)
    assert (one["value"], one["n"], one["cache"]) == ("float64", "Int64", "string")


def test_a_row_per_sample_is_its_score_in_the_unit_of_the_column(tmp_path):
    recipe = recipes.load_recipe("table8", scale="paper")
    row, _, run = runs.of_recipe(recipe)[0]
    put(tmp_path, run.key, "precision", 0.5, scores=(0.25, 0.75), interval=(0.25, 0.75))
    put(tmp_path, run.key, "latency", 2.0, scores=(1.0, 3.0))
    put(tmp_path, run.key, "fid", 3.0)
    of_recipe = skipdit_cli.frame("table8", results=tmp_path, scale="paper", per_sample=True)
    found = of_recipe[of_recipe.row == row.label]
    assert [*zip(found.metric, found["sample"], found.value, strict=True)] == [
        ("precision", 0, 25.0),
        ("precision", 1, 75.0),
    ]
    assert found[["n", "interval_low", "paper"]].isna().all().all()
    of_folder = skipdit_cli.frame(tmp_path, per_sample=True)
    assert [*of_folder.value] == [0.25, 0.75]  # no timing, and nothing of a whole set
    assert of_folder.columns[-1] == "sample"
    assert of_folder.dtypes["sample"] == "Int64"


def test_a_sample_has_the_seed_of_its_own(tmp_path):
    run = runs.make_run("digits", settings={"seeds": "4..5", "num_samples": 3})
    with open_store(tmp_path, run).lock():
        put(tmp_path, run.key, "psnr", 2.0, scores=(1.0, 2.0, 3.0))
    assert skipdit_cli.frame(tmp_path).seed.isna().all()
    found = skipdit_cli.frame(tmp_path, per_sample=True)
    assert [*found.seed] == [4, 5, 4]
    assert found.dtypes["seed"] == "Int64"


def test_mistakes(tmp_path):
    with pytest.raises(UsageError, match="there are no results here; make some with"):
        skipdit_cli.frame(tmp_path)
    with pytest.raises(UsageError, match="unknown recipe 'tabel3'; did you mean 'table3'"):
        skipdit_cli.frame("tabel3")
    with pytest.raises(UsageError, match="unknown scale 'tinny'"):
        skipdit_cli.frame("table3", scale="tinny")
    put(tmp_path, "0123456789abcdef", "psnr", 1.0)
    for given in ({"scale": "tiny"}, {"results": tmp_path}, {"overrides": ["seed=1"]}):
        with pytest.raises(UsageError, match="is a results folder, not a recipe"):
            skipdit_cli.frame(tmp_path, **given)


def test_importing_the_package_imports_no_pandas():
    code = "import sys, skipdit_cli; skipdit_cli.frame; print('pandas' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "False\n"

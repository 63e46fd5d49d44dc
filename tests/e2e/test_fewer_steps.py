"""Uncached rows of fewer steps: in a sweep, a plan and a study, unless they are left out."""

import json
import shutil
from pathlib import Path

import pytest

from skipdit_cli import frame
from skipdit_cli.storage import kept
from skipdit_cli.storage.results import RESULT

FEW = "--num-samples 2 --batch-size 2 --repeats 1"
SWEEP = f"cache-sweep --model digits-skip --n 2..3 --window 1000-0 --steps 10 {FEW}"


def labels(lines):
    return [line["cache"] for line in lines]


def test_a_sweep_has_them_scored_and_timed_against_all_steps(whole, table):
    """Of ten steps n=2 and n=3 cost 8."""
    done = whole(SWEEP).ok()
    reference, second, third, fewer = table(done.out)
    assert labels([reference, second, third, fewer]) == [
        "no cache (n=1)",
        "skip-cache n=2",
        "skip-cache n=3",
        "no cache, 8 steps",
    ]
    assert (fewer["full"], fewer["cached"]) == ("8", "0")
    assert fewer["ideal speedup"] == "1.25"
    assert float(fewer["PSNR (dB) ↑"].split()[0]) < 100
    assert "At equal cost an uncached run of fewer steps is better by its mean alone" in done.out
    assert whole("report digits-skip").ok().out == done.out


def test_frame_compare_and_gate_know_their_scores(whole, skipdit, table):
    shown = table(whole(SWEEP.replace("--repeats 1", "--repeats 0")).ok().out)
    psnr = float(shown[3]["PSNR (dB) ↑"].split()[0])

    found = frame("results").query("metric == 'psnr'").set_index(["cache", "steps"])
    assert len(found) == 3  # the uncached run of ten steps is what they are compared with
    fewer = found.loc["none", "8"]
    assert fewer["value"] == pytest.approx(psnr, abs=0.005)
    assert set(found["reference"]) == {fewer["reference"]} != {fewer["run"]}

    shutil.copytree("results", "later")
    path = Path("later") / "scores" / fewer["run"] / "series"
    (path,) = path.glob("*-n2/psnr.json")
    record = json.loads(path.read_text())
    del record["seal"]
    record["value"] -= 1
    record["scores"] = [score - 1 for score in record["scores"]]
    path.write_bytes(kept.sealed_json(record, RESULT, of=f"run {fewer['run']}, psnr"))
    lines = table(skipdit("compare results later --metric psnr").ok().out)
    told = {line["A"]: line["A - B"] for line in lines}
    assert told["results: none, against 10 steps"] == "+1 dB"
    assert sorted(told.values()) == ["+0 dB", "+0 dB", "+1 dB"]
    skipdit("gate --baseline results --candidate later --rule", "psnr >= -0.5 dB").failed(
        5, "none, against 10 steps"
    )


@pytest.mark.slow
def test_what_is_known_of_them_stays_beside_other_studies(whole, skipdit, table):
    """A plain run of 8 steps is a reference, and stays one."""
    done = whole(SWEEP).ok()
    reference, second, third, fewer = table(done.out)
    assert whole(SWEEP).ok().out == done.out
    plain = "cache-sweep --model digits-skip --cache none --steps 8 --name plain"
    assert table(skipdit(f"{plain} {FEW}").ok().out)[0]["PSNR (dB) ↑"] == "reference"
    assert table(whole("report digits-skip").ok().out) == table(done.out)
    assert "done" in skipdit("status digits-skip").ok().out
    left_out = table(skipdit(f"{SWEEP} --name without").ok().out)
    assert labels(left_out) == labels([reference, second, third])
    grown = whole(f"cache-sweep --name without {FEW}").ok()
    assert labels(table(grown.out)) == labels([reference, second, third, fewer])
    assert skipdit("show none --worst 1").code == 0  # of several, what others are compared with


def test_a_plan_has_the_same_rows(whole, skipdit, table):
    asked = "plan --model digits-skip --n 2..3 --window 1000-0 --steps 10"
    shown = table(whole(asked).ok().out)
    assert [line["run"] for line in shown][3:] == ["none, 8 steps"]
    assert shown[3]["ideal speedup"] == "1.250"
    assert len(table(skipdit(asked).ok().out)) == 3
    rows = json.loads(whole(f"{asked} --json").ok().out)["rows"]
    assert [row["run"]["steps"] for row in rows] == ["10", "10", "10", "8"]


@pytest.mark.slow
def test_what_a_dynamic_method_costs_is_known_after_its_first_sweep(whole, table):
    sweep = "cache-sweep --model digits --cache first-block(threshold=0.3) --steps 8"
    done = whole(f"{sweep} --num-samples 2 --batch-size 2 --repeats 0 --metrics psnr")
    assert "the same command adds the uncached rows" in done.err
    assert len(table(done.out)) == 2
    again = whole(f"{sweep} --num-samples 2 --batch-size 2 --repeats 0 --metrics psnr").ok()
    assert labels(table(again.out))[2].startswith("no cache, ")


def test_recipes_have_rows_of_their_own(skipdit, table, tmp_path):
    for command in ("plan smoke", "cache-sweep smoke"):
        skipdit(f"{command} --no-fewer-steps").failed(2, "--no-fewer-steps", "recipe")
    path = tmp_path / "own.yaml"
    path.write_text(
        "title: own\nscales:\n  tiny:\n    groups: {digits: digits}\n"
        "    settings: {num_samples: 2, batch_size: 2, sampler: ddim, steps: '6'}\n"
        "    columns: [{label: PSNR, metric: psnr, group: digits}]\n"
        "rows:\n  - {id: a, label: A, model: '{model}'}\n"
        "  - {id: b, label: B, model: '{model}', settings: {steps: 4, reference_steps: 6}}\n"
    )
    first, second = table(skipdit("cache-sweep", str(path), "--repeats", "0").ok().out)
    assert first["PSNR"] == "reference"
    assert 5 < float(second["PSNR"].split()[0]) < 100

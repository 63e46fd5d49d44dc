"""compare: which of several runs is better, sample by sample."""

import csv
import json
import re
import shutil

import pytest

TWO, THREE = "skip-cache(n=2)", "skip-cache(n=3)"


@pytest.fixture
def root(swept, tmp_path):
    """A copy of what a sweep made: none, n=2 and n=3 of digits-skip, three samples each."""
    shutil.copytree(swept[0], tmp_path / "results")
    return tmp_path / "results"


def test_two_runs_by_their_specs(skipdit, root, table):
    """Of three pairs no sign-flip test is sure: two of eight signs are as far."""
    rows = table(skipdit("compare", TWO, THREE).ok().out)
    assert [row["metric"] for row in rows] == ["psnr", "ssim"]
    psnr = rows[0]
    scores = [
        json.loads(next(root.glob(f"scores/{key}/psnr.json")).read_text())["scores"]
        for key in (psnr_run(root, "n=2"), psnr_run(root, "n=3"))
    ]
    apart = [a - b for a, b in zip(*scores, strict=True)]
    assert float(psnr["A - B"].split()[0]) == pytest.approx(sum(apart) / 3, rel=1e-3)
    assert (psnr["n"], psnr["p"], psnr["better"]) == ("3", "0.25", "cannot be told")
    assert psnr["p (Holm)"] == "0.5"
    assert psnr["A - B"].endswith(" dB")
    low, high = map(float, re.findall(r"[-+][\d.e-]+", psnr["95 % interval"]))
    assert min(apart) - 1e-3 <= low <= sum(apart) / 3 <= high <= max(apart) + 1e-3


def psnr_run(root, interval):
    found = [
        path.parent.name
        for path in (root / "samples").glob("*/run.json")
        if interval in json.loads(path.read_text())["run"]["cache"]
    ]
    assert len(found) == 1
    return found[0]


def test_json_and_folders(skipdit, root, tmp_path):
    """A folder beside its copy: no run differs from itself."""
    shutil.copytree(root, tmp_path / "other")
    records = json.loads(skipdit("compare results other --metric psnr --json").ok().out)
    assert [record["difference"]["mean"] for record in records] == [0, 0]
    assert {record["difference"]["p"] for record in records} == {1.0}
    assert {record["difference"]["n"] for record in records} == {3}
    every = json.loads(skipdit("compare results other --json").ok().out)
    assert {record["metric"] for record in every} == {"psnr", "ssim"}  # no timing among them


def test_runs_of_fewer_steps_are_compared_with_the_same_reference(skipdit, whole, tmp_path, table):
    """As the table of the sweep does; `show` and `export` know their scores as well."""
    sweep = "cache-sweep --model digits-skip --n 2 --steps 8 --num-samples 3 --batch-size 3"
    lines = table(whole(f"{sweep} --repeats 0 --results r").ok().out)
    psnr = {line["cache"]: line["PSNR (dB) ↑"].partition(" ")[0] for line in lines}
    assert [*psnr] == ["no cache (n=1)", "skip-cache n=2", "no cache, 7 steps"]
    (line,) = json.loads(
        skipdit("compare --study digits-skip --results r --metric psnr --json").ok().out
    )
    assert line["second"] == "none, 7 steps"
    assert [f"{mean:.2f}" for mean in line["means"]] == [*psnr.values()][1:]

    runs = json.loads(skipdit("ls runs --results r --json").ok().out)
    key = {run["run"]["steps"]: run["key"] for run in runs if run["cache"] == "none"}
    assert {"psnr", "ssim"} <= {*next(run for run in runs if run["key"] == key["7"])["scored"]}
    (named,) = json.loads(
        skipdit(f"compare {TWO} {key['7']} --results r --metric psnr --json").ok().out
    )
    assert named["means"] == line["means"]
    for others in (f"{TWO} none", f"{key['7']} none {TWO}"):
        told = skipdit(f"compare {others} --results r --metric psnr")
        told.failed(2, "none cannot be compared in psnr: what the other runs are compared with")

    shown = json.loads(skipdit(f"show {key['7']} --results r --json").ok().out)
    scores = {each["metric"]: each for each in shown["scores"]}
    assert scores["psnr"]["value"] == line["means"][1]
    assert scores["psnr"]["reference"] == shown["reference"] == key["8"]
    assert shown["again"].endswith(" --results r")
    skipdit(f"export {key['7']} --results r --out given").ok()
    manifest = csv.DictReader((tmp_path / "given" / "manifest.csv").read_text().splitlines())
    assert [float(each["psnr"]) for each in manifest] == scores["psnr"]["scores"]
    skipdit(f"rm {key['8']} --results r").failed(2, f"{key['7'][:8]} (none)", "compared with")


def test_a_study_of_one_run_beside_its_reference(skipdit, root):
    skipdit("cache-sweep --model digits-skip --n 2 --steps 4 --num-samples 1 --repeats 0").ok()
    skipdit("compare --study digits-skip-2").failed(2, "there is one run beside the reference")


def test_what_cannot_be_compared(skipdit, root):
    skipdit("compare", TWO).failed(2, "skipdit compare: there is nothing to compare with")
    skipdit("compare results nowhere").failed(2, "skipdit compare: nowhere is no folder; name two")
    skipdit("compare", TWO, TWO).failed(2, "skipdit compare: all of them are one run; name two")
    skipdit("compare", TWO, "fora(n=9)").failed(2, "results: no run of fora(n=9) is here; name one")
    skipdit("compare", TWO, THREE, "--metric", "fid@digits").failed(
        2, "--metric: fid@digits scores a set as a whole"
    )
    skipdit("compare", "none", TWO).failed(2, "none cannot be compared in psnr: ")


@pytest.mark.slow
def test_pairs_tell_apart_what_two_means_cannot(skipdit, table):
    """Which of two layers the branch is at; by 20 samples each, unpaired p is 0.55."""
    given = "--model captioned-digits-skip --num-samples 20"
    caches = [f"skip-cache(n=2,window=1000-0,branch={branch})" for branch in (1, 2)]
    for cache in ("none", *caches):
        skipdit(*f"sample {given}".split(), "--cache", cache).ok()
    psnr, _ = table(skipdit("compare", *caches).ok().out)
    assert psnr["better"] == "B"
    assert 0.003 < float(psnr["p"]) < 0.008  # 0.0045 by a paired t-test
    assert float(psnr["A - B"].split()[0]) == pytest.approx(-0.31, abs=0.05)

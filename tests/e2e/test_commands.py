"""plan, sample, evaluate, report, recipes, profile, train and doctor, as a user runs them."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit_cli.checkpoints import local
from skipdit_cli.embedded import shipped
from skipdit_cli.generate import batch as generating
from skipdit_cli.generate import decode

FEW = "--num-samples 2 --batch-size 2 --steps 3"


def test_plan_of_a_full_size_model_needs_no_weights(skipdit, table):
    shown = skipdit("plan --model ucf101-skip --n 2..6").ok().out
    assert shown.startswith("ucf101-skip: ddim 50, guidance 7.0, batch 4\n")
    lines = table(shown)
    assert [line["run"] for line in lines] == [
        "none",
        *(f"skip-cache(n={n},window=900-50,branch=1)" for n in (2, 3, 4, 5, 6)),
    ]
    assert [line["full"] for line in lines] == ["50", "28", "21", "17", "16", "14"]
    assert all(int(line["full"]) + int(line["cached"]) == 50 for line in lines)
    ideal = [float(line["ideal speedup"]) for line in lines]
    assert ideal == sorted(ideal)
    assert ideal[0] == 1
    for line in lines:
        assert (
            "weights, vae: skipdit download ucf101-skip --accept-license (about 3.11 GB)"
            in line["missing"]
        )
        assert "samples: 16 of 16" in line["missing"]


@pytest.mark.slow
def test_plan_of_a_table_beside_the_paper(skipdit, table):
    shown = skipdit("plan table1 --scale paper").ok().out
    lines = {line["run"]: line for line in table(shown)}
    published = {
        "Latte": 278.63,
        "Delta-DiT": 226.10,
        "FORA": 240.26,
        "PAB23": 233.87,
        "PAB35": 222.90,
        "Skip-DiT": 290.05,
        "Skip-Cache n=2": 180.68,
        "Skip-Cache n=3": 145.87,
        "Skip-Cache n=4": 125.99,
        "Skip-Cache n=5": 121.02,
        "Skip-Cache n=6": 111.07,
    }
    for name, value in published.items():
        assert lines[name]["published"] == f"{value:.2f}"
        assert float(lines[name]["MACs"].removesuffix(" T")) == pytest.approx(value, rel=5e-4)
        assert abs(float(lines[name]["difference"].removesuffix(" %"))) <= 0.05
    assert list(lines) == ["Latte", "Delta-DiT", "Delta-DiT (Table 9)", *list(published)[2:]]
    assert lines["Delta-DiT (Table 9)"]["published"] == ""

    rows = json.loads(skipdit("plan table1 --scale paper --json").ok().out)["rows"]
    rows = [row for row in rows if row["published_macs_t"] is not None]
    assert [row["published_macs_t"] for row in rows] == list(published.values())
    for row in rows:
        assert row["macs_paper"] / 1e12 == pytest.approx(row["published_macs_t"], rel=5e-4)
        assert row["run"]["weights"] == "absent"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "published", "disk"),
    [
        (
            "table3",
            {"Latte": 1587.25, "Skip-DiT": 1648.13, "Skip-Cache n=2, 700-50": 1127.83},
            "62.80 GB",  # 4720 clips of 16 x 512 x 512: 59.39, previews 2.47, embeddings 0.93
        ),
        (
            "table4",
            {"HunYuan-DiT": 514.02, "Skip-Cache n=2": 348.24},
            "130.93 GB",  # 30000 images: 94.37, features 0.25, embeddings 36.31
        ),
    ],
)
def test_plan_of_a_table_of_text(skipdit, table, recipe, published, disk):
    shown = skipdit(f"plan {recipe} --scale paper").ok().out
    lines = {line["run"]: line for line in table(shown)}
    for name, value in published.items():
        assert lines[name]["published"] == f"{value:.2f}"
        assert abs(float(lines[name]["difference"].removesuffix(" %"))) <= 0.05
        assert "skipdit download " in lines[name]["missing"]
        assert lines[name]["disk"] == disk


def test_plan_of_a_recipe_as_files(skipdit, table, tmp_path):
    done = skipdit("plan smoke --scale tiny --out", tmp_path / "new").ok()
    assert done.err.splitlines() == [f"wrote {tmp_path}/new/smoke.{end}" for end in ("md", "csv")]
    shown = [(line["run"], line["full"], line["cached"]) for line in table(done.out)]
    written = table((tmp_path / "new" / "smoke.md").read_text(encoding="utf-8"))
    assert [(line["row"], line["full"], line["cached"]) for line in written] == shown
    skipdit("plan --model digits --out", tmp_path).failed(2, "--out is for recipes")


def test_plan_of_an_embedded_model(skipdit):
    cache = "skip-cache(n=2,window=1000-20,branch=1)"
    rows = json.loads(
        skipdit(f"plan --model digits-skip --cache {cache} --steps 10 --json").ok().out
    )["rows"]
    assert [row["run"]["cache"] for row in rows] == ["none", cache]
    assert [(row["full_steps"], row["cached_steps"]) for row in rows] == [(10, 0), (5, 5)]
    assert [row["missing"] for row in rows] == [["samples: 16 of 16"]] * 2
    assert len({row["key"] for row in rows}) == 2


def test_settings_change_the_plan_of_a_recipe(skipdit, table):
    shown = table(skipdit("plan smoke --scale tiny").ok().out)
    fewer = table(skipdit("plan smoke --scale tiny --steps 6").ok().out)
    assert fewer == table(skipdit("plan smoke --scale tiny --set steps=6").ok().out)
    assert [line["full"] for line in shown] == ["12", "7", "5"]
    assert fewer[0]["full"] == "6"


def test_sample(skipdit, tmp_path, samples):
    given = f"sample --model digits {FEW} --classes 3,5"
    done = skipdit(given).ok()
    (folder,) = (tmp_path / "results" / "samples").iterdir()
    assert done.out == f"2 samples of run {folder.name} in results/samples/{folder.name}\n"
    with Image.open(folder / "000001.png") as picture:
        assert (picture.size, picture.mode) == ((16, 16), "RGB")
        assert len(np.unique(picture)) > 4
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [line["meta"]["class"] for line in lines] == [3, 5]

    before = samples(tmp_path / "results")
    content = json.loads(skipdit(f"{given} --json").ok().out)
    assert content["key"] == folder.name
    assert content["run"]["classes"] == [3, 5]
    assert samples(tmp_path / "results") == before  # one folder, the same two
    for other in ("--seed 1", "--cache skip-cache(n=1)"):
        skipdit(f"{given.replace('digits ', 'digits-skip ')} {other}").ok()
    assert len(samples(tmp_path / "results")) == 6


def test_sample_prompts(skipdit, tmp_path, samples):
    """Named on the command line or in a file, in turn, and kept with the samples."""
    given = f"sample --model painted-digits {FEW}"
    done = skipdit(given, "--prompt", "a three", "--prompt", "The digit NINE").ok()
    estimated, *stages = done.err.splitlines()
    assert estimated.startswith("estimate: ")
    assert stages == ["encoding the prompts of painted-digits", "sampling painted-digits, none"]
    (folder,) = (tmp_path / "results" / "samples").iterdir()
    lines = [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]
    assert [line["meta"] for line in lines] == [{"prompt": "a three"}, {"prompt": "The digit NINE"}]
    assert len({(folder / name).read_bytes() for name in ("000000.png", "000001.png")}) == 2

    (tmp_path / "mine.txt").write_text("a three\n\n# nine is next\nThe digit NINE\n")
    content = json.loads(skipdit(f"{given} --prompts mine.txt --json").ok().out)
    assert content["key"] == folder.name  # the same prompts, wherever they come from
    before = samples(tmp_path / "results")
    content = json.loads(skipdit(f"{given} --json", "--prompt", "a three").ok().out)
    assert content["run"]["prompts"] == ["a three"]
    assert content["key"] != folder.name
    assert samples(tmp_path / "results").items() > before.items()


@pytest.mark.parametrize("model", ["moving-digits-skip", "captioned-digits"])
def test_sample_a_clip(skipdit, tmp_path, model):
    skipdit(f"sample --model {model} --num-samples 1 --batch-size 1 --steps 3").ok()
    (folder,) = (tmp_path / "results" / "samples").iterdir()
    assert (folder / "000000.mkv").is_file()
    assert (folder / "previews" / "000000.mp4").is_file()


@pytest.fixture
def copy(swept, tmp_path):
    """The results of a sweep of three samples, to be changed: its folder and its run keys."""
    root = shutil.copytree(swept[0], tmp_path / "results")
    runs = {}
    for path in root.glob("samples/*/run.json"):
        cache = json.loads(path.read_text())["run"]["cache"]
        runs[cache.partition(",")[0]] = path.parent.name
    return root, runs


def test_evaluate_a_run(skipdit, copy, table):
    root, runs = copy
    key = runs["skip-cache(n=2"]
    kept = json.loads((root / "scores" / key / "psnr.json").read_text())
    shutil.rmtree(root / "scores")
    lines = table(skipdit(f"evaluate {key[:8]}").ok().out)
    assert [line["metric"] for line in lines] == ["accuracy@digits", "fid@digits", "psnr", "ssim"]
    assert {line["run"] for line in lines} == {key}
    assert {line["n"] for line in lines} == {"3"}
    again = json.loads(skipdit(f"evaluate {key} --metrics psnr --json").ok().out)
    assert [result["value"] for result in again] == [kept["value"]]
    assert again[0]["reference"] == runs["none"]
    assert (root / "scores" / key / "psnr.json").is_file()


def test_evaluate_a_run_that_lacks_samples(skipdit, copy):
    root, runs = copy
    folder = root / "samples" / runs["skip-cache(n=2"]
    (folder / "000001.png").unlink()
    done = skipdit(f"evaluate {folder.name}").failed(
        3, f"results/samples/{folder.name}: missing sample 1 (1 of 3)", "run `skipdit cache-sweep "
    )
    assert done.out == ""


def test_evaluate_a_run_whose_reference_lacks_samples(skipdit, copy, table):
    root, runs = copy
    (root / "samples" / runs["none"] / "000002.png").unlink()
    done = skipdit(f"evaluate {runs['skip-cache(n=2']}").failed(
        3, runs["none"], "the uncached reference is not complete: missing sample 2", "--cache none"
    )
    # what needs no reference is scored all the same
    assert [line["metric"] for line in table(done.out)] == ["accuracy@digits", "fid@digits"]


def test_evaluate_a_key_that_is_ambiguous(skipdit, copy):
    root, runs = copy
    for name in ("0" * 15, "0" * 16):
        shutil.copytree(root / "samples" / runs["none"], root / "samples" / f"{name}1")
    skipdit("evaluate", "0" * 15).failed(2, f"run '{'0' * 15}' is ambiguous", f"{'0' * 15}1")


@pytest.fixture(scope="module")
def smoke(skipdit, tmp_path_factory):
    """A results folder after the smoke recipe, and how the command ended. Not to be changed."""
    root = tmp_path_factory.mktemp("smoke") / "results"
    return root, skipdit("cache-sweep --recipe smoke --scale tiny --repeats 1 --results", root)


def test_a_recipe(smoke, table):
    root, done = smoke
    lines = table(done.ok().out)
    assert [line["method"] for line in lines] == ["Skip-DiT", "Skip-Cache n=2", "Skip-Cache n=3"]
    assert list(lines[0])[1:] == [
        "MACs (G)",
        "Latency (s) ↓",
        "Speedup ↑",
        "PSNR (dB) ↑",
        "SSIM ↑",
    ]
    assert lines[0]["PSNR (dB) ↑"].startswith("reference")
    assert all(0 < float(line["PSNR (dB) ↑"].split()[0]) <= 100 for line in lines[1:])
    macs = [float(line["MACs (G)"]) for line in lines]
    assert macs == sorted(macs, reverse=True)
    tables = {f"smoke.{each}" for each in ("md", "csv", "tex", "html")}
    names = {*tables, "smoke-psnr-speedup.png", "smoke-samples.png"}
    assert {path.name for path in (root / "tiny").iterdir()} == names
    assert {path.name for path in root.iterdir()} == {"samples", "scores", "tiny"}


def test_figures_of_a_recipe_and_of_a_sweep(skipdit, smoke, swept, tmp_path):
    for kept, to in ((smoke[0], tmp_path / "smoke"), (swept[0], tmp_path / "swept")):
        shutil.copytree(kept, to)
    done = skipdit("report smoke --scale tiny --figure svg --width page --results smoke").ok()
    plots = ("psnr-speedup", "ssim-speedup", "errors")
    figures = [f"smoke/tiny/smoke-{each}.svg" for each in plots]
    assert done.err.splitlines()[-3:] == [f"wrote {each}" for each in figures]
    assert all('width="504pt"' in (tmp_path / each).read_text() for each in figures)
    sweep = "cache-sweep --model digits-skip --n 2..3 --steps 6 --num-samples 3 --batch-size 2"
    skipdit(f"{sweep} --repeats 1 --figure svg --results swept").ok()
    folder = tmp_path / "swept" / "sweeps" / "digits-skip"
    assert {path.name for path in folder.glob("*.svg")} == {
        *(f"sweep-{each}.svg" for each in plots),
        "sweep-accuracy-digits-speedup.svg",
    }
    assert all('width="241.2pt"' in path.read_text() for path in folder.glob("*.svg"))
    assert (folder / "sweep-psnr-speedup.png").is_file()
    skipdit("report digits-skip --format md --figure pdf --results swept").ok()
    assert len([*folder.glob("*.pdf")]) == 4
    key = next((tmp_path / "swept" / "samples").iterdir()).name
    skipdit(f"report --runs {key} --figure pdf --results swept").failed(
        2, "--figure: a file needs a name; give --name as well"
    )


def test_a_recipe_says_which_scale_it_took(skipdit, monkeypatch):
    done = skipdit("report smoke").ok()
    assert done.err.startswith("scale tiny: the weights of taichi-skip are not here; --scale paper")
    assert "Skip-DiT" in done.out


def test_report_after_a_recipe_is_its_table(skipdit, smoke, table):
    root, done = smoke
    reported = skipdit("report smoke --scale tiny --results", root).ok()
    assert table(reported.out) == table(done.out)
    assert f"wrote {root}/tiny/smoke.csv" in reported.err


def test_report_as_a_page_and_for_a_paper(skipdit, smoke):
    root, _ = smoke
    done = skipdit("report smoke --scale tiny --format html,tex --results", root).ok()
    assert f"wrote {root}/tiny/smoke.tex" in done.err
    page = (root / "tiny" / "smoke.html").read_text()
    assert page.count("data:video/mp4;base64,") >= 3
    assert "No samples" not in page


@pytest.mark.slow
def test_a_run_out_of_memory_keeps_its_row_and_reason(skipdit, monkeypatch, table):
    """In the sweep's table, in a later report, and until the same command finds the memory."""
    compute = generating._files

    def lack(run, *given, **others):
        if str(run.cache).startswith("skip-cache(n=3"):
            raise torch.OutOfMemoryError("CUDA out of memory")
        return compute(run, *given, **others)

    sweep = f"cache-sweep --recipe smoke --scale tiny --repeats 0 {FEW}"
    report = "report smoke --scale tiny --set num_samples=2 --set batch_size=2 --set steps=3"
    reason = "out of memory at batch size 2; take a smaller --batch-size"
    with monkeypatch.context() as patch:
        patch.setattr(generating, "_files", lack)
        made = skipdit(sweep).failed(3, "1 of 3 runs failed, first skip-cache(n=3", reason)
    reported = skipdit(report).ok()
    for done in (made, reported):
        second, third = table(done.out)[1:]
        assert third["method"] == "Skip-Cache n=3"
        assert third["PSNR (dB) ↑"].split(" [")[0] == "failed"
        assert float(next(third[name] for name in third if name.startswith("MACs ("))) > 0
        assert float(second["PSNR (dB) ↑"].split()[0]) > 0
        assert reason in done.out
    skipdit(sweep).ok()
    done = skipdit(report).ok()
    assert float(table(done.out)[2]["PSNR (dB) ↑"].split()[0]) > 0
    assert reason not in done.out


@pytest.mark.slow
def test_a_lack_of_memory_while_timing_keeps_the_scores(skipdit, monkeypatch, table):
    def lack(*_, **__):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr("skipdit_cli.score.body.loop_of", lack)
    how = f"cache-sweep --recipe smoke --scale tiny --repeats 1 {FEW}"
    done = skipdit(how).failed(3, "cells failed, first Skip-DiT, Latency (out of memory")
    lines = table(done.out)
    assert {line["Latency (s) ↓"].split(" [")[0] for line in lines} == {"failed"}
    assert float(lines[1]["PSNR (dB) ↑"].split()[0]) > 0


def test_evaluate_a_recipe(skipdit, smoke, table):
    root, _ = smoke
    lines = table(skipdit("evaluate smoke --scale tiny --results", root).ok().out)
    assert [line["metric"] for line in lines] == ["psnr", "ssim"] * 3
    assert [line["value"].split(":")[0] for line in lines[:2]] == ["reference"] * 2
    more = skipdit(
        "evaluate smoke --scale tiny --metrics fvd@digits,accuracy@digits --results", root
    )
    values = [float(line["value"]) for line in table(more.ok().out)]
    assert len(values) == 6
    assert min(values) >= 0


def test_evaluate_a_recipe_that_was_not_run(skipdit, tmp_path):
    """One line, however many runs and metrics, with the command that makes them."""
    done = skipdit("evaluate smoke --scale tiny")
    done.failed(
        3,
        "skipdit: smoke: 3 of 3 runs lack samples, first results/samples/",
        "(missing samples 0, 1 (2 of 2)); `skipdit cache-sweep smoke`, with the same settings",
    )
    assert done.out == ""


@pytest.mark.slow
def test_another_number_of_samples_of_a_recipe(skipdit, smoke, tmp_path):
    """--set and the option of that name mean the same, and reach every run."""
    root = shutil.copytree(smoke[0], tmp_path / "results")
    evaluate = "evaluate smoke --scale tiny --set num_samples=3"
    skipdit(evaluate).failed(3, "3 of 3 runs lack samples, first ", "(missing sample 2 (1 of 3))")
    skipdit("cache-sweep --recipe smoke --scale tiny --num-samples 3 --repeats 0").ok()
    assert len(list(root.glob("samples/*/000002.mkv"))) == 3
    skipdit(evaluate).ok()


def test_a_score_that_fails_leaves_the_others_and_its_reason(
    skipdit, smoke, table, tmp_path, monkeypatch
):
    def lacking(reference, sample):
        raise MemoryError

    root = shutil.copytree(smoke[0], tmp_path / "results")
    for kept in (root / "scores", *root.glob("samples/*/features")):
        shutil.rmtree(kept)
    monkeypatch.setattr("skipdit_cli.metrics.ssim.score", lacking)
    done = skipdit("evaluate smoke --scale tiny")
    assert done.code == 1
    told = ["skipdit: out of memory while scoring; score with `skipdit evaluate "] * 2
    assert [remark[: len(told[0])] for remark in done.remarks] == told  # for each of two runs
    values = {line["metric"]: line["value"] for line in table(done.out) if line["cache"] != "none"}
    assert values["ssim"].startswith("failed [")
    assert float(values["psnr"].split()[0]) > 0
    done = skipdit("report smoke --scale tiny").ok()
    assert table(done.out)[1]["SSIM ↑"].startswith("failed [")
    assert ". out of memory while scoring; score with" in done.out


def test_a_recipe_of_ones_own(skipdit, tmp_path, table):
    (tmp_path / "mine.yaml").write_text(
        """
title: "My caches"
scales:
  tiny: &scale
    groups: {digits: digits}
    settings: {num_samples: 1, batch_size: 1, steps: 4}
    columns: [{label: PSNR, metric: psnr, group: digits}, {label: Cost, metric: macs, unit: M}]
  paper: *scale
rows:
  - {id: a, label: whole, model: "{model}-skip"}
  - {id: b, label: mine, model: "{model}-skip", cache: "skip-cache(n=4,branch=1)"}
  - {id: c, label: later, planned: no such method yet}
"""
    )
    done = skipdit("cache-sweep --recipe mine.yaml --scale tiny").ok()
    assert not list((tmp_path / "results" / "scores").rglob("latency.json"))  # has no such column
    lines = table(done.out)
    assert [line["method"] for line in lines] == ["whole", "mine", "later"]
    assert lines[2]["PSNR"].startswith("planned")
    assert (tmp_path / "results" / "tiny" / "mine.md").is_file()


def test_report_with_nothing_on_disk(skipdit, table, tmp_path):
    lines = {line["method"]: line for line in table(skipdit("report table1 --scale tiny").ok().out)}
    assert lines["Skip-Cache n=2"]["FVD@digits ↓"] == "not run"
    assert lines["FORA"]["FVD@digits ↓"] == "not run"
    assert lines["Skip-DiT"]["PSNR (dB) ↑"].startswith("reference")
    assert lines["Skip-Cache n=2"]["FLOPs (G)"] == "9.03"
    assert lines["Skip-Cache n=2"]["Share of FLOPs (%)"] == "70.9"

    skipdit("report table3 --scale tiny --format html,tex").ok()
    page = (tmp_path / "results" / "tiny" / "table3.html").read_text()
    assert "No samples of these runs are on disk" in page
    assert r"\begin{tabular}" in (tmp_path / "results" / "tiny" / "table3.tex").read_text()

    done = skipdit("report table1 --scale paper --format md").ok()
    lines = {line["method"]: line for line in table(done.out)}
    own = lines["Skip-Cache n=2"]
    assert own["FLOPs (T)"].startswith("180.68 / 180.68 (0.00) match")
    assert own["UCF101 FVD ↓"].startswith("141.42 / – needs weights")
    assert "needs weights" in own["Latency (s) ↓"]
    assert lines["FORA"]["FLOPs (T)"].startswith("240.26 / 240.28 (+0.02) match")
    assert (
        "`skipdit download taichi-skip --accept-license` (about 2.77 GB, and 335.0 MB of vae)"
        in done.out
    )
    assert [path.name for path in (tmp_path / "results" / "paper").iterdir()] == ["table1.md"]


@pytest.mark.few(1)
@pytest.mark.parametrize("model", ["digits-skip", "painted-digits", "fashion-skip"])
def test_profile(skipdit, table, tmp_path, model):
    given = f"profile --n 2,3 --weights random --steps 4 --batch-size 1 --repeats 1 --model {model}"
    done = skipdit(given).ok()
    lines = table(done.out)
    assert f"# {model} (random weights): batch 1, float32, cpu" in done.out
    assert [line["cache"] for line in lines] == [
        "no cache (n=1)",
        "skip-cache n=2",
        "skip-cache n=3",
    ]
    assert all(float(line["latency of batch 1 (s) ↓"]) > 0 for line in lines)
    assert lines[0]["speedup ↑"] == "1.00"
    assert "the samples and their scores mean nothing" in done.out
    if model == "digits-skip":
        records = json.loads(skipdit(f"{given} --json").ok().out)
        assert [record["speedup"]["n"] for record in records] == [1, 1, 1]


@pytest.mark.slow
def test_profile_keeps_what_a_sweep_can_use(skipdit, tmp_path):
    given = "--model digits-skip --n 2 --steps 4 --batch-size 2 --repeats 1"
    skipdit(f"profile {given}").ok()
    assert len(list((tmp_path / "results" / "scores").glob("*/latency.json"))) == 2
    done = skipdit(f"cache-sweep {given} --num-samples 2").ok()
    assert "timing" not in done.err


def test_doctor(skipdit, table):
    lines = {line["check"]: line for line in table(skipdit("doctor").ok().out)}
    assert all(lines[name][""] for name in ("skipdit", "python", "torch", "diffusers"))
    assert "M parameters" in lines["moving-digits-skip"][""]
    absent = "denoiser, vae absent: skipdit download ucf101-skip --accept-license (about 3.11 GB)"
    assert lines["ucf101-skip"][""] == absent
    checks = {check["check"]: check for check in json.loads(skipdit("doctor --json").ok().out)}
    assert list(checks) == list(lines)
    assert {checks[name]["state"] for name in ("torch", "digits", "results folder")} == {"ok"}
    assert checks["ucf101-skip"]["state"] == "absent"
    assert checks["recipe table1"]["state"] == "tiny only"


def test_doctor_finds_what_is_broken(skipdit, tmp_path, monkeypatch):
    embedded = shutil.copytree(shipped.embedded(), tmp_path / "embedded")
    path = embedded / "digits" / local.WEIGHTS_FILE
    path.write_bytes(path.read_bytes()[:1000])
    (embedded / "digits-skip" / local.WEIGHTS_FILE).unlink()
    monkeypatch.setattr(shipped, "embedded", lambda: embedded)
    (tmp_path / "file").write_text("")
    done = skipdit("doctor --json --results file")
    done.failed(1, "3 checks failed: digits, digits-skip, results folder")
    checks = {check["check"]: check for check in json.loads(done.out)}
    assert "truncated" in checks["digits"]["detail"]
    assert "not here" in checks["digits-skip"]["detail"]
    assert "a file is where a folder should be" in checks["results folder"]["detail"]
    assert checks["moving-digits"]["state"] == "ok"


def test_black_samples_of_a_sweep_are_told(skipdit, monkeypatch):
    to_pixels = decode.to_pixels

    def darken(*given, **others):
        pixels = to_pixels(*given, **others)
        pixels[1] = 0
        return pixels

    monkeypatch.setattr(decode, "to_pixels", darken)
    how = "--model digits-skip --n 2 --num-samples 3 --batch-size 3 --steps 2"
    made = skipdit(f"cache-sweep {how} --metrics psnr --repeats 0")
    (key,) = [
        path.parent.name
        for path in Path("results").glob("samples/*/run.json")
        if json.loads(path.read_text())["run"]["cache"] != "none"
    ]
    told = (
        "1 of 3 samples of digits-skip, skip-cache(n=2,window=1000-20,branch=2) are black, first 1 "
        f"({key}); --precision float32 may cure that"
    )
    assert made.code == 0
    assert told in made.remarks
    assert told in skipdit(f"evaluate {key} --metrics accuracy@digits").remarks

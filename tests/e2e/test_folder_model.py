"""A model in a folder of one's own: `--model PATH`, what commands say of it and leave behind."""

import json
import shutil
from pathlib import Path

import pytest

from skipdit_cli.checkpoints import folder, local
from skipdit_cli.checkpoints.catalog import CARDS

MINE = "trained/mine"
FEW = "--steps 4 --num-samples 2 --batch-size 2"
SWEEP = f"cache-sweep --model {MINE} --n 2 {FEW} --repeats 0"
RECIPE = """
title: "Of my own"
scales:
  tiny:
    groups: {own: trained/mine}
    settings: {num_samples: 2, batch_size: 2, steps: 4}
    columns:
      - {label: PSNR, metric: psnr, group: own, better: higher}
rows:
  - {id: plain, label: Uncached, model: "{model}"}
  - {id: cached, label: Cached, model: "{model}", cache: skip-cache(n=2)}
"""


def made(at: str = MINE, name: str = "digits-skip", **fields: object) -> Path:
    """A folder with an embedded model; fields stand in place of those of its card."""
    source, target = local.weights_file(CARDS[name]).parent, Path(at)
    target.mkdir(parents=True)
    for file in (folder.CONFIG, local.WEIGHTS_FILE):
        shutil.copy(source / file, target / file)
    folder.write(target, CARDS[name])
    card = target / folder.CARD
    card.write_text(json.dumps(json.loads(card.read_text()) | fields))
    return target


def pixels(samples, root: str) -> list[bytes]:
    return sorted(samples(Path(root)).values())


@pytest.mark.few(1)
@pytest.mark.parametrize("name", ["digits-skip", "captioned-digits-skip", "fashion-skip"])
def test_its_samples_are_those_of_the_model_it_is_a_copy_of(skipdit, samples, name):
    made(name=name)
    told = skipdit(f"sample --model {MINE}/ {FEW} --seed 3 --results mine --json").ok().out
    skipdit(f"sample --model {name} {FEW} --seed 3 --results known").ok()
    assert len(pixels(samples, "known")) == 2
    assert pixels(samples, "mine") == pixels(samples, "known")
    assert json.loads(told)["run"]["model"] == MINE


def test_a_sweep(skipdit, table):
    made()
    done = skipdit(SWEEP).ok()
    assert "Embedded model" not in done.out
    first, second = table(done.out)
    assert (first["cache"], second["cache"]) == ("no cache (n=1)", "skip-cache n=2")
    assert float(second["PSNR (dB) ↑"].split(" ± ")[0].strip("*")) > 10
    assert second["Accuracy@digits ↑"] != ""
    (study,) = Path("results/sweeps").iterdir()
    assert study.name.startswith("mine-")
    records = json.loads(skipdit(f"{SWEEP} --json").ok().out)
    assert {each["model"] for each in records["rows"]} == {MINE}
    assert "tiny scale" not in json.dumps(records)


@pytest.mark.slow
def test_a_sweep_on_two_processes(skipdit, table, samples):
    made()
    apart = skipdit(f"{SWEEP} --workers 2").ok()
    alone = skipdit(f"{SWEEP} --results alone").ok()
    assert pixels(samples, "results") == pixels(samples, "alone")
    assert table(apart.out) == table(alone.out)


def test_runs_are_found_by_their_model_however_it_is_written(skipdit, table):
    made()
    for model in (MINE, "digits-skip"):
        skipdit(f"sample --model {model} {FEW}").ok()
    listed = table(skipdit(f"ls runs --model ./{MINE}/").ok().out)
    assert [line["model"] for line in listed] == [MINE]
    key = listed[0]["key"]
    told = skipdit("show", key, "--model", Path(MINE)).ok().out
    assert f"skipdit sample --model {MINE}" in told
    skipdit("report --runs", key, "--name", "again").ok()
    skipdit("evaluate", key, "--metrics", "accuracy@digits,fid@digits").ok()
    skipdit(f"rm --model ./{MINE} --yes").ok()
    assert [line["model"] for line in table(skipdit("ls runs").ok().out)] == ["digits-skip"]


def test_a_recipe_of_it(skipdit, table):
    made()
    Path("own.yaml").write_text(RECIPE)
    done = skipdit("cache-sweep own.yaml").ok()
    assert done.out.startswith("# Of my own\n")  # no scale says anything about it
    assert "embedded" not in done.out
    assert float(table(done.out)[1]["PSNR ↑"].split(" ± ")[0].strip("*")) > 10
    Path("own.yaml").write_text(RECIPE.replace("trained/mine", "trained/none"))
    skipdit("plan own.yaml").failed(2, "scales.tiny.groups.own", "no folder trained/none")


def test_an_analysis_of_two_of_one_name(skipdit):
    made()
    made("../mine", "digits")
    line = "analyze similarity --steps 3 --num-samples 1 --model ../mine --model"
    skipdit(line, MINE).ok()
    (place,) = (path for path in Path("results/analysis").iterdir() if path.name != "parts")
    assert sorted(Path("results/analysis").rglob("similarity.json")) == [place / "similarity.json"]
    assert place.name.count("mine-") == 2
    shutil.rmtree("../mine")


def test_a_calibration_lies_beside_its_weights(skipdit):
    made()
    cached = f"sample --model {MINE} {FEW} --steps 8 --cache teacache(threshold=0.2)"
    skipdit(cached).failed(4, "not been calibrated", f"--model {MINE} --method teacache")
    skipdit(f"analyze calibrate --model {MINE} --method teacache --steps 8 --num-samples 2").ok()
    assert Path(MINE, "teacache-ddim-8.json").is_file()
    skipdit(cached).ok()
    Path(MINE).rename("moved")
    skipdit(cached.replace(MINE, "moved")).ok()
    card = Path("moved/card.json")
    card.write_text(card.read_text().replace('"epsilon"', '"v_prediction"'))
    skipdit(cached.replace(MINE, "moved")).failed(2, "was calibrated on the weights")


def test_data_that_is_not_known(skipdit, table):
    made(data="")
    done = skipdit(SWEEP).ok()
    assert "Accuracy@digits" not in done.out
    assert "PSNR" in done.out
    skipdit(f"{SWEEP} --metrics fid@digits").failed(2, "fid@digits cannot score", "take one of")
    (key,) = (line["key"] for line in table(skipdit("ls runs").ok().out) if "n=2" in line["cache"])
    skipdit("evaluate", key).ok()


def test_plan_and_profile(skipdit, table):
    made()
    planned = table(skipdit(f"plan --model {MINE} --n 2 {FEW}").ok().out)
    known = table(skipdit(f"plan --model digits-skip --n 2 {FEW}").ok().out)
    assert [line["FLOPs"] for line in planned] == [line["FLOPs"] for line in known]
    timed = skipdit(f"profile --model {MINE} --steps 3 --batch-size 2 --repeats 1").ok().out
    assert "1.00" in timed
    assert "tiny" not in timed


def test_no_card_and_no_weights(skipdit):
    made()
    Path(MINE, local.WEIGHTS_FILE).unlink()
    line = f"cache-sweep --n 2 {FEW} --model"
    skipdit(line, MINE).failed(4, f"the weights of {MINE} are not here", "--weights")
    assert f"there is no {MINE}/{local.WEIGHTS_FILE}" in skipdit(f"plan --model {MINE}").ok().out
    skipdit("download", MINE).failed(4, f"the weights of {MINE} are not here")
    Path(MINE, folder.CARD).unlink()
    for command in ("sample", "plan", "profile", "analyze similarity", line.partition(" --")[0]):
        skipdit(f"{command} --model", MINE).failed(2, "--model", "a folder without card.json")
    skipdit("train --model digits-skip --skip-steps 1 --start", MINE).failed(2, "--start", MINE)


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ("sample --model trained/m", ["trained/mine"]),
        ("sample --model train", ["trained/"]),
        ("sample --model results/train/o", ["results/train/other"]),
    ],
)
def test_the_shell_completes_folders(skipdit, monkeypatch, words, offered):
    made()
    made("results/train/other")
    monkeypatch.setenv("_SKIPDIT_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", f"skipdit {words}")
    monkeypatch.setenv("COMP_CWORD", str(len(words.split())))
    assert skipdit("").out.split() == offered

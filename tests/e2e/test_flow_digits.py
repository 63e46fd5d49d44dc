"""`--pipeline flow-digits`, the pipeline that ships, as a user types it."""

import json
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from PIL import Image

from skipdit_cli.embedded import shipped
from skipdit_cli.metrics import accuracy_at_digits
from skipdit_cli.recipe import prompts
from tests.tiny_pipelines import make

ROOT = Path(__file__).parents[2]
FOLDER = shipped.embedded() / "flow-digits"
FEW = "--num-samples 6 --batch-size 6 --steps 10"


def shown(root):
    files = sorted(Path(root).glob("samples/*/*.png"))
    return np.stack([np.asarray(Image.open(path)) for path in files])


def test_a_sweep(skipdit, table):
    """Samples are nearer to those without a cache where less is reused; all show their digits."""
    command = (
        f"cache-sweep --pipeline flow-digits {FEW} --method fora,taylorseer --n 2..3 "
        "--cache first-block(threshold=0.1) --cache first-block(threshold=0.3) --repeats 0 "
        "--metrics psnr,accuracy@digits,fid@digits"
    )
    done = skipdit(command).ok()
    rows = {row["cache"]: row for row in table(done.out.replace("**", ""))}
    psnr = {name: row["PSNR (dB) ↑"].split(" ± ")[0] for name, row in rows.items()}
    assert psnr.pop("no cache (n=1)") == "reference"
    for near, far in (
        ("fora n=2", "fora n=3"),
        ("taylorseer n=2", "taylorseer n=3"),
        ("first-block threshold=0.1", "first-block threshold=0.3"),
    ):
        assert float(psnr[near]) > float(psnr[far]) > 10
    assert float(rows["no cache (n=1)"]["Accuracy@digits ↑"]) > 0.8
    assert float(rows["no cache (n=1)"]["FID@digits ↓"]) > 0
    again = json.loads(skipdit(command, "--json").ok().out)
    assert len(again["rows"]) == len(rows)
    assert {path.name for path in Path("results/sweeps").iterdir()} == {"flow-digits"}
    assert len(table(skipdit("report flow-digits").ok().out)) == len(rows)


def test_its_samples_are_those_of_diffusers(skipdit):
    """Bit for bit, of its own captions; and the command that makes them is told."""
    line = "sample --pipeline flow-digits --num-samples 3 --seed 2 --steps 4"
    told = json.loads(skipdit(line, "--json").ok().out)
    ours = shown("results")
    pipe = DiffusionPipeline.from_pretrained(FOLDER)
    pipe.set_progress_bar_config(disable=True)
    captions = prompts.read_prompts("digits-image").texts
    for index in range(3):
        plain = pipe(
            captions[index],
            generator=torch.Generator().manual_seed(2 * 1_000_003 + index),
            num_inference_steps=4,
            guidance_scale=3.0,
            max_sequence_length=8,
        ).images[0]
        assert np.array_equal(ours[index], np.asarray(plain))
    made = json.loads(skipdit(f"show {told['key'][:8]} --json").ok().out)
    assert "skipdit sample --pipeline flow-digits --steps 4 --seed 2" in json.dumps(made)


def test_the_python_of_the_page():
    page = (ROOT / "docs" / "pipelines.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    made: dict = {}
    exec(compile(code, "pipelines.md", "exec"), made)
    images = [np.asarray(made["image"])]
    assert accuracy_at_digits.score_set(images, [{"prompt": "a three"}]) == 1


@pytest.mark.slow
@pytest.mark.parametrize("spec", ["teacache", "mag-cache", "dp-cache(full=10)"])
def test_what_it_is_calibrated_for(skipdit, table, spec):
    line = "cache-sweep --pipeline flow-digits --num-samples 10 --batch-size 10 --repeats 0"
    rows = table(skipdit(line, "--cache", spec).ok().out)
    assert int(rows[1]["cached"]) > 0
    assert float(rows[1]["PSNR (dB) ↑"].split(" ± ")[0]) > 30
    assert float(rows[1]["Accuracy@digits ↑"]) == 1


def test_what_fits_it_and_what_it_costs(skipdit, table):
    listed = {row["models"]: row for row in table(skipdit("ls models").ok().out)}
    assert "flow-digits" in listed
    fits = {
        row["cache"]: row["flow-digits"]
        for row in table(skipdit("ls caches --pipeline flow-digits").ok().out)
    }
    assert fits["fora"] == fits["taylorseer"] == fits["first-block"] == fits["seacache"] == "fits"
    for method in ("teacache", "mag-cache", "dp-cache"):
        assert fits[method] == "fits, and is calibrated"
    plan = table(skipdit("plan --pipeline flow-digits --method fora --n 2..3").ok().out)
    assert [row["full"] for row in plan] == ["28", "15", "10"]
    assert [row["ideal speedup"] for row in plan] == ["1.000", "1.807", "2.621"]  # as documented
    told = skipdit("plan --pipeline flow-digits").ok().out
    assert "weights 3.5 MB, steps 0.2 MB, autoencoder 0.2 MB, text encoders 0.1 MB" in told
    alone = skipdit("plan --pipeline flow-digits --offload model --compile").ok().out
    assert "text encoders 0.1 MB; with --offload model)" in alone
    assert memory(alone) < memory(told)
    assert json.loads(
        skipdit("profile --pipeline flow-digits --method fora --n 2 --repeats 1 --json").ok().out
    )


def memory(told):
    return float(re.search(r"([\d.]+) MB of memory at batch 1", told)[1])


@pytest.mark.slow
def test_train(skipdit):
    """What comes out is a pipeline with prompts and metrics of its own, trained further at will."""
    skipdit(
        "train --model flow-digits --steps 2 --batch-size 2 --log-every 1 --out mine "
        "--eval accuracy@digits --eval-every 2 --eval-samples 2 --eval-steps 2"
    ).ok()
    [score] = [json.loads(line) for line in Path("mine/scores.jsonl").read_text().splitlines()]
    assert (score["metric"], score["samples"]) == ("accuracy@digits", 2)
    assert Path("mine/samples-0000002.png").is_file()
    skipdit("sample --pipeline mine --num-samples 2 --steps 2").ok()
    assert shown("results").shape == (2, 16, 16, 3)
    skipdit("train --model ./mine --start ./mine --steps 1 --batch-size 2 --out more").ok()
    record = json.loads(Path("more/training.json").read_text())
    assert record["settings"]["start"] == "./mine"


def test_train_the_pipeline_around_it(skipdit):
    done = skipdit("train --model flow-parts --steps 2 --out parts").ok()
    assert "the pipeline around flow-digits: PSNR " in done.out
    ours, ships = (
        {path.relative_to(folder) for path in folder.rglob("*")}
        for folder in (Path("parts"), FOLDER)
    )
    later = {path.name.partition("-Flow")[0] for path in ships - ours}
    assert ours < ships
    assert later - {"training.json"} == {
        *("teacache", "mag-cache"),
        *(f"dp-cache-full={full},branch=1" for full in (8, 10, 15)),
    }


@pytest.mark.parametrize(
    ("line", "parts"),
    [
        ("sample --pipeline flow-digit", ("flow-digit ", "OWNER/NAME", "or flow-digits")),
        ("sample --pipeline digits", ("digits is no folder of a pipeline", "flow-digits")),
        ("sample --pipeline flow-digits --weights x.pt", ("--weights x.pt", "leave it out")),
        ("analyze flow-digits", ("--model: flow-digits is a pipeline", "analyze dynamics")),
        ("analyze spectra --model flow-digits", ("--model: flow-digits is a pipeline",)),
        ("latents --model flow-digits --data .", ("flow-digits is a pipeline", "ls models")),
        ("train --model flow-digits --data .", ("--data: flow-digits is a pipeline", "digits")),
        ("train --model flow-digits --set depth=3", ("--set: flow-digits is a pip", "config.json")),
        ("train --model flow-digits --start digits", ("--start: digits has another",)),
        ("train --model flow-digits --eval-every 2 --eval-steps ddim5", ("--eval-steps", "ddim5")),
        ("train --model other", ("--model: ", "is a StableDiffusion3Pipeline", "take flow-digits")),
    ],
)
def test_mistakes(skipdit, line, parts):
    if "other" in line:
        make("sd3", Path("other"))
    skipdit(line).failed(2, *parts)


def test_it_is_checked(skipdit, monkeypatch):
    """That it is whole, and gives numbers."""
    from skipdit_cli.checkpoints import catalog
    from skipdit_cli.report import doctor

    assert ("flow-digits", "ok", "0.88 M parameters") in doctor.embedded()
    shutil.copytree(FOLDER, "broken")
    Path("broken/vae/config.json").write_text("{")
    card = catalog.PIPELINES["flow-digits"]
    monkeypatch.setattr(
        catalog, "cards", lambda: {"flow-digits": catalog.replace(card, folder="broken")}
    )
    [(_, state, _)] = doctor.embedded()
    assert state == "broken"

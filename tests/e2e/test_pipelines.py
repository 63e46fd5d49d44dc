"""Any diffusers pipeline: `--pipeline FOLDER` in the commands, as a user types them."""

import json
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.e2e.piped import CALL, FEW, PROMPTS
from tests.tiny_pipelines import make
from tests.unit.metrics import networks

CLIPS = "--steps 4 --call height=32 --call width=48 --call num_frames=5"


RECIPE = """
title: own
scales:
  tiny:
    groups: {{own: {model}}}
    settings: {{steps: 4, num_samples: 2, prompts: list.txt, call: {call}}}
    columns: [{{label: PSNR, metric: psnr, group: own, better: higher}}]
rows:
  - {{id: none, label: no cache, model: "{{model}}"}}
  - {{id: fora, label: fora, model: "{{model}}", cache: fora(n=2)}}
"""


@pytest.fixture(scope="module")
def wan(tmp_path_factory):
    return make("wan22", tmp_path_factory.mktemp("pipelines") / "wan22")


@pytest.mark.slow  # of flow-digits in every run: test_flow_digits.py
def test_a_sweep_of_several_methods(whole, flux, table):
    command = (
        f"cache-sweep --pipeline {flux} --n 2..3 "
        f"--method fora,pab,taylorseer,first-block,delta-dit --num-samples 2 --repeats 1 {FEW}"
    )
    done = whole(command, *PROMPTS).ok()
    rows = {row["cache"]: row for row in table(done.out)}
    for method in ("fora", "pab", "taylorseer", "delta-dit"):
        for n in (2, 3):
            assert float(rows[f"{method} n={n}"]["PSNR (dB) ↑"].split(" ± ")[0]) > 10
    assert "first-block threshold=0.05" in rows
    assert any(name.startswith("no cache, ") for name in rows)
    assert (rows["fora n=2"]["full"], rows["fora n=2"]["cached"]) == ("3", "1")
    assert rows["no cache (n=1)"]["PSNR (dB) ↑"] == "reference"
    again = whole(command, *PROMPTS, "--json").ok()
    assert len(json.loads(again.out)["rows"]) == len(rows)
    (study,) = Path("results/sweeps").iterdir()
    assert (study / "sweep.html").is_file()
    report = whole("report", study.name).ok()
    assert table(report.out) == table(done.out)
    assert whole(f"report {flux}").ok().out == report.out  # the folder means the study
    assert "done" in whole(f"status {flux}").ok().out
    Path("other").mkdir()
    for command in ("report", "status"):
        whole(f"{command} other").failed(2, "unknown recipe or study 'other'", study.name)


def test_its_samples_are_those_of_the_call_itself(skipdit, flux):
    """With no cache: one CPU generator for each sample, seeded with the seed and the index."""
    told = skipdit(f"sample --pipeline {flux} --num-samples 2 --seed 3 {FEW}", *PROMPTS, "--json")
    folder = Path(json.loads(told.ok().out)["folder"])
    from PIL import Image

    ours = [np.asarray(Image.open(path)) for path in sorted(folder.glob("*.png"))]
    from diffusers import DiffusionPipeline

    pipe = DiffusionPipeline.from_pretrained(flux)
    pipe.set_progress_bar_config(disable=True)
    for index, prompt in enumerate(("a cat", "a red dog")):
        plain = pipe(
            prompt,
            generator=torch.Generator().manual_seed(3 * 1_000_003 + index),
            height=32,
            width=16,
            num_inference_steps=4,
            max_sequence_length=32,
        ).images[0]
        assert np.array_equal(ours[index], np.asarray(plain))


@pytest.mark.slow
def test_batches_workers_and_restarts_give_the_same_samples(skipdit, flux, samples):
    line = f"sample --pipeline {flux} --cache fora(n=2) --num-samples 4 --batch-size 2 {FEW}"
    skipdit(line, *PROMPTS).ok()
    known = samples(Path("results"))
    assert len(known) == 4
    skipdit(line, *PROMPTS, "--workers", 2, "--results", "two").ok()
    assert samples(Path("two")) == known
    gone = sorted(Path("results/samples").glob("*/*.png"))[1]
    gone.unlink()
    skipdit(line, *PROMPTS).ok()
    assert samples(Path("results")) == known
    one = f"sample --pipeline {flux} --cache fora(n=2) --num-samples 4 --results one {FEW}"
    skipdit(one, *PROMPTS).ok()
    from PIL import Image

    def pixels(root):
        files = sorted(Path(root, "samples").glob("*/*.png"))
        return np.stack([np.asarray(Image.open(path), dtype=int) for path in files])

    assert np.abs(pixels("one") - pixels("results")).max() <= 1


def test_a_plan_takes_configurations_alone(skipdit, flux, table):
    bare = Path("bare")
    shutil.copytree(flux, bare, ignore=shutil.ignore_patterns("*.safetensors"))
    plan = f"plan --pipeline {bare} --method fora --n 2..4 --prompts none.txt {FEW}"
    Path("none.txt").write_text("a cat\n")
    rows = table(skipdit(plan).ok().out)
    assert [row["run"] for row in rows[:2]] == ["none", "fora(n=2,mlp=true)"]
    assert float(rows[1]["ideal speedup"]) > 1
    assert "weights" in rows[0]["missing"]
    skipdit(f"sample --pipeline {bare} {FEW}", *PROMPTS).failed(4, "weights", "bare")


@pytest.mark.slow
def test_a_plan_counts_its_prompts_where_their_length_costs(skipdit, tmp_path, table):
    """CogView4 computes as many tokens as a prompt has, and a negative one in a call of its own."""
    folder = make("cogview4", tmp_path / "cogview4")
    line = f"--pipeline {folder} --method fora --n 2 {FEW} --guidance 4"
    texts = ("--prompt", "a dog that runs", "--negative-prompt", "a blurred picture of it")

    def counted(*more):
        told = skipdit(f"plan {line} --no-fewer-steps", *more).ok().out
        return [row["FLOPs"] for row in table(told)], told

    (plain, said), (given, told) = counted(), counted(*texts)
    assert float(given[0].split()[0]) > float(plain[0].split()[0])
    assert 'computed: counted with "a picture".' in said
    assert 'As many tokens as a prompt has are computed: counted with "a dog that runs".' in told
    timed = skipdit(f"profile {line} --repeats 1 --batch-size 1", *texts).ok().out
    assert 'counted with "a dog that runs"' in timed


@pytest.mark.slow
def test_two_experts_with_random_weights(skipdit, wan, table):
    timed = skipdit(f"profile --pipeline {wan} --weights random --method delta-dit --n 2 {CLIPS}")
    rows = table(timed.ok().out)
    assert [row["cache"] for row in rows] == ["no cache (n=1)", "delta-dit n=2"]
    assert float(rows[1]["ideal speedup"]) > 1
    sweep = f"cache-sweep --pipeline {wan} --n 2 --method delta-dit --num-samples 1 --repeats 0"
    rows = table(skipdit(f"{sweep} --steps 6 {CLIPS[10:]}", *PROMPTS[:2]).ok().out)
    assert float(rows[1]["PSNR (dB) ↑"].split(" ± ")[0]) > 10


def test_a_recipe_of_a_pipeline(skipdit, flux, table):
    pairs = (word.split("=") for word in CALL.split() if word != "--call")
    call = f"{{{', '.join(f'{key}: {value}' for key, value in pairs)}}}"
    text = RECIPE.format(model=flux, call=call)
    Path("own.yaml").write_text(text)
    Path("list.txt").write_text("a cat\na red dog\n")
    rows = table(skipdit("cache-sweep --recipe own.yaml --repeats 0").ok().out)
    assert [row["method"] for row in rows] == ["no cache", "fora"]
    assert float(rows[1]["PSNR ↑"].split(" ± ")[0]) > 10
    line = f"sample --pipeline {flux} --cache fora(n=2) {FEW} --num-samples 2 --prompts list.txt"
    made = json.loads(skipdit(f"{line} --json").ok().out)
    there = {path.name for path in Path("results/samples").iterdir()}
    assert (made["key"] in there, len(there)) == (True, 2)
    for given, *parts in (
        (call.replace("height", "heigth"), "own row none: FluxPipeline takes no heigth", "height?"),
        ("3", "settings.call: call cannot be '3'", "as {height: 512}"),
        ("{1: 2}", "own row none: '1' is no name of an argument"),
        ("{true: 2}", "own row none: 'True' is no name of an argument"),
    ):
        Path("own.yaml").write_text(text.replace(call, given))
        skipdit("plan own.yaml").failed(2, *parts)


def test_which_methods_fit_is_told(skipdit, flux, table):
    def told(call):
        listed = table(skipdit(f"ls caches --pipeline {flux} {call}").ok().out)
        return {row["cache"]: row[str(flux)] for row in listed}

    rows = told("")
    assert told(CALL) == rows
    skipdit(f"ls caches {CALL}").failed(2, "--call is for a pipeline")
    assert rows["fora"] == rows["first-block"] == "fits"
    assert rows["skip-cache"].startswith("no: skip-cache needs skip branches")
    assert rows["faster-cache"] == "fits"  # without guidance it looks at no latents
    assert rows["t-gate"].startswith("no: ")
    assert rows["seacache"] == (
        "no: it looks at latents as a picture, and the transformer is given them in a row"
    )


def test_a_folder_has_one_name(skipdit, flux):
    """However its path is written: the run is one."""
    shutil.copytree(flux, "own")
    spellings = ("own", "./own/", Path("own").absolute(), f"../{Path.cwd().name}/own")
    lines = [f"sample --pipeline {each} --num-samples 1 {FEW} --json" for each in spellings]
    assert len({json.loads(skipdit(each, *PROMPTS[:2]).ok().out)["key"] for each in lines}) == 1


@pytest.mark.slow
def test_a_compiled_sweep(skipdit, flux, table):
    """Its runs are others; timed, and with what compiling took."""
    line = f"cache-sweep --pipeline {flux} --method fora,pab --n 2 --num-samples 1 --repeats 1"
    done = skipdit(f"{line} {FEW} --compile", *PROMPTS[:2]).ok()
    rows = {row["cache"]: row for row in table(done.out)}
    assert float(rows["fora n=2"]["PSNR (dB) ↑"].split(" ± ")[0]) > 10
    assert float(rows["no cache (n=1)"]["compiling (s)"]) > 0
    assert done.out.splitlines()[0].endswith(", compiled")


def test_a_pipeline_of_the_hub_is_found_in_its_cache(skipdit, flux, table, monkeypatch):
    """In the layout that huggingface_hub has; what is not there cannot be fetched offline."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(Path("hub").absolute()))
    commit, place = "c0ffee" + "0" * 34, Path("hub/models--someone--flux")
    shutil.copytree(flux, place / "snapshots" / commit)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text(commit)
    Path("one.txt").write_text("a cat\n")
    line = f"plan --pipeline someone/flux --method fora --n 2 --prompts one.txt {FEW}"
    done = skipdit(line).ok()
    assert done.out.startswith("someone/flux: FlowMatchEulerDiscreteScheduler 4, ")
    assert "weights" not in table(done.out)[0]["missing"]
    done = skipdit("download --pipeline someone/other --configs")
    done.failed(4, "cannot fetch someone/other: HF_HUB_OFFLINE is set")
    skipdit("download --pipeline flux").failed(2, "flux", "OWNER/NAME")
    skipdit("download coco --configs").failed(2, "--configs", "--pipeline")


def test_the_command_that_makes_a_run_again_is_told(skipdit, flux):
    """With its call; it is found by trying it."""
    line = f"sample --pipeline {flux} --cache fora(n=2) --num-samples 1 --seed 5 {FEW}"
    made = json.loads(skipdit(line, *PROMPTS[:2], "--json").ok().out)
    told = json.loads(skipdit(f"show {made['key'][:8]} --json").ok().out)
    text = json.dumps(told)
    for part in (f"--pipeline {flux}", "--call height=32", "--seed 5", "fora(n=2"):
        assert part in text


def test_what_is_timed_is_the_call_that_makes_samples(flux, monkeypatch):
    """With its negative prompt too, without which there may be no guidance; not decoded."""
    from skipdit_cli.generate import pipelines
    from skipdit_cli.recipe.runs import make_run
    from skipdit_cli.score.body import loop_of

    seen = []
    monkeypatch.setattr(pipelines, "drive", lambda *_, **given: seen.append(given) or (0, None))
    call = {"height": 32, "width": 16, "max_sequence_length": 32, "true_cfg_scale": 2.0}
    settings = {"steps": "4", "prompts": ("a cat",), "negative_prompt": "fog", "call": call}
    run = make_run(str(flux), settings={**settings, "num_samples": 1})
    loop_of(run)(run.cache)
    (timed,) = seen
    assert timed["negative_prompt"] == ["fog"]
    assert (timed["prompt"], timed["output_type"]) == (["a cat"], "latent")
    assert {name: timed[name] for name in call} == call


@pytest.mark.slow
def test_samples_are_compared_with_a_folder(skipdit, flux, wan, table, monkeypatch, tmp_path):
    """FID of images and FVD of clips, through networks of random weights."""
    networks.install(monkeypatch, tmp_path / "home", "inception", "i3d")
    clips = "--call height=32 --call width=32 --call num_frames=17"
    real = np.random.default_rng(0)
    for name, line, shape, metrics in (
        ("images", f"--pipeline {flux} --steps 2 {CALL}", (32, 16, 3), "fid,kid"),
        ("clips", f"--pipeline {wan} --steps 4 {clips}", (17, 32, 32, 3), "fvd"),
    ):
        Path(name).mkdir()
        for i in range(3):
            np.save(f"{name}/{i}.npy", real.integers(0, 256, shape, dtype=np.uint8))
        told = skipdit(f"sample {line} --num-samples 3 --json --results {name}-made", *PROMPTS)
        made = json.loads(told.ok().out)
        given = f"evaluate {made['key']} --results {name}-made --metrics {metrics}"
        first = metrics.split(",")[0]
        told = f"{first} compares with real samples, and which ones is not known"
        skipdit(given).failed(4, told, "--reference PLACE")
        rows = table(skipdit(f"{given} --reference {name}").ok().out)
        assert [row["metric"] for row in rows] == metrics.split(",")
        assert float(rows[0]["value"]) >= 0
    (again,) = table(skipdit(f"{given} --reference {made['folder']}").ok().out)
    assert float(again["value"]) < 1e-3 * float(rows[0]["value"])  # clips from themselves
    other = skipdit(f"evaluate {made['key']} --results clips-made --metrics fid")
    other.failed(2, "fid cannot score samples of", "fvd")


def test_its_features_are_looked_into(skipdit, flux, table):
    given = f"--pipeline {flux} --num-samples 2 {FEW}"
    skipdit(f"analyze dynamics {given}").failed(4, "has no prompts", "--prompts")
    Path("list.txt").write_text("a cat\na red dog\n")
    given += " --prompts list.txt"
    caches = "--cache fora(n=2) --cache first-block(threshold=9)"
    done = skipdit(f"analyze dynamics {given} {caches} --layer 0,2").ok()
    (row,) = table(done.out)
    assert -1 < float(row["similarity"]) < 1
    for name in ("fora(n=2,mlp=true)", "first-block(threshold=9.0)"):
        assert -1 < float(row[f"reused by {name}"]) <= 1
    done = skipdit(f"analyze similarity {given} --cache fora(n=2) --json").ok()
    (line,) = json.loads(done.out)["summary"]
    assert 0 < line["sample error"] < 1
    done = skipdit(f"analyze sensitivity {given} --layers 2 --every 2 --json").ok()
    (line,) = json.loads(done.out)["summary"]
    assert line["mean"] < 0
    (folder,) = (path for path in Path("results/analysis").iterdir() if path.name != "parts")
    assert {path.stem for path in folder.glob("*.json")} == {
        *("dynamics", "similarity", "sensitivity"),
    }


@pytest.mark.slow
def test_a_method_is_calibrated_on_it(skipdit, flux, tmp_path, table):
    """In its own folder, where the caches find it; what says that it is missing says how."""
    own = shutil.copytree(flux, tmp_path / "own")
    Path("list.txt").write_text("a cat\na red dog\n")
    given = f"--pipeline own --prompts list.txt --num-samples 2 --steps 6 {CALL}"
    sweep = f"cache-sweep {given} --cache dp-cache(full=3) --metrics psnr --repeats 1"
    told = skipdit(sweep).failed(4, "dp-cache has not been calibrated")
    command = told.err.partition("`skipdit ")[2].partition("`")[0]
    done = skipdit(*shlex.split(command), "--num-samples", 2).ok()
    assert "dB of the others" in done.out
    assert sorted(path.name for path in own.glob("*.json")) == [
        "dp-cache-full=3,branch=1-FlowMatchEulerDiscreteScheduler-6.json",
        "model_index.json",
    ]
    rows = {row["cache"]: row for row in table(skipdit(sweep).ok().out)}
    assert float(rows["dp-cache full=3"]["PSNR (dB) ↑"].split(" ± ")[0]) > 10
    assert rows["dp-cache full=3"]["full"] == "3"
    other = sweep.replace("height=32", "height=48")
    assert "was calibrated with --call height=32, " in skipdit(other).err
    told = skipdit(f"{sweep} --guidance 2").err
    assert "was calibrated with guidance 3.5, and this is with 2; run `skipdit analyze" in told

"""`skipdit sample` with prompts, on the embedded text models as a user runs them."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.recipe.runs import find_run
from skipdit_cli.storage.store import open_store

PROMPT = "a three moving to the left"
LIST = "# comments and blank lines do not count\n\na three\n  a handwritten seven  \n\na two\n"
VIDEO = "sample --model captioned-digits --steps ddim4"
IMAGE = "sample --model painted-digits --steps ddim4+1 --batch-size 1"


def stored(root="results"):
    """The one run under a results folder."""
    [folder] = (Path(root) / "samples").iterdir()
    return open_store(Path(root), find_run(Path(root), folder.name))


def embeddings(root="results"):
    found = (Path(root) / "embeddings").rglob("*.safetensors")
    return {path.name: path.stat().st_mtime_ns for path in found}


@pytest.mark.slow
def test_sample_a_clip_from_a_prompt(skipdit):
    given = "--num-samples 2 --batch-size 2 --prompt"
    done = skipdit(f"{VIDEO} {given}", PROMPT).ok()
    store = stored()
    assert done.out == f"2 samples of run {store.run.key} in results/samples/{store.run.key}\n"
    first, second = store.read(0), store.read(1)
    assert first.shape == second.shape == (8, 16, 16, 3)
    assert [store.meta(i) for i in range(2)] == [{"prompt": PROMPT}] * 2
    assert min(len(np.unique(clip)) for clip in (first, second)) > 20
    assert not np.array_equal(first, second)  # the same prompt, other noise
    skipdit(f"{VIDEO} {given}", "a nine moving up", "--results", "other").ok()
    assert not np.array_equal(stored("other").read(0), first)  # the same noise, another prompt


@pytest.mark.slow
def test_prompts_of_a_file_are_those_given_one_by_one(skipdit, tmp_path, samples):
    (tmp_path / "list.txt").write_text(LIST)
    content = json.loads(
        skipdit(f"{IMAGE} --num-samples 4 --json --prompts", tmp_path / "list.txt").ok().out
    )
    prompts = ["a three", "a handwritten seven", "a two"]
    assert content["run"]["prompts"] == prompts
    assert content["run"]["classes"] is None
    store = stored()
    assert content["key"] == store.run.key
    assert Path(content["folder"]) == Path("results/samples") / store.run.key
    assert [store.meta(i)["prompt"] for i in range(4)] == [*prompts, prompts[0]]

    before = samples(Path("results"))
    one_by_one = [word for prompt in prompts for word in ("--prompt", prompt)]
    skipdit(f"{IMAGE} --num-samples 4", *one_by_one).ok()
    assert samples(Path("results")) == before  # the same run, nothing new
    skipdit(f"{IMAGE} --num-samples 4 --results other", *one_by_one).ok()
    assert samples(Path("other")) == before


def test_a_named_list_is_the_default(skipdit):
    """Of a list only the prompts that the samples need are encoded, and the empty one."""
    skipdit(f"{VIDEO} --num-samples 2 --batch-size 2").ok()
    prompts = stored().run.prompts
    assert len(prompts) == 40
    assert len(embeddings()) == 3
    skipdit(f"{VIDEO} --num-samples 2 --batch-size 2 --prompts digits-video").ok()
    assert stored().run.prompts == prompts


@pytest.mark.slow
def test_restart_and_workers_change_no_bit(skipdit, samples):
    given = f"{IMAGE} --num-samples 4 --prompt".split()
    prompts = ("a three", "--prompt", "the digit eight")
    alone = ("--results", "alone")
    skipdit(*given, *prompts, *alone).ok()
    expected = samples(Path("alone"))
    assert len(expected) == 4

    two = skipdit.start(*given, *prompts, "--workers", 2, "--results", "two")
    first = [word.replace("4", "1") if word == "4" else word for word in given]
    skipdit(*first, *prompts, "--results", "again").ok()
    encoded = embeddings("again")
    skipdit(*given, *prompts, "--results", "again").ok()
    # the first sample needs the first prompt alone
    assert (len(encoded), len(embeddings("again"))) == (2 * 2, 2 * 3)
    assert embeddings("again").items() >= encoded.items()  # nothing is encoded again
    assert samples(Path("again")) == expected

    (Path("alone") / "samples" / stored("alone").run.key / "000002.png").unlink()
    encoded = embeddings("alone")
    skipdit(*given, *prompts, *alone).ok()
    assert samples(Path("alone")) == expected
    assert embeddings("alone") == encoded
    skipdit.wait(two).ok()
    assert samples(Path("two")) == expected


def test_rows_with_other_caches_use_the_same_embeddings(skipdit, samples):
    given = f"{IMAGE} --num-samples 1 --prompt"
    skipdit(given, "a six").ok()
    encoded = embeddings()
    skipdit(given, "a six", "--cache", "skip-cache(n=2,window=1000-20)").ok()
    assert embeddings() == encoded
    none, cached = samples(Path("results")).values()
    assert none != cached


@pytest.mark.slow
def test_guidance_leads_away_from_the_negative_prompt(skipdit):
    """It is part of the run, and the empty one is what there is without it."""
    given = f"{IMAGE} --num-samples 1 --prompt"
    roots, words = ("plain", "empty", "other", "alone"), ("a six", "--negative-prompt")
    skipdit(given, "a six", "--results", "plain").ok()
    skipdit(given, *words, "", "--results", "empty").ok()
    skipdit(given, *words, "a nine", "--results", "other").ok()
    skipdit(given, *words, "a six", "--results", "alone").ok()
    plain, empty, other, alone = map(stored, roots)
    assert plain.run == empty.run
    assert [each.run.negative_prompt for each in (empty, other, alone)] == ["", "a nine", "a six"]
    images = [each.read(0).tobytes() for each in (plain, other, alone)]
    assert len(set(images)) == 3


@pytest.mark.slow
def test_a_prompt_that_is_cut_is_told_on_stderr(skipdit):
    """Two that differ where nothing is read give the same sample, and say so."""
    long = "a three moving to the left " * 4
    command = f"{IMAGE} --num-samples 2 --batch-size 2 --workers 2".split()
    done = skipdit.wait(
        skipdit.start(*command, "--prompt", f"{long}a six", "--prompt", f"{long}two")
    )
    assert done.code == 0
    told = [line for line in done.remarks if line.startswith("skipdit: warning: ")]
    assert done.remarks == told
    assert ["painted-digits prompt 'a three moving" in line for line in told] == [True, True]
    assert ["a six': text_encoder reads 12 " in line for line in told] == [True, False]


@pytest.mark.parametrize(
    ("line", "more", "code", "parts"),
    [
        (f"{IMAGE} --prompt", ["a\udcff"], 2, ["--prompts: 1. prompt: 'a", "U+DCFF"]),
        (f"{IMAGE} --negative-prompt", ["a\udcff"], 2, ["--negative-prompt: 'a", "U+DCFF"]),
        (
            "sample --model digits --negative-prompt",
            ["a six"],
            2,
            ["--negative-prompt", "needs text and digits takes no text; leave negative_prompt out"],
        ),
        (
            f"{VIDEO} --prompts digits-video --prompt",
            [PROMPT],
            2,
            ["--prompt and --prompts say the same; give one of them"],
        ),
        (
            f"{VIDEO} --classes 3",
            [],
            2,
            ["--classes", "needs classes and captioned-digits takes text"],
        ),
        (
            "sample --model digits --prompt",
            [PROMPT],
            2,
            ["--prompts", "needs text and digits takes no text; leave prompts out"],
        ),
        (
            "sample --model moving-digits --prompts digits-video",
            [],
            2,
            ["--prompts", "needs text and moving-digits takes no text"],
        ),
        (
            f"{VIDEO} --prompts digits-vidoe",
            [],
            2,
            ["--prompts: unknown prompt list 'digits-vidoe'; did you mean 'digits-video'?"],
        ),
        (f"{VIDEO} --prompts gone.txt", [], 2, ["--prompts", "gone.txt: no such file"]),
        (
            "sample --model hunyuan-dit --precision bfloat16 --prompt",
            ["a horse"],
            2,
            [
                "--precision: hunyuan-dit gives black images in bfloat16; "
                "use float16 or float32 or tf32"
            ],
        ),
        (
            "sample --model latte-skip --prompt",
            ["a horse"],
            4,
            [
                "the weights of latte-skip are not here",
                "`skipdit download latte-skip --accept-license` (about 8.76 GB",
            ],
        ),
        (
            "sample --model hunyuan-dit --prompts coco",
            [],
            4,
            [
                "the weights of hunyuan-dit are not here",
                "`skipdit download hunyuan-dit --accept-license` (about 6.00 GB",
            ],
        ),
    ],
)
def test_what_cannot_be_done_is_told_in_one_line(skipdit, line, more, code, parts):
    skipdit(line, *more).failed(code, *parts)
    assert not Path("results/samples").exists()
    assert not Path("results/embeddings").exists()


@pytest.fixture
def changed(tmp_path):
    """changed(value): painted-digits, only that its velocity is that value everywhere."""

    def make(value):
        state = load_file(local.locate(catalog.card("painted-digits")))
        state["proj_out.weight"] = torch.zeros_like(state["proj_out.weight"])
        state["proj_out.bias"] = torch.full(state["proj_out.bias"].shape, value)
        path = tmp_path / "changed.safetensors"
        save_file(state, path)
        return path

    return make


def test_black_samples_are_reported_and_kept(skipdit, changed):
    """A velocity of 1000 means a clean image of -1000."""
    line = f"{IMAGE} --num-samples 3 --weights"
    done = skipdit(line, changed(1000.0), "--prompt", "a six")
    assert done.code == 0
    store = stored()
    assert done.remarks == [
        "3 of 3 samples of painted-digits, none are black, first 0 "
        f"({store.run.key}); --precision float32 may cure that"
    ]
    assert store.missing(range(3)) == []
    assert store.meta(2) == {"prompt": "a six", "black": True}
    again = skipdit(line, changed(1000.0), "--prompt", "a six")  # nothing is left to compute
    assert (again.out, again.remarks) == (done.out, done.remarks)


@pytest.mark.slow
def test_values_that_are_not_finite_are_told_with_their_precision(skipdit, changed):
    for value, precision in ((float("nan"), "float32"), (1e5, "float16")):
        line = f"{IMAGE} --num-samples 1 --precision {precision} --prompt"
        done = skipdit(line, "a six", "--weights", changed(value))
        said = f"painted-digits gave values that are not finite in {precision} with none"
        done.failed(1, f"{said}; take float32")
    assert stored_files() == []


def stored_files():
    return [path for path in Path("results/samples").rglob("*") if path.suffix in (".png", ".mkv")]


@pytest.mark.slow
def test_a_damaged_embedding_is_told_in_one_line_and_made_again(skipdit, samples):
    line = f"{IMAGE} --num-samples 1 --prompt"
    skipdit(line, "a six").ok()
    paths = sorted(Path("results/embeddings").rglob("*.safetensors"))
    sound = [path.read_bytes() for path in paths]
    assert len(paths) == 2 * 2
    for path, content in zip(paths, sound, strict=True):
        path.write_bytes(content[:-8])
    done = skipdit(line, "a six", "--seed", 1)
    assert done.code == 0
    told = sorted(done.remarks)
    assert len(told) == len(paths)
    for path, warning in zip(paths, told, strict=True):
        assert warning.startswith(
            f"skipdit: warning: {path}: is not a readable embedding of a prompt ("
        )
        assert warning.endswith("); it counts as absent")
    assert [path.read_bytes() for path in paths] == sound
    skipdit(line, "a six", "--seed", 1, "--results", "other").ok()
    assert samples(Path("results")).items() > samples(Path("other")).items()
    again = skipdit(line, "a six", "--seed", 2).ok()
    assert "encoding" not in again.err

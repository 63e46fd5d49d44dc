"""A run ends in the same files whatever happened on the way: workers, damage, kill -9.

End to end through `run.generate` on checkpoint files of random weights.
"""

import json
import random
import shutil
import time
from contextlib import contextmanager
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.errors import (
    MissingAssetError,
    SkipditError,
    SkipditWarning,
    StoreError,
    UsageError,
)
from skipdit_cli.generate import batch as generating
from skipdit_cli.generate import conditioning, decode, rng, text
from skipdit_cli.generate.local import Local
from skipdit_cli.generate.options import silent
from skipdit_cli.generate.samples import generate, generate_all
from skipdit_cli.recipe import runs
from skipdit_cli.storage import trajectory
from skipdit_cli.storage.store import open_store

IMAGES = ("digits-skip", "skip-cache(n=2)", {"batch_size": 4})
CLIPS = ("moving-digits-skip", "skip-cache(n=2)", {"batch_size": 2})
CAPTIONED = ("captioned-digits-skip", "skip-cache(n=2,window=999-0)", {"batch_size": 2})
PAINTED = ("painted-digits", "skip-cache(n=2,window=999-0)", {"batch_size": 4})
EMBEDDED = [card for card in catalog.CARDS.values() if card.embedded]
FAMILIES = sorted({card.family for card in EMBEDDED})
PRELOAD = [f"skipdit_cli.{name}" for name in ("run", "_clips", *(f"models.{f}" for f in FAMILIES))]
STEPS = "3,1"  # timesteps 500, 499, 250, 0; from higher up a random network saturates every pixel
KINDS = pytest.mark.parametrize(
    "kind",
    [IMAGES, CLIPS, CAPTIONED, PAINTED],
    ids=["images", "clips", "clips of text", "images of text"],
)


def told(counts):
    """A stage that notes (finished, wanted) of samples, as it shows them, in a list."""

    @contextmanager
    def stage(what):
        yield lambda *n: counts.append(n) if what.startswith("sampling") else None

    return stage


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """name -> a file of random weights of an embedded model."""
    folder, made = tmp_path_factory.mktemp("weights"), {}

    def make(name):
        if name not in made:
            model = networks.build(catalog.card(name), device="cpu").requires_grad_(False)
            generator = torch.Generator().manual_seed(5)
            for parameter in model.parameters():
                noise = torch.randn(parameter.shape, generator=generator)
                parameter.copy_(noise / max(parameter[0].numel(), 25) ** 0.5)
            last = getattr(model, "proj_out", None) or model.final_layer.linear
            last.weight.mul_(0.3)
            made[name] = folder / f"{name}.safetensors"
            save_file(model.state_dict(), made[name])
        return made[name]

    return make


@pytest.fixture
def planned(checkpoint):
    """planned(IMAGES, num_samples) -> (run, checkpoint file)."""

    def make(kind, num_samples, **settings):
        model, cache, own = kind
        path = checkpoint(model)
        settings = {
            "steps": STEPS,
            "sampler": "ddpm",
            "num_samples": num_samples,
            **own,
            **settings,
        }
        return runs.make_run(model, cache, settings, weights_path=path), path

    return make


@pytest.mark.parametrize(
    ("sampler", "order", "warned"), [("ddpm", 1, True), ("ddim", 1, False), ("ddpm", 0, False)]
)
def test_what_speaks_against_a_cache_is_told_before_samples_are_made(
    planned, tmp_path, recwarn, sampler, order, warned
):
    spec = f"skip-cache(n=2,order={order})"
    run, path = planned(("digits-skip", spec, {}), 1, sampler=sampler, steps="2")
    generate(run, tmp_path, weights_path=path)
    told = "skip-cache(n=2,window=1000-20,branch=2,order=1) on digits-skip with ddpm: order=1 "
    told += "extrapolates, and with noise added at every step that can lose to order=0"
    assert [str(warning.message) for warning in recwarn] == [told] * warned


@pytest.fixture(scope="module")
def start():
    """Start `generate` in a process of its own, from one that has torch imported already."""
    context = get_context("forkserver")
    context.set_forkserver_preload(PRELOAD)
    started = []

    def begin(planned, root, path):
        process = context.Process(
            target=generate, args=(planned, root), kwargs={"weights_path": path}, daemon=True
        )
        process.start()
        started.append(process)
        return process

    yield begin
    for process in started:
        if process.is_alive():
            process.kill()
        process.join()


def files(store):
    """Content of every sample, and of the trajectory."""
    found = {path.name: path.read_bytes() for path in store.path.glob("*.[pm][nk][gv]")}
    assert sorted(found) == [store._entry(i)["file"] for i in range(len(found))]
    return found | {trajectory.FILE: (store.path / trajectory.FILE).read_bytes()}


def finished(store):
    """How many samples the journal has; safe to call while another process writes."""
    journal = store.path / "samples.jsonl"
    return len(journal.read_bytes().splitlines()) if journal.exists() else 0


def wait_for(condition, *, seconds=180.0):
    start = time.monotonic()
    while not condition():
        assert time.monotonic() - start < seconds, "waited in vain"
        time.sleep(0.002)


@pytest.mark.few(3)
@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
def test_a_run_end_to_end(planned, tmp_path, card):
    cache = "skip-cache(n=2,window=999-0)" if card.skip else "fora(n=2)"
    wanted, path = planned((card.name, cache, {"batch_size": 4}), 6)
    seen = []
    store = generate(wanted, tmp_path, weights_path=path, stage=told(seen))
    assert store.missing(range(6)) == store.corrupt == []
    batch = wanted.batch_size
    assert seen == [(n, 6) for n in (*range(0, 6, batch), 6)]
    side = 32 if card.dataset == "fashion" else 16
    shape = (side, side, 3) if card.task in ("c2i", "t2i") else (8, side, side, 3)
    samples = [store.read(i) for i in range(6)]
    assert all(sample.shape == shape and sample.dtype == np.uint8 for sample in samples)
    assert len({sample.tobytes() for sample in samples}) == 6
    assert all(len(np.unique(sample)) > 20 for sample in samples)  # a picture, not a plane
    metas = [store.meta(i) for i in range(6)]
    assert metas == [conditioning.meta(wanted, i) for i in range(6)]
    assert {key for meta in metas for key in meta} == {"prompt" if wanted.prompts else "class"}
    assert len({str(meta) for meta in metas}) > 1

    again = []
    generate(wanted, tmp_path, weights_path=path, stage=told(again))
    assert again == [(6, 6)]  # nothing is computed twice


def test_what_the_samples_hold(planned, checkpoint, tmp_path):
    """The stored pixels are those of `denoise` on this seed's noise, with the classes in turn."""
    wanted, path = planned(IMAGES, 4, classes=(3, 1), guidance=2.0, seed=11)
    store = generate(wanted, tmp_path, weights_path=path)
    assert [store.meta(i)["class"] for i in range(4)] == [3, 1, 3, 1]
    model = networks.load(catalog.card("digits-skip"), path=path)

    def noise(step):
        return rng.batch_normal((1, 16, 16), seed=11, indices=range(4), step=step)

    latents = generating.denoise(
        model,
        noise(-1),
        cache=wanted.cache,
        sampler=wanted.sampler,
        steps=STEPS,
        step_noise=noise,
        conditions={"class_labels": torch.tensor([3, 1, 3, 1])},
        null={"class_labels": torch.full((4,), 10)},
        guidance=2.0,
    )
    pixels = decode.to_pixels(latents, catalog.card("digits-skip"))
    assert all(np.array_equal(store.read(i), pixels[i]) for i in range(4))


def test_what_the_samples_of_prompts_hold(planned, tmp_path):
    """The same with prompts in turn, in the sampling that the model was trained for."""
    wanted, path = planned(
        CAPTIONED, 2, prompts=("a one moving up", "a nine moving down"), guidance=3.0, seed=11
    )
    store = generate(wanted, tmp_path, weights_path=path)
    card, model = catalog.card(wanted.model), networks.load(catalog.card(wanted.model), path=path)
    asked = [store.meta(i)["prompt"] for i in range(2)]
    assert asked == ["a one moving up", "a nine moving down"]
    text.encode(card, asked, root=tmp_path / "other")
    given, null = text.conditions(card, asked, root=tmp_path / "other")
    shape = model.inputs(1)["hidden_states"].shape[1:]

    def noise(step):
        return rng.batch_normal(shape, seed=11, indices=range(2), step=step)

    def pixels(guidance, trained):
        latents = generating.denoise(
            model,
            noise(-1),
            cache=wanted.cache,
            sampler=wanted.sampler,
            steps=STEPS,
            step_noise=noise,
            conditions=given,
            null=null,
            guidance=guidance,
            trained=trained,
        )
        return decode.to_pixels(latents, card, channel_dim=model.CHANNEL_DIM)

    stored = np.stack([store.read(i) for i in range(2)])
    assert np.array_equal(stored, pixels(3.0, card.sampling))
    assert not np.array_equal(stored, pixels(2.0, card.sampling))
    assert not np.array_equal(stored, pixels(3.0, replace(card.sampling, learned_variance=True)))


@pytest.fixture
def encoded(monkeypatch):
    """Every prompt that an encoder is given."""
    seen, load = [], text._encoder

    def watched(card, suffix, **how):
        encode = load(card, suffix, **how)
        return lambda some: seen.extend((suffix, prompt) for prompt in some) or encode(some)

    monkeypatch.setattr(text, "_encoder", watched)
    return seen


@pytest.mark.slow
def test_every_row_of_a_sweep_finds_the_prompts_encoded(planned, tmp_path, encoded):
    """Once each, by both encoders: those of whole batches, and the empty one for guidance."""
    wanted, path = planned(PAINTED, 5, batch_size=3, prompts=("a 1", "a 2", "a 1", *"cdefgh"))
    generate(wanted, tmp_path, weights_path=path)
    assert sorted(encoded) == sorted(
        (suffix, prompt) for suffix in ("", "_2") for prompt in ("", "a 1", "a 2", *"cde")
    )
    encoded.clear()
    generate(wanted.reference, tmp_path, weights_path=path)
    generate(replace(wanted, seed=1), tmp_path, weights_path=path)
    assert encoded == []
    generate(replace(wanted, num_samples=7), tmp_path, weights_path=path)
    assert encoded == [("", p) for p in "fgh"] + [("_2", p) for p in "fgh"]


@pytest.mark.slow
def test_embeddings_that_are_gone_are_made_again(planned, tmp_path):
    wanted, path = planned(CAPTIONED, 2)
    store = generate(wanted, tmp_path, weights_path=path)
    before = files(store)
    shutil.rmtree(tmp_path / "embeddings")
    for name in before:
        (store.path / name).unlink()
    assert files(generate(wanted, tmp_path, weights_path=path)) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [pytest.param(IMAGES, id="images"), pytest.param(CAPTIONED, id="clips of text")]
)
def test_one_and_two_workers_agree_bit_for_bit(planned, tmp_path, kind):
    wanted, path = planned(kind, 11)
    alone = files(generate(wanted, tmp_path / "1", weights_path=path))
    together = files(generate(wanted, tmp_path / "2", engine=Local(2), weights_path=path))
    assert len(alone) == 11 + 1
    assert together == alone


@pytest.mark.few(2)
@KINDS
def test_damaged_and_deleted_samples_are_found_and_redone(planned, tmp_path, kind):
    wanted, path = planned(kind, 7)
    store = generate(wanted, tmp_path, weights_path=path)
    before = files(store)
    names = sorted(before)
    untouched = store.path / names[0]
    stamp = untouched.stat().st_mtime_ns
    (store.path / names[1]).unlink()
    (store.path / names[3]).write_bytes(before[names[3]][:100])
    damaged = bytearray(before[names[6]])
    damaged[len(damaged) // 2] ^= 1
    (store.path / names[6]).write_bytes(damaged)

    seen = []
    words = "2 of 7 samples are damaged, first 3; they are made again"
    with pytest.warns(SkipditWarning, match=words):
        store = generate(wanted, tmp_path, weights_path=path, stage=told(seen))
    assert files(store) == before
    assert seen[0] == (4, 7)
    assert untouched.stat().st_mtime_ns == stamp


@pytest.mark.parametrize(
    "kind",
    [
        pytest.param(IMAGES, id="images", marks=pytest.mark.slow),
        pytest.param(CAPTIONED, id="clips of text", marks=pytest.mark.slow),
        pytest.param(CLIPS, id="clips", marks=pytest.mark.slow),
        pytest.param(PAINTED, id="images of text", marks=pytest.mark.slow),
    ],
)
def test_killed_at_random_moments_the_run_ends_as_if_undisturbed(planned, start, tmp_path, kind):
    endless, path = planned(kind, 100_000, batch_size=2)  # of which no machine makes the last one
    whole = generate(replace(endless, num_samples=28), tmp_path / "whole", weights_path=path)
    ends = [whole.file(i).stat().st_mtime for i in (0, 27)]
    pace = (ends[1] - ends[0]) / 13  # seconds per batch
    store, moment = open_store(tmp_path / "killed", endless), random.Random(1)
    counts = []
    for _ in range(4):
        process, before = start(endless, tmp_path / "killed", path), finished(store)
        wait_for(lambda before=before: finished(store) > before)
        time.sleep(moment.uniform(0, 2 * pace))
        process.kill()
        process.join()
        assert process.exitcode == -9  # it was killed, not finished
        counts.append(finished(store))
    assert 0 < counts[0] < counts[-1]

    resumed, wanted = [], replace(endless, num_samples=max(28, counts[-1] + 4))
    store = generate(wanted, tmp_path / "killed", weights_path=path, stage=told(resumed))
    assert resumed[0][0] >= counts[-1] - 1  # nothing finished is lost, a torn line aside
    assert files(store) == files(generate(wanted, tmp_path / "whole", weights_path=path))
    assert not store.corrupt
    assert not [path for path in store.path.rglob("*") if path.name.endswith((".tmp", ".pid"))]
    journal = (store.path / "samples.jsonl").read_text().splitlines()
    assert {json.loads(line)["index"] for line in journal} == set(range(wanted.num_samples))


@pytest.mark.slow
def test_a_second_process_on_the_same_run_waits_for_what_it_wants_of_it(planned, start, tmp_path):
    wanted, path = planned(IMAGES, 2000, batch_size=1)
    holder = start(wanted, tmp_path, path)
    store = open_store(tmp_path, wanted)
    wait_for(lambda: finished(store) > 2)

    def stage(what):
        if what.startswith("waiting: "):
            raise InterruptedError(what)
        return silent(what)

    words = f"waiting: process {holder.pid} is working on run {wanted.key}"
    with pytest.raises(InterruptedError, match=words):
        generate(wanted, tmp_path, weights_path=path, stage=stage)
    few = replace(wanted, num_samples=2)  # they are there
    assert generate(few, tmp_path, weights_path=path, stage=stage).missing(range(2)) == []
    other = replace(wanted, seed=1, num_samples=2)  # another run does not wait
    told = pytest.warns(SkipditWarning, match="is working on run .*; the other runs are made first")
    with told, pytest.raises(InterruptedError, match=words):
        generate_all([wanted, other], tmp_path, weights_path=path, stage=stage)
    assert open_store(tmp_path, other).missing(range(2)) == []
    assert holder.is_alive()
    holder.kill()
    holder.join()
    assert generate(replace(wanted, num_samples=9), tmp_path, weights_path=path).count() >= 9


def test_one_missing_sample_is_computed_in_the_batch_it_belongs_to(planned, tmp_path, monkeypatch):
    """A batch of the same samples in the same places: the sums are the same to the last bit."""
    wanted, path = planned(IMAGES, 7)
    store = generate(wanted, tmp_path, weights_path=path)
    batches, denoise = [], generating.denoise

    def record(model, x, **arguments):
        labels = arguments["conditions"]["class_labels"].tolist()
        batches.append((x, labels, arguments["step_noise"](2)))
        return denoise(model, x, **arguments)

    monkeypatch.setattr(generating, "denoise", record)
    for index in (2, 6):  # the second batch is 4, 5, 6 and a 7 that nobody asked for
        (store.path / f"{index:06d}.png").unlink()
    generate(wanted, tmp_path, weights_path=path)
    assert len(batches) == 2
    for (x, labels, noise), indices in zip(batches, (range(4), range(4, 8)), strict=True):
        for seen, step in ((x, -1), (noise, 2)):
            expected = rng.batch_normal((1, 16, 16), seed=0, indices=indices, step=step)
            assert torch.equal(seen, expected)
        assert labels == [conditioning.meta(wanted, index)["class"] for index in indices]


def test_more_samples_keep_those_that_are_there(planned, tmp_path):
    """Six samples of batches of four: the second batch is computed whole, its rest thrown away."""
    wanted, path = planned(IMAGES, 6)
    store = generate(wanted, tmp_path / "grown", weights_path=path)
    before = {name: (store.path / name).stat().st_mtime_ns for name in files(store)}
    more = replace(wanted, num_samples=10)
    assert more.key == wanted.key
    seen = []
    grown = generate(more, tmp_path / "grown", weights_path=path, stage=told(seen))
    assert seen[0] == (6, 10)
    assert {name: (grown.path / name).stat().st_mtime_ns for name in before} == before
    assert files(grown) == files(generate(more, tmp_path / "at-once", weights_path=path))


@pytest.mark.parametrize("classes", [(3, 10), (-1,)])
def test_a_class_out_of_range(classes):
    text = rf"class {classes[-1]} is out of range of digits-skip; its classes are 0 to 9"
    with pytest.raises(UsageError, match=text):
        runs.make_run("digits-skip", settings={"classes": classes})


def test_classes_guidance_and_prompts_where_they_have_no_meaning():
    with pytest.raises(
        UsageError, match=r"guidance 7\.0 needs classes and taichi is unconditional"
    ):
        runs.make_run("taichi", settings={"guidance": 7.0})
    with pytest.raises(UsageError, match="needs classes and taichi is unconditional; leave"):
        runs.make_run("taichi", settings={"classes": (1,)})
    with pytest.raises(UsageError, match="needs classes and latte takes text; leave classes out"):
        runs.make_run("latte", settings={"classes": (1,)})
    with pytest.raises(UsageError, match="needs text and ucf101 takes no text; leave prompts out"):
        runs.make_run("ucf101", settings={"prompts": ("a horse",)})
    with pytest.raises(UsageError, match="negative_prompt a horse needs text and ucf101 takes no"):
        runs.make_run("ucf101", settings={"negative_prompt": "a horse"})
    with pytest.raises(UsageError, match="a negative prompt changes nothing without guidance"):
        runs.make_run("latte", settings={"negative_prompt": "a horse", "guidance": None})


def test_the_negative_prompt_is_the_models_own_where_none_is_given():
    """The official HunyuanDiT has one, other models and the embedded ones the empty one."""
    official = (
        "错误的眼睛，糟糕的人脸，毁容，糟糕的艺术，变形，"
        "多余的肢体，模糊的颜色，模糊，重复，病态，残缺，"
    )
    assert runs.make_run("hunyuan-dit").negative_prompt == official
    for name in ("latte", "latte-skip", "captioned-digits", "painted-digits"):
        assert runs.make_run(name).negative_prompt == ""
    for given in ("", "a horse"):
        wanted = runs.make_run("hunyuan-dit", settings={"negative_prompt": given})
        assert wanted.negative_prompt == given
        assert wanted.key != runs.make_run("hunyuan-dit").key
        assert runs.from_dict(wanted.to_dict()) == wanted
    unguided = runs.make_run("hunyuan-dit", settings={"guidance": None})
    assert unguided.negative_prompt == ""


def test_the_negative_prompt_counts_for_text_models_alone():
    """Keys of class models do not know of it."""
    assert "negative_prompt" not in runs.make_run("digits").to_dict()
    assert runs.make_run("painted-digits").to_dict()["negative_prompt"] == ""


@pytest.mark.parametrize(
    "prompts", [(), ("a", 3), ("a", "b\udc80"), ("a", "b\x1b[2J"), ("x" * 10_001,)]
)
def test_prompts_that_cannot_be_encoded_kept_or_printed(prompts):
    with pytest.raises(UsageError) as caught:
        runs.make_run("painted-digits", settings={"prompts": prompts}, place="--prompt")
    assert str(caught.value).startswith("--prompt: ")
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 200


def test_missing_weights_name_the_download(tmp_path):
    with pytest.raises(MissingAssetError) as caught:
        generate(runs.make_run("ucf101-skip", "skip-cache"), tmp_path)
    assert caught.value.exit_code == 4
    said = "`skipdit download ucf101-skip --accept-license` (about 2.77 GB, and 335.0 MB of vae)"
    assert said in str(caught.value)
    assert list(tmp_path.iterdir()) == []


def test_values_that_are_not_finite_are_not_stored(checkpoint, tmp_path):
    path = tmp_path / "broken.safetensors"
    state = load_file(checkpoint("digits-skip"))
    state["final_layer.linear.bias"][0] = float("nan")
    save_file(state, path)
    wanted = runs.make_run(
        "digits-skip", settings={"steps": 2, "num_samples": 1}, weights_path=path
    )
    with pytest.raises(
        SkipditError, match="digits-skip gave values that are not finite in float32"
    ):
        generate(wanted, tmp_path / "out", weights_path=path)
    assert open_store(tmp_path / "out", wanted).missing([0]) == [0]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_one_value_of_one_sample_that_is_not_finite_is_enough(
    planned, tmp_path, monkeypatch, value
):
    wanted, path = planned(IMAGES, 4)
    latents_of = generating.latents_of

    def broken(*args, **kwargs):
        latents = latents_of(*args, **kwargs)
        latents[2, 0, 5, 5] = value
        return latents

    monkeypatch.setattr(generating, "latents_of", broken)
    with pytest.raises(SkipditError, match="gave values that are not finite"):
        generate(wanted, tmp_path, weights_path=path)
    assert open_store(tmp_path, wanted).missing(range(4)) == [0, 1, 2, 3]


def test_a_folder_that_cannot_be_written_is_found_before_anything_is_computed(
    planned, tmp_path, monkeypatch
):
    wanted, path = planned(IMAGES, 1)
    root = Path(tmp_path / "file")
    root.write_text("")
    monkeypatch.setattr(generating, "make", lambda *_: pytest.fail("computed"))
    with pytest.raises(StoreError, match=str(root)):
        generate(wanted, root, weights_path=path)


def test_a_run_of_other_weights_is_refused(planned, tmp_path):
    wanted, path = planned(IMAGES, 1, seed=12)
    other = replace(wanted, weights="0123456789abcdef")
    with pytest.raises(UsageError, match="is of the weights 0123456789abcdef and these are"):
        generate(other, tmp_path, weights_path=path)
    assert not (tmp_path / "samples").exists()


def test_run_json_and_the_journal_name_the_device_that_computed(planned, tmp_path, monkeypatch):
    wanted, path = planned(IMAGES, 4)
    name = "skipdit_cli.generate.batch.provenance.device_name"
    monkeypatch.setattr(name, lambda device: f"what is called {device}")
    store = generate(wanted, tmp_path, weights_path=path)
    told = json.loads((store.path / "run.json").read_text())["provenance"]["device"]
    assert told == "what is called cpu"
    assert {store._entry(i)["device"] for i in range(4)} == {told}


def test_without_previews_the_clips_are_the_same(planned, tmp_path):
    wanted, path = planned(CLIPS, 2)
    plain = generate(wanted, tmp_path / "plain", weights_path=path)
    without = generate(wanted, tmp_path / "without", weights_path=path, previews=False)
    assert files(without) == files(plain)
    assert (plain.path / "previews").is_dir()
    assert not (without.path / "previews").exists()

"""The models that ship: small, recorded, and they draw the digits they are asked for."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline

from skipdit_cli import registry
from skipdit_cli.checkpoints import catalog, networks
from skipdit_cli.embedded import reference_statistics, shipped
from skipdit_cli.embedded.classifier import load_classifier
from skipdit_cli.generate import decode, rng, text
from skipdit_cli.generate.loop import denoise
from skipdit_cli.metrics import accuracy_at_digits, motion_at_digits
from skipdit_cli.metrics._embedded import predicted_classes
from skipdit_cli.recipe import prompts
from skipdit_cli.spec import parse_cache
from skipdit_cli.train import data

FOLDER = shipped.embedded()
ROOT, OUT = Path(__file__).parents[2], "skipdit_cli/embedded"
NETWORKS = [card for card in catalog.CARDS.values() if card.embedded]
EMBEDDED = [*NETWORKS, *catalog.PIPELINES.values()]


def draw(name: str, count: int, **settings) -> tuple[np.ndarray, np.ndarray]:
    """uint8 samples [N, T, side, side, 3] of classes 0, 1, ... 9, 0, ... and the classes."""
    card, model = catalog.card(name), networks.load(catalog.card(name))
    shape = model.inputs(1)["hidden_states"].shape[1:]
    labels = torch.arange(count) % 10
    sampling = {"sampler": "ddim", "steps": "20", "guidance": card.sampling.guidance, **settings}
    sampling["sampler"] = registry.load("samplers", sampling["sampler"])
    cache = parse_cache(sampling.pop("cache", "none")).resolve(model.layout())
    latents = denoise(
        model,
        rng.batch_normal(shape, seed=1, indices=range(count), step=rng.INITIAL),
        step_noise=lambda step: pytest.fail("DDIM asked for noise"),
        conditions={"class_labels": labels},
        null={"class_labels": torch.full_like(labels, 10)},
        cache=cache,
        **sampling,
    )
    pixels = decode.to_pixels(latents, card, channel_dim=model.CHANNEL_DIM)
    return pixels.reshape(count, -1, *pixels.shape[-3:]), labels.numpy()


def draw_text(name: str, count: int, root, **settings) -> tuple[np.ndarray, list[dict]]:
    """uint8 samples of the model's own prompts, as many of each digit and direction, and metas."""
    card, model = catalog.card(name), networks.load(catalog.card(name))
    shape = model.inputs(1)["hidden_states"].shape[1:]
    captions = prompts.read_prompts(card.prompts).texts
    asked = [captions[i % len(captions)] for i in range(count)]
    text.encode(card, asked, root=root)
    given, null = text.conditions(card, asked, root=root)

    def noise(step):
        return rng.batch_normal(shape, seed=1, indices=range(count), step=step)

    latents = denoise(
        model,
        noise(rng.INITIAL),
        step_noise=noise,
        conditions=given,
        null=null,
        trained=card.sampling,
        guidance=card.sampling.guidance,
        cache=parse_cache("none").resolve(model.layout()),
        sampler=registry.load("samplers", settings.get("sampler", card.sampling.sampler)),
        steps=settings.get("steps", card.sampling.steps),
    )
    pixels = decode.to_pixels(latents, card, channel_dim=model.CHANNEL_DIM)
    return pixels, [{"prompt": caption} for caption in asked]


def size(folders) -> int:
    files = [path for name in folders for path in (FOLDER / name).rglob("*") if path.is_file()]
    return sum(path.stat().st_size for path in files)


def test_the_embedded_models_are_small():
    """The text models with their encoders, those of digits and those of clothes with the classifier
    of these: 6 MB each. A pipeline: 2.5 MB."""
    groups = {"text": {"text"}, "digits": {"classifier"}, "fashion": {"fashion-classifier"}}
    for card in NETWORKS:
        groups["text" if card.text else card.dataset].add(card.name)
    assert sorted(map(len, groups.values())) == [3, 4, 5]
    groups["pipelines"] = {*catalog.PIPELINES}
    assert set.union(*groups.values()) == {
        path.name for path in FOLDER.iterdir() if path.is_dir() and path.name != "__pycache__"
    }
    assert size(groups["pipelines"]) < 2_500_000
    assert all(1_000_000 < size(folders) < 6_000_000 for folders in groups.values())


@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
def test_how_a_model_was_made_is_recorded(card):
    record = json.loads((FOLDER / card.name / "training.json").read_text(encoding="utf-8"))
    assert record["command"].startswith(f"skipdit train --model {card.name} ")
    assert record["seconds"] > 0
    assert f"--seed {record['settings']['seed']} " in record["command"]
    steps, losses = zip(*record["loss_curve"], strict=True)
    assert list(steps) == list(range(steps[0], steps[-1] + 1, steps[0]))
    assert steps[0] in (50, 100)  # as often as was logged by then
    trained_before = card.skip and not card.native_skip
    assert np.mean(losses[-3:]) < 0.7 * losses[0] or trained_before
    assert 0.5e6 < record["parameters"] < (1.5e6 if card.dataset == "fashion" else 1e6)


def test_make_train_is_what_was_recorded():
    """Command by command; a model that was trained further has two. When the first were made,
    weights were written in float16 without being asked for."""
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8").replace("\\\n", " ")
    makefile = makefile.replace("--half ", "")
    lines = makefile.replace("$(SKIPDIT)", "skipdit").replace("$(EMBEDDED)", OUT).splitlines()
    made = [" ".join(line.split()) for line in lines if line.startswith("\tskipdit train ")]
    recorded = []
    for path in (*FOLDER.glob("*/training.json"), *FOLDER.glob("*/parts.json")):
        record = json.loads(path.read_text(encoding="utf-8"))
        recorded += [
            part["command"].replace("--half ", "")
            for part in (record.get("before"), record)
            if part
        ]
    assert sorted(made) == sorted(recorded)


def test_how_the_text_encoders_were_made_is_recorded():
    record = json.loads((FOLDER / "text" / "training.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("skipdit train --model text ")
    assert record["accuracy"] == 1  # every caption is told from the others, by both encoders


@pytest.mark.parametrize("card", NETWORKS, ids=lambda card: card.name)
def test_diffusers_loads_it(card):
    model = registry.load("models", card.family).MODEL.from_pretrained(FOLDER / card.name)
    ours = networks.load(card)
    assert all(
        torch.equal(model.state_dict()[key].float(), value)
        for key, value in ours.state_dict().items()
    )


@pytest.mark.parametrize("name", ["digits", "digits-skip"])
def test_digits_are_the_digits_asked_for(name):
    samples, classes = draw(name, 100)
    assert (predicted_classes(load_classifier("digits"), samples) == classes).mean() >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["fashion", "fashion-skip"])
def test_clothes_are_the_clothes_asked_for(name):
    samples, classes = draw(name, 100)
    assert samples.shape == (100, 1, 32, 32, 3)
    assert (predicted_classes(load_classifier("fashion"), samples) == classes).mean() >= 0.85


def test_the_classifier_of_clothes_knows_them():
    record = json.loads((FOLDER / "fashion-classifier" / "training.json").read_text("utf-8"))
    assert record["command"].startswith("skipdit train --model fashion-classifier ")
    assert record["accuracy_test"] >= 0.9


@pytest.mark.slow
@pytest.mark.parametrize("name", ["moving-digits", "moving-digits-skip"])
def test_clips_show_the_digit_asked_for_and_it_moves(name):
    samples, classes = draw(name, 40)
    assert samples.shape == (40, 8, 16, 16, 3)
    assert (predicted_classes(load_classifier("digits"), samples) == classes).mean() >= 0.9
    mass = samples[..., 0].astype(float) + 1e-9
    total = mass.sum((2, 3))
    place = np.arange(16)
    y = (mass.sum(3) * place).sum(2) / total  # [N, T], centre of mass in pixels
    x = (mass.sum(2) * place).sum(2) / total
    travelled = np.hypot(x[:, -1] - x[:, 0], y[:, -1] - y[:, 0])
    assert np.median(travelled) > 2  # training clips travel 4 pixels


@pytest.mark.slow
def test_images_show_the_digit_of_their_caption(tmp_path):
    samples, metas = draw_text("painted-digits", 60, tmp_path, steps="ddim25+1")
    assert samples.shape == (60, 16, 16, 3)
    assert accuracy_at_digits.score_set(samples, metas) >= 0.85


@pytest.mark.slow
@pytest.mark.parametrize("name", ["captioned-digits", "captioned-digits-skip"])
def test_clips_move_as_their_captions_say(name, tmp_path):
    samples, metas = draw_text(name, 40, tmp_path, steps="ddim20")
    assert samples.shape == (40, 8, 16, 16, 3)
    assert motion_at_digits.score_set(samples, metas) >= 0.85
    assert accuracy_at_digits.score_set(samples, metas) >= 0.85


@pytest.fixture(scope="module")
def flow():
    """The folder of flow-digits, as diffusers loads it."""
    with text.quiet():
        pipe = DiffusionPipeline.from_pretrained(FOLDER / "flow-digits")
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.mark.parametrize(
    ("times", "call"),
    [
        pytest.param(2, {"guidance_scale": 3.0, "max_sequence_length": 8}, id="as its card says"),
        pytest.param(1, {}, id="diffusers' defaults", marks=pytest.mark.slow),
    ],
)
def test_a_plain_pipeline_draws_the_digits_of_its_captions(flow, times, call):
    captions = list(prompts.read_prompts("digits-image").texts) * times
    generators = [torch.Generator().manual_seed(i) for i in range(len(captions))]
    images = flow(captions, generator=generators, output_type="np", **call).images
    assert images.shape == (30 * times, 16, 16, 3)
    pixels, metas = (images * 255).round().astype(np.uint8), [{"prompt": c} for c in captions]
    assert accuracy_at_digits.score_set(pixels, metas) >= 0.85
    same = [i for i, caption in enumerate(captions) if caption == captions[0]]
    assert len({pixels[i].tobytes() for i in same}) == times  # of the same caption, by other noise


def test_its_autoencoder_gives_digits_back(flow):
    record = json.loads((FOLDER / "flow-digits" / "parts.json").read_text(encoding="utf-8"))
    assert record["command"].startswith("skipdit train --model flow-parts ")
    digits = data.digits(64, torch.Generator().manual_seed(5))[0].expand(-1, 3, -1, -1)
    with torch.no_grad():
        latents = flow.vae.encode(digits).latent_dist.mode()
        error = (flow.vae.decode(latents).sample.clamp(-1, 1) - digits).square().mean()
    psnr = 10 * np.log10(4 / error.item())
    assert psnr > 35
    assert psnr == pytest.approx(record["psnr"], abs=1)


def test_the_cache_changes_a_sample_little_and_more_with_n():
    reference, _ = draw("digits-skip", 10)
    errors = []
    for n in (1, 2, 4):
        cached, _ = draw("digits-skip", 10, cache=f"skip-cache(n={n},branch=1)")
        errors.append(np.abs(cached.astype(float) - reference).mean())
    assert errors[0] == 0
    assert 0 < errors[1] < errors[2] < 40


@pytest.mark.parametrize(
    ("name", "features"), [("digits", 64), ("moving-digits", 128), ("fashion", 64)]
)
def test_reference_statistics(name, features):
    mean, cov, count = reference_statistics(name)
    assert mean.shape == (features,)
    assert cov.shape == (features, features)
    assert mean.dtype == cov.dtype == np.float64
    assert count > 4000
    assert np.linalg.eigvalsh(cov).min() > -1e-9

"""The models that ship: small, recorded, and they draw the digits they are asked for."""

import json

import numpy as np
import pytest
import torch

from skipdit_cli import decode, registry, rng, weights
from skipdit_cli.embedded import FOLDER, reference_statistics
from skipdit_cli.embedded.classifier import load_classifier
from skipdit_cli.metrics._digits import predicted_classes
from skipdit_cli.run import denoise

EMBEDDED = [card for card in weights.CARDS.values() if card.embedded]


def draw(name: str, count: int, **settings) -> tuple[np.ndarray, np.ndarray]:
    """uint8 samples [N, T, 16, 16, 3] of classes 0, 1, ... 9, 0, ... and the classes."""
    card, model = weights.card(name), weights.load(name)
    shape = model.inputs(1)["hidden_states"].shape[1:]
    labels = torch.arange(count) % 10
    how = {"sampler": "ddim", "steps": "20", "guidance": card.sampling.guidance, "cache": "none"}
    latents = denoise(
        model,
        rng.batch_normal(shape, seed=1, indices=range(count), step=rng.INITIAL),
        step_noise=lambda step: pytest.fail("DDIM asked for noise"),
        labels=labels,
        **{**how, **settings},
    )
    pixels = decode.to_pixels(latents, None)
    return pixels.reshape(count, -1, *pixels.shape[-3:]), labels.numpy()


def test_all_embedded_files_together_are_small():
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 6_000_000


@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
def test_how_a_model_was_made_is_recorded(card):
    record = json.loads((FOLDER / card.name / "training.json").read_text(encoding="utf-8"))
    assert record["command"].startswith(f"skipdit train --model {card.name} ")
    assert record["seconds"] > 0
    assert record["settings"]["seed"] == 0
    steps, losses = zip(*record["loss_curve"], strict=True)
    assert list(steps) == list(range(100, steps[-1] + 1, 100))
    assert np.mean(losses[-3:]) < 0.7 * losses[0] or card.skip  # a skip model starts trained
    assert 0.5e6 < record["parameters"] < 1e6


@pytest.mark.parametrize("card", EMBEDDED, ids=lambda card: card.name)
def test_diffusers_loads_it(card):
    model = registry.load("models", card.family).MODEL.from_pretrained(FOLDER / card.name)
    ours = weights.load(card.name)
    assert all(
        torch.equal(model.state_dict()[key].float(), value)
        for key, value in ours.state_dict().items()
    )


@pytest.mark.parametrize("name", ["digits", "digits-skip"])
def test_digits_are_the_digits_asked_for(name):
    samples, classes = draw(name, 100)
    assert (predicted_classes(load_classifier(), samples) == classes).mean() >= 0.9


@pytest.mark.parametrize("name", ["moving-digits", "moving-digits-skip"])
def test_clips_show_the_digit_asked_for_and_it_moves(name):
    samples, classes = draw(name, 100)
    assert samples.shape == (100, 8, 16, 16, 3)
    assert (predicted_classes(load_classifier(), samples) == classes).mean() >= 0.9
    mass = samples[..., 0].astype(float) + 1e-9
    total = mass.sum((2, 3))
    place = np.arange(16)
    y = (mass.sum(3) * place).sum(2) / total  # [N, T], centre of mass in pixels
    x = (mass.sum(2) * place).sum(2) / total
    travelled = np.hypot(x[:, -1] - x[:, 0], y[:, -1] - y[:, 0])
    assert np.median(travelled) > 2  # training clips travel 4 pixels


def test_the_cache_changes_a_sample_little_and_more_with_n():
    reference, _ = draw("digits-skip", 10)
    errors = []
    for n in (1, 2, 4):
        cached, _ = draw("digits-skip", 10, cache=f"skip-cache(n={n},branch=1)")
        errors.append(np.abs(cached.astype(float) - reference).mean())
    assert errors[0] == 0
    assert 0 < errors[1] < errors[2] < 40


@pytest.mark.parametrize(("name", "features"), [("digits", 64), ("moving-digits", 128)])
def test_reference_statistics(name, features):
    mean, cov, count = reference_statistics(name)
    assert mean.shape == (features,)
    assert cov.shape == (features, features)
    assert mean.dtype == cov.dtype == np.float64
    assert count > 4000
    assert np.linalg.eigvalsh(cov).min() > -1e-9

"""Metrics after 2020, against numbers that their authors' code printed (`golden/metrics/vision`).

dgm-eval 74c79f7 and dinov2 b8931f7 for what DINOv2 sees, cmmd-pytorch f7673a9, clean-fid e88c4d6;
torch-fidelity and torchmetrics run here.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from skipdit_cli.metrics import _dino, _inception, cmmd, kid

GOLDEN = Path(__file__).parent / "golden" / "metrics"
EXPECTED = json.loads((GOLDEN / "vision.json").read_text())
NOISE = np.load(GOLDEN / "images.npz")["noise_ref"]
TILED = np.tile(NOISE, (8, 6, 1))


def published(d=16, n=37):
    """Names and shapes of the published DINOv2, but small."""
    yield "embeddings.cls_token", (1, 1, d)
    yield "embeddings.mask_token", (1, d)
    yield "embeddings.position_embeddings", (1, 1 + n * n, d)
    yield "embeddings.patch_embeddings.projection.weight", (d, 3, 14, 14)
    yield "embeddings.patch_embeddings.projection.bias", (d,)
    for layer in ("encoder.layer.0", "encoder.layer.1"):
        wide = {f"attention.attention.{name}": (d, d) for name in ("query", "key", "value")}
        wide |= {"attention.output.dense": (d, d), "mlp.fc1": (4 * d, d), "mlp.fc2": (d, 4 * d)}
        for name, shape in wide.items():
            yield f"{layer}.{name}.weight", shape
            yield f"{layer}.{name}.bias", shape[:1]
        for name in ("norm1.weight", "norm1.bias", "norm2.weight", "norm2.bias"):
            yield f"{layer}.{name}", (d,)
        yield f"{layer}.layer_scale1.lambda1", (d,)
        yield f"{layer}.layer_scale2.lambda1", (d,)
    yield "layernorm.weight", (d,)
    yield "layernorm.bias", (d,)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """DINOv2 in the layout of the hub, with the weights that a formula gives."""
    from safetensors.torch import save_file
    from transformers import Dinov2Config

    made = tmp_path_factory.mktemp("dinov2")
    state = {}
    for n, (name, shape) in enumerate(sorted(published())):
        values = 0.3 * torch.sin(0.7390851 * torch.arange(np.prod(shape), dtype=torch.float64) + n)
        scales = name.endswith(("norm.weight", "norm1.weight", "norm2.weight", "lambda1"))
        state[name] = (values + scales).view(shape).float()
    Dinov2Config(**EXPECTED["dinov2"]["config"]).save_pretrained(made)
    save_file(state, made / "model.safetensors", metadata={"format": "pt"})
    return made


@pytest.mark.parametrize("case", EXPECTED["dinov2"]["cases"])
def test_dinov2_as_its_authors_run_it(folder, case):
    """Resize, crop, positions and class token, of images that are enlarged and made smaller."""
    which, _, how = case.partition(" ")
    image = {"up": NOISE, "down": TILED, "odd": TILED[:201, :333]}[which]
    size = {"cut": _dino.CUT, "whole": _dino.WHOLE}[how]
    (ours,) = _dino.features([image], _dino.load_v2(folder, "dinov2", "cpu", size))
    expected = EXPECTED["dinov2"]["cases"][case]
    np.testing.assert_allclose(ours, expected["official"], rtol=0, atol=2e-4)
    wrong = np.abs(ours - expected["WRONG_positions_of_transformers"])
    assert wrong.max() > 5e-3


def test_cmmd_on_the_embeddings_of_others():
    stored = np.load(GOLDEN / "clip.npz")
    sides = [stored[side].astype(np.float32) / 256 for side in ("image", "text")]
    ours = cmmd.of_embeddings(*(x / np.linalg.norm(x, axis=1, keepdims=True) for x in sides))
    assert ours == pytest.approx(EXPECTED["cmmd"]["float64"], rel=1e-6)
    assert ours == pytest.approx(EXPECTED["cmmd"]["float32"], abs=2e-4)


@pytest.mark.parametrize("case", EXPECTED["clean_resize"])
def test_the_resize_of_clean_fid(case):
    ours = _inception.stretched({"up_48x64": NOISE, "down_384": TILED}[case])
    expected = EXPECTED["clean_resize"][case]
    assert (ours.dtype, ours.shape) == (np.float32, (299, 299, 3))
    for (row, column), values in zip(expected["positions_hw"], expected["values"], strict=True):
        np.testing.assert_allclose(ours[row, column], values, atol=1e-4)
    assert float(ours.mean(dtype=np.float64)) == pytest.approx(expected["mean"], abs=1e-5)


def test_kid_is_that_of_torchmetrics_where_all_are_drawn():
    from torchmetrics.image.kid import poly_mmd

    random = np.random.default_rng(0)
    ours, real = (random.normal(size=(50, 8)) + shift for shift in (0, 0.3))
    expected = float(poly_mmd(torch.from_numpy(real), torch.from_numpy(ours)))
    assert kid.of_features(ours, real) == pytest.approx(expected, rel=1e-10)


def test_kid_is_that_of_torch_fidelity_where_some_are_drawn(monkeypatch):
    """By its own seed; the numbers that are made smaller here are its own too."""
    from torch_fidelity.defaults import DEFAULTS
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, kid_features_to_metric

    ours = (kid.SUBSETS, kid.MOST, kid.SEED)
    assert ours == tuple(DEFAULTS[each] for each in ("kid_subsets", "kid_subset_size", "rng_seed"))
    random = np.random.default_rng(0)
    samples, real = (random.normal(size=(60, 8)).astype(np.float32) for _ in range(2))
    monkeypatch.setattr(kid, "MOST", 40)
    expected = kid_features_to_metric(
        torch.from_numpy(samples), torch.from_numpy(real), kid_subset_size=40, verbose=False
    )[KEY_METRIC_KID_MEAN]
    found = kid.of_features(samples.astype(np.float64), real.astype(np.float64))
    assert found == pytest.approx(expected, rel=1e-4)

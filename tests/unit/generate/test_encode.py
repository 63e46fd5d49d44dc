"""Pixels to latents: those of the autoencoder itself, call by call, scaled."""

import diffusers
import pytest
import torch

from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.errors import MissingAssetError, SkipditError
from skipdit_cli.generate import decode, encode

KINDS = {
    "AutoencoderKL": ("dit-xl-2", {"norm_num_groups": 4, "block_out_channels": (4, 4, 8, 8)}),
    "AutoencoderKLTemporalDecoder": ("latte", {"block_out_channels": (32,) * 4}),
}


@pytest.fixture(params=[*KINDS][:1])
def small(request, tmp_path, monkeypatch):
    """A card and a small autoencoder in a folder, which is the card's."""
    name, sizes = KINDS[request.param]
    if request.param == "AutoencoderKL":
        sizes = {**sizes, "up_block_types": ("UpDecoderBlock2D",) * 4}
    torch.manual_seed(0)
    model = getattr(diffusers, request.param)(
        down_block_types=("DownEncoderBlock2D",) * 4,
        layers_per_block=1,
        scaling_factor=0.7,
        **sizes,
    ).eval()
    model.save_pretrained(tmp_path)
    monkeypatch.setattr(local, "component_path", lambda part: tmp_path)
    return catalog.card(name), model


@pytest.mark.parametrize("small", KINDS, indirect=True)
def test_latents_are_the_autoencoders_own(small, monkeypatch):
    card, model = small
    monkeypatch.setattr(decode, "PLACES", 2 * 4 * 4)  # two images of 32x32 at a time
    images = torch.rand(5, 3, 32, 32, generator=torch.Generator().manual_seed(1)) * 2 - 1
    seen = []
    kind = type(model)
    encode_it = kind.encode
    monkeypatch.setattr(kind, "encode", lambda self, x: seen.append(len(x)) or encode_it(self, x))
    mean, std = encode.posterior(images, card)
    assert seen == [2, 2, 1]
    assert mean.shape == std.shape == (5, 4, 4, 4)
    with torch.no_grad():
        for first, last in ((0, 2), (2, 4), (4, 5)):
            own = model.encode(images[first:last]).latent_dist
            # to the last bits: some processors multiply otherwise as memory is aligned otherwise
            torch.testing.assert_close(mean[first:last], own.mean * 0.7, rtol=1e-6, atol=1e-6)
            torch.testing.assert_close(std[first:last], own.std * 0.7, rtol=1e-6, atol=1e-6)
    assert std.min() > 0


def test_an_autoencoder_in_16_bits(small):
    card, _ = small
    images = torch.rand(1, 3, 16, 16) * 2 - 1
    fine, coarse = (encode.posterior(images, card, precision=p)[0] for p in ("float32", "bfloat16"))
    assert coarse.dtype == torch.float32
    assert 0 < (fine - coarse).abs().max() < 0.05


def test_what_is_not_finite_is_no_latent(small):
    card, _ = small
    with pytest.raises(SkipditError, match=f"{card.name} gave values that are not finite"):
        encode.posterior(torch.full((1, 3, 16, 16), float("nan")), card)


def test_an_autoencoder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    with pytest.raises(MissingAssetError, match="the vae of ffs is not here"):
        encode.posterior(torch.zeros(1, 3, 16, 16), catalog.card("ffs"))

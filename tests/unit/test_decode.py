"""Latents to pixels: the rounding by hand, shapes, and the autoencoder's scale."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skipdit_cli import decode
from skipdit_cli.decode import to_pixels, to_uint8
from skipdit_cli.errors import MissingAssetError


@pytest.mark.parametrize(
    ("value", "pixel"),
    [
        (-1.0, 0),  # 0.5, cut off
        (-0.9961, 0),  # 0.997...
        (-0.996, 1),  # 1.01
        (-1 / 255, 127),  # 127.5
        (-0.001, 127),  # 127.87: cut off, not rounded
        (0.0, 128),
        (0.5, 191),  # 191.75
        (0.996, 254),  # 254.99
        (1.0, 255),  # 255.5
        (-7.0, 0),
        (7.0, 255),
    ],
)
def test_values(value, pixel):
    assert to_uint8(torch.full((1, 1, 1, 1), value)).flatten().tolist() == [pixel] * 3


def test_grey_becomes_three_equal_channels_and_colours_keep_their_order():
    grey = torch.tensor([[[[-1.0, 0.0], [0.5, 1.0]]]])
    assert to_uint8(grey)[0, :, :, 1].tolist() == [[0, 128], [191, 255]]
    assert to_uint8(grey)[0, 1, 0].tolist() == [191] * 3
    colour = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    assert to_uint8(colour)[0, 0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("batch", [(4,), (2, 3)])
def test_images_and_clips(batch):
    latents = torch.linspace(-1, 1, 4 * 3 * 20)[: int(np.prod(batch)) * 20].reshape(*batch, 1, 4, 5)
    pixels = to_pixels(latents, None)
    assert pixels.shape == (*batch, 4, 5, 3)
    assert pixels.dtype == np.uint8
    one = to_uint8(latents[(1,) * len(batch)][None])[0]
    assert np.array_equal(pixels[(1,) * len(batch)], one.numpy())


def test_latents_are_unscaled_and_decoded_a_few_frames_at_a_time(monkeypatch):
    """A stand-in that gives the first three channels back, eight times as large."""
    parts = []

    def decoder(latents):
        parts.append(latents)
        return SimpleNamespace(
            sample=latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
        )

    asked = []

    def autoencoder(name, device):
        asked.append((name, device))
        return SimpleNamespace(decode=decoder)

    monkeypatch.setattr(decode, "_autoencoder", autoencoder)
    latents = 0.18215 * torch.rand(2, 20, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    pixels = to_pixels(latents.half(), "some/vae")
    assert asked == [("some/vae", "cpu")]
    assert [len(part) for part in parts] == [16, 16, 8]
    assert all(part.dtype == torch.float32 for part in parts)
    assert pixels.shape == (2, 20, 16, 16, 3)
    expected = to_uint8(latents.half().float()[1, 7, :3][None] / 0.18215)[0].numpy()
    assert np.array_equal(pixels[1, 7, ::8, ::8], expected)


@pytest.mark.filterwarnings("ignore:The `local_dir_use_symlinks`:UserWarning")
def test_an_autoencoder_that_is_not_there(capfd):
    with pytest.raises(MissingAssetError) as caught:
        to_pixels(torch.zeros(1, 4, 2, 2), "nobody/no-such-autoencoder")
    assert str(caught.value) == (
        "the autoencoder nobody/no-such-autoencoder is not here and cannot be fetched; "
        "run `hf download nobody/no-such-autoencoder` where there is a network"
    )
    assert capfd.readouterr().err == ""  # one line is what people see, not the libraries' advice

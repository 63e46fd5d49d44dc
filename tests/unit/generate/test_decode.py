"""Latents to pixels: the rounding by hand, shapes, and the autoencoder's scale."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from skipdit_cli.checkpoints import catalog, local
from skipdit_cli.checkpoints.card import Component
from skipdit_cli.errors import MissingAssetError
from skipdit_cli.generate import decode
from skipdit_cli.generate.decode import to_pixels, to_uint8

PIXELS = SimpleNamespace(task="c2v", components={})  # a model that works on pixels


@pytest.mark.parametrize("task", ["c2i", "c2v"])
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
def test_values(value, pixel, task):
    images = torch.full((1, 1, 1, 1), value)
    assert to_uint8(images, task=task).flatten().tolist() == [pixel] * 3


def test_grey_becomes_three_equal_channels_and_colours_keep_their_order():
    grey = torch.tensor([[[[-1.0, 0.0], [0.5, 1.0]]]])
    assert to_uint8(grey)[0, :, :, 1].tolist() == [[0, 128], [191, 255]]
    assert to_uint8(grey)[0, 1, 0].tolist() == [191] * 3
    colour = torch.tensor([-1.0, 0.0, 1.0]).reshape(1, 3, 1, 1)
    assert to_uint8(colour)[0, 0, 0].tolist() == [0, 128, 255]


@pytest.mark.parametrize("batch", [(4,), (2, 3)])
def test_images_and_clips(batch):
    latents = torch.linspace(-1, 1, 4 * 3 * 20)[: int(np.prod(batch)) * 20].reshape(*batch, 1, 4, 5)
    pixels = to_pixels(latents, PIXELS, channel_dim=latents.dim() - 3)
    assert pixels.shape == (*batch, 4, 5, 3)
    assert pixels.dtype == np.uint8
    one = to_uint8(latents[(1,) * len(batch)][None])[0]
    assert np.array_equal(pixels[(1,) * len(batch)], one.numpy())


def stand_in(parts, kind, scale):
    """An autoencoder that gives the first three channels back, eight times as large."""

    def decode(self, latents, **given):
        parts.append((latents, given))
        return SimpleNamespace(
            sample=latents[:, :3].repeat_interleave(8, 2).repeat_interleave(8, 3)
        )

    content = {"config": SimpleNamespace(scaling_factor=scale), "decode": decode}
    content["to"] = lambda self, device: self
    return type(kind, (), content)()


@pytest.mark.parametrize(
    ("task", "kind", "scale"),
    [
        ("c2v", "AutoencoderKL", 0.18215),
        ("t2v", "AutoencoderKLTemporalDecoder", 0.18215),
        ("t2i", "AutoencoderKL", 0.13025),
    ],
)
def test_latents_are_unscaled_and_decoded_a_few_frames_at_a_time(
    monkeypatch, tmp_path, task, kind, scale
):
    parts = []
    monkeypatch.setattr(local, "component_path", lambda part: tmp_path)
    monkeypatch.setattr(decode, "autoencoder", lambda *_, **__: stand_in(parts, kind, scale))
    vae = {"vae": Component("some/vae")}
    card = SimpleNamespace(name="one", task=task, components=vae, random=False)
    frames = (20,) if task != "t2i" else ()
    latents = scale * torch.rand(2, *frames, 4, 2, 2, generator=torch.Generator().manual_seed(0))
    laid = latents.transpose(1, 2) if task == "t2v" else latents
    pixels = to_pixels(laid.half(), card, channel_dim=2 if task == "c2v" else 1)
    assert [len(part) for part, _ in parts] == ([14, 6] * 2 if frames else [2])
    assert all(part.dtype == torch.float32 for part, _ in parts)
    temporal = [{"num_frames": n} for n in (14, 6, 14, 6)] if task == "t2v" else [{}] * len(parts)
    assert [given for _, given in parts] == temporal
    assert pixels.shape == (2, *frames, 16, 16, 3)
    place = (1, 7) if frames else (1,)
    one = (latents.half().float() / scale)[place][:3][None]
    expected = to_uint8(one, task=task)[0].numpy()
    assert np.array_equal(pixels[place][::8, ::8], expected)


@pytest.mark.parametrize(("side", "sizes"), [(32, [16, 4]), (48, [7, 7, 6]), (128, [1] * 20)])
def test_images_are_decoded_together_as_far_as_their_size_allows(
    monkeypatch, tmp_path, side, sizes
):
    """Sixteen of 256x256 take what one of 1024x1024 takes, however much memory is free."""
    parts = []
    monkeypatch.setattr(local, "component_path", lambda part: tmp_path)
    vae = stand_in(parts, "AutoencoderKL", 0.18215)
    monkeypatch.setattr(decode, "autoencoder", lambda *_, **__: vae)
    named = {"vae": Component("some/vae")}
    card = SimpleNamespace(name="one", task="c2i", components=named, random=False)
    latents = torch.arange(20.0).reshape(20, 1, 1, 1).expand(-1, 4, side, side) / 200
    pixels = to_pixels(latents, card)
    assert [len(part) for part, _ in parts] == sizes
    assert sum(sizes) == len(pixels) == 20
    assert [image[0, 0, 0] for image in pixels] == sorted({image[0, 0, 0] for image in pixels})


def test_text_to_video_is_cut_off_without_rounding():
    """The official pipeline: ((x / 2 + 0.5) * 255), truncated."""
    latents = torch.tensor([-1.0, -0.5, 0.0, 0.5, 1.0]).reshape(1, 1, 1, 1, 5)
    card = SimpleNamespace(task="t2v", components={})
    assert to_pixels(latents, card)[0, 0, 0, :, 0].tolist() == [0, 63, 127, 191, 255]


def test_an_autoencoder_that_is_not_there(monkeypatch, tmp_path):
    monkeypatch.setenv("SKIPDIT_HOME", str(tmp_path))
    with pytest.raises(MissingAssetError) as caught:
        to_pixels(torch.zeros(1, 4, 2, 2), catalog.card("dit-xl-2"))
    assert str(caught.value) == (
        "the vae of dit-xl-2 is not here; run `skipdit download dit-xl-2 --accept-license` "
        "(about 335.0 MB for this part)"
    )


def test_what_no_image_has_is_not_visible():
    """A model on pixels may stray beyond black and white; latents of an autoencoder are free."""
    x = torch.tensor([-3.0, -1.0, 0.25, 1.5])
    assert decode.visible(x, catalog.card("digits")).tolist() == [-1.0, -1.0, 0.25, 1.0]
    assert decode.visible(x, catalog.card("dit-xl-2-skip")) is x

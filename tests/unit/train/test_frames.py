"""From files to pixels: sizes of the models, cuts and halvings by hand, windows of clips."""

from collections import Counter
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit_cli.checkpoints import catalog
from skipdit_cli.errors import UsageError
from skipdit_cli.storage import codec
from skipdit_cli.train import frames
from skipdit_cli.train.frames import Preparation, framed, image, preparation

SHAPES = {  # side, channels, frames, interval, cut first
    "digits": (16, 1, None, 1, False),
    "moving-digits": (16, 1, 8, 3, False),
    "captioned-digits": (16, 1, 8, 4, True),
    "painted-digits": (16, 1, None, 1, False),
    "dit-xl-2": (256, 3, None, 1, False),
    "ucf101-skip": (256, 3, 16, 3, False),
    "latte": (512, 3, 16, 4, True),
    "hunyuan-dit": (1024, 3, None, 1, False),
}


@pytest.mark.parametrize("name", SHAPES)
def test_what_models_were_made_for(name):
    made = preparation(catalog.card(name))
    given = (made.side, made.channels, made.frames, made.interval, made.cut_first)
    assert given == SHAPES[name]
    assert (made.crops, made.seed) == (1, 0)


def test_intervals_and_crops_are_of_clips():
    made = preparation(catalog.card("moving-digits"), interval=1, crops=3, seed=4)
    assert (made.interval, made.crops, made.seed) == (1, 3, 4)
    for given, place in (({"interval": 1}, "--interval"), ({"crops": 2}, "--crops")):
        with pytest.raises(UsageError, match=f"{place}: digits makes images; leave it out"):
            preparation(catalog.card("digits"), **given)
    with pytest.raises(UsageError, match="1 or more"):
        preparation(catalog.card("moving-digits"), crops=0)


def test_squares_alone_are_made(monkeypatch):
    class Wide:
        CHANNEL_DIM = 1

        def inputs(self, batch_size):
            return {"hidden_states": torch.zeros(1, 3, 8, 16)}

    monkeypatch.setattr(frames.networks, "meta", lambda chosen: Wide())
    with pytest.raises(UsageError, match="digits takes 16x8 with 3 channels; only squares"):
        preparation(catalog.card("digits"))


def test_an_image_is_halved_by_means_and_cut_to_its_middle():
    """8x4 to 2x2: one halving to 4x2, no change of size, and the columns 1 and 2 of four."""
    levels = np.arange(32, dtype=np.uint8).reshape(4, 8) * 4
    means = levels.reshape(2, 2, 4, 2).mean(axis=(1, 3))
    assert np.asarray(image(Image.fromarray(levels), 2)).tolist() == means[:, 1:3].tolist()


def test_the_longer_side_is_cut_in_the_official_place():
    """7x4 to 4: no halving below twice the size; (7 - 4) // 2 is 1."""
    columns = np.tile(np.arange(7, dtype=np.uint8) * 30, (4, 1))
    assert np.asarray(image(Image.fromarray(columns), 4))[0].tolist() == [30, 60, 90, 120]
    rows = columns.T.copy()
    assert np.asarray(image(Image.fromarray(rows), 4))[:, 0].tolist() == [30, 60, 90, 120]


def test_small_images_are_enlarged():
    assert image(Image.new("RGB", (5, 3), (9, 8, 7)), 16).size == (16, 16)


def ramp(height, width):
    """A frame whose level is its column."""
    return torch.arange(float(width)).expand(1, height, width)


def test_a_frame_of_a_class_model_is_resized_and_then_cut():
    """8x4 to 2: columns in pairs 0.5, 2.5, 4.5, 6.5, of which the middle two stay."""
    assert framed(ramp(4, 8), 2, cut_first=False)[0].tolist() == [[2.5, 4.5]] * 2


def test_a_frame_of_a_text_model_is_cut_and_then_resized():
    """7x4 to 2: columns 2 to 5 (1.5 is rounded to even), in pairs."""
    assert framed(ramp(4, 7), 2, cut_first=True)[0].tolist() == [[2.5, 4.5]] * 2
    assert framed(ramp(4, 7), 2, cut_first=False)[0].tolist() != [[2.5, 4.5]] * 2


@pytest.mark.parametrize("shorter", [49, 98, 103, 240])
def test_frames_of_every_size_reach_the_size(shorter):
    """256 / 49 * 49 is 255.99... in floating point."""
    for size in ((shorter, 320), (320, shorter)):
        assert framed(torch.zeros(3, *size), 256, cut_first=False).shape == (3, 256, 256)


def test_windows_by_hand():
    """Of 24 frames, at the places 0 to 15 of 40 frames; officially 16, which fits, is left out."""
    made = Preparation(16, 1, frames=8, interval=3, crops=200)
    seen = Counter(tuple(made.window(40, 0, crop)) for crop in range(200))
    assert {places[0] for places in seen} == set(range(16))
    for places in seen:  # 23 / 7 frames apart, rounded down
        assert [b - a for a, b in pairwise(places)] == [3, 3, 3, 4, 3, 3, 4]
    assert made.window(24, 0, 0) == [0, 3, 6, 9, 13, 16, 19, 23]
    assert made.window(10, 0, 0) == [0, 1, 2, 3, 5, 6, 7, 9]
    assert made.window(8, 5, 2) == list(range(8))


def test_windows_depend_on_seed_item_and_crop_alone():
    made = Preparation(16, 1, frames=2, interval=1)
    draws = [made.window(1000, *which)[0] for which in ((0, 0), (0, 1), (1, 0))]
    draws.append(replace(made, seed=1).window(1000, 0, 0)[0])
    assert len({*draws}) == 4
    assert draws[0] == replace(made, crops=7, side=99).window(1000, 0, 0)[0]


def test_colours_become_grey_for_a_model_of_one_channel(tmp_path):
    Image.new("RGB", (8, 8), (255, 0, 0)).save(tmp_path / "a.png")
    grey = Preparation(4, 1).read(tmp_path / "a.png", 0)
    assert grey.shape == (1, 1, 4, 4)
    assert grey.unique().tolist() == [76]  # 0.299 of 255
    colour = Preparation(4, 3).read(tmp_path / "a.png", 0)
    assert colour[0, :, 0, 0].tolist() == [255, 0, 0]


def clip(path, length, side=(12, 10)):
    """Frame i is grey of level 5 i."""
    codec.write_clip(path, np.stack([np.full((*side, 3), 5 * i, np.uint8) for i in range(length)]))
    return path


def test_crops_of_a_clip_are_the_frames_of_its_windows(tmp_path):
    path = clip(tmp_path / "a.mkv", 40)
    made = Preparation(6, 1, frames=4, interval=3, crops=3, seed=2)
    pixels = made.read(path, 7)
    assert pixels.shape == (3, 4, 1, 6, 6)
    assert pixels.dtype == torch.float32
    for crop in range(3):
        expected = [5.0 * place for place in made.window(40, 7, crop)]
        assert pixels[crop].flatten(1).mean(1).tolist() == expected


def test_a_clip_with_too_few_frames(tmp_path):
    path = clip(tmp_path / "a.mkv", 3)
    with pytest.raises(UsageError, match=r"a\.mkv: has 3 frames, and the model takes 4"):
        Preparation(6, 1, frames=4).read(path, 0)


def test_a_folder_of_frames_is_a_clip(tmp_path):
    for i in range(10):
        Image.new("L", (4, 4), 20 * i).save(tmp_path / f"frame{i}.png")
    pixels = Preparation(4, 3, frames=10).read(tmp_path, 0)
    assert pixels.flatten(2).mean(2)[0].tolist() == [20.0 * i for i in range(10)]

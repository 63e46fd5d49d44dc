"""Images, frames and windows of clips for training against the official transforms.

`golden/transforms.json`: what `center_crop_arr`, `UCFCenterCropVideo` (c2v) and
`CenterCropResizeVideo` (t2v) of OpenSparseLLMs/Skip-DiT 72609de make of pictures that a formula
gives, in levels; and every list of frames that `TemporalRandomCrop` and `linspace` give.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from skipdit_cli.train.frames import Preparation, framed, image

GOLDEN = json.loads((Path(__file__).parent / "golden" / "transforms.json").read_text())


def picture(height, width):
    i, j, c = np.meshgrid(*map(np.arange, (height, width, 3)), indexing="ij")
    return ((7 * i * i + 13 * j * (1 + c) + 29 * c) % 256).astype(np.uint8)


@pytest.mark.parametrize("case", GOLDEN["frames"], ids=lambda case: f"{case['size']}")
def test_frames(case):
    pixels, side = picture(*case["size"]), case["side"]
    assert np.asarray(image(Image.fromarray(pixels), side)).flatten().tolist() == case["image"]
    frame = torch.from_numpy(pixels).permute(2, 0, 1).float()
    for task in ("c2v", "t2v"):
        found = framed(frame, side, cut_first=task == "t2v").flatten()
        assert torch.allclose(found, torch.tensor(case[task]), atol=2e-3, rtol=0)


@pytest.mark.parametrize("case", GOLDEN["windows"], ids=lambda case: f"{case['length']}")
def test_windows(case):
    made = Preparation(8, 3, frames=case["frames"], interval=case["interval"])
    found = {tuple(made.window(case["length"], 0, crop)) for crop in range(400)}
    assert sorted(map(list, found)) == case["places"]

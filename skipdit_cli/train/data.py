"""Real data that a dependency ships: scikit-learn's handwritten digits, still and moving.

Source: UCI "Optical Recognition of Handwritten Digits" test set, 1,797 images of 8x8 pixels, as in
`sklearn.datasets.load_digits`. Every draw is slightly rotated, scaled and shifted.
"""

from functools import cache

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from skipdit_cli.errors import MissingAssetError

SIDE = 16  # of a training image or frame, in pixels
FRAMES = 8
NUM_CLASSES = 10
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))  # right, left, down, up: (rows, columns) per frame


@cache
def _load() -> tuple[Tensor, Tensor]:
    """Images [1797, 1, 8, 8] in [0, 1] and labels [1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingAssetError(
            "training needs scikit-learn's digits", fix="pip install 'skipdit[train]'"
        ) from None
    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 16
    return images, torch.from_numpy(data.target).long()


def _draw(count: int, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Random digits, varied: [count, 1, side, side] in [0, 1], labels [count]."""
    images, labels = _load()
    chosen = torch.randint(len(images), (count,), generator=generator)
    angle, scale, shift_x, shift_y = (torch.rand(count, 4, generator=generator) * 2 - 1).unbind(1)
    angle, scale = 0.15 * angle, 1 + 0.08 * scale  # radians, factor
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [
        torch.stack([cosine, -sine, 0.06 * shift_x], dim=1),
        torch.stack([sine, cosine, 0.06 * shift_y], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 1, side, side], align_corners=False)
    enlarged = F.interpolate(images[chosen], size=(side, side), mode="bicubic").clamp(0, 1)
    return F.grid_sample(enlarged, grid, align_corners=False), labels[chosen]


def digits(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Still digits: [count, 1, 16, 16] in [-1, 1], labels [count]."""
    images, labels = _draw(count, SIDE, generator)
    return images * 2 - 1, labels


def moving_digits(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Digits of 8x8 pixels that move one pixel a frame: [count, 8, 1, 16, 16], labels [count].

    Each clip moves right, left, down or up and stays inside the frame.
    """
    small, labels = _draw(count, SIDE // 2, generator)
    free = SIDE - SIDE // 2  # how far the digit's corner can go
    travel = FRAMES - 1
    across = torch.randint(free + 1, (count,), generator=generator)
    along = torch.randint(free - travel + 1, (count,), generator=generator)
    chosen = torch.tensor(DIRECTIONS)[torch.randint(4, (count,), generator=generator)]  # [N, 2]
    step = torch.arange(FRAMES)
    forward = along[:, None] + step  # [N, F]: a path that goes up in its coordinate
    path = torch.where(chosen.sum(1)[:, None] > 0, forward, free - forward)
    vertical = chosen[:, 0].abs().bool()[:, None]
    top = torch.where(vertical, path, across[:, None])  # [N, F]
    left = torch.where(vertical, across[:, None], path)
    clips = torch.zeros(count, FRAMES, SIDE, SIDE)
    pixel = torch.arange(SIDE // 2)
    rows = top[:, :, None, None] + pixel[:, None]  # [N, F, 8, 1]
    columns = left[:, :, None, None] + pixel  # [N, F, 1, 8]
    n, f = torch.arange(count)[:, None, None, None], step[:, None, None]
    clips[n, f, rows, columns] = small
    return clips[:, :, None] * 2 - 1, labels


DATA = {"c2i": digits, "c2v": moving_digits}

"""Real data that a dependency ships: scikit-learn's handwritten digits, still and moving.

Source: UCI "Optical Recognition of Handwritten Digits" test set, 1,797 images of 8x8 pixels, as in
`sklearn.datasets.load_digits`. Every draw is slightly rotated, scaled and shifted.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from skipdit_cli.embedded import captions
from skipdit_cli.embedded.captions import IMAGE
from skipdit_cli.errors import MissingAssetError

SIDE = 16  # of a training image or frame, in pixels
FRAMES = 8
MOVING_SIDE = 12  # of a moving digit
TRAVEL = 4.0  # pixels from the first frame to the last
NUM_CLASSES = 10
DIRECTIONS = tuple(captions.DIRECTIONS.values())  # right, left, down, up: (rows, columns)


def require() -> None:
    """Raise a MissingAssetError unless the digits can be loaded."""
    _load()


@functools.cache
def _load() -> tuple[Tensor, Tensor]:
    """Images [1797, 1, 8, 8] in [0, 1] and labels [1797]."""
    try:
        from sklearn.datasets import load_digits
    except ImportError:
        raise MissingAssetError(
            "training needs scikit-learn's digits", fix="run `pip install scikit-learn`"
        ) from None
    data = load_digits()
    images = torch.from_numpy(data.images).float()[:, None] / 16
    return images, torch.from_numpy(data.target).long()


def _draw(count: int, side: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Random digits, varied: [count, 1, side, side] in [0, 1], labels [count]."""
    images, labels = _load()
    chosen = torch.randint(len(images), (count,), generator=generator)
    angle, scale, shift_x, shift_y = (torch.rand(count, 4, generator=generator) * 2 - 1).unbind(1)
    angle, scale = 0.1 * angle, 1 + 0.05 * scale  # radians, factor
    cosine, sine = angle.cos() * scale, angle.sin() * scale
    rows = [
        torch.stack([cosine, -sine, 0.04 * shift_x], dim=1),
        torch.stack([sine, cosine, 0.04 * shift_y], dim=1),
    ]
    grid = F.affine_grid(torch.stack(rows, dim=1), [count, 1, side, side], align_corners=False)
    enlarged = F.interpolate(images[chosen], size=(side, side), mode="bicubic").clamp(0, 1)
    return F.grid_sample(enlarged, grid, align_corners=False), labels[chosen]


def digits(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Still digits: [count, 1, 16, 16] in [-1, 1], labels [count]."""
    images, labels = _draw(count, SIDE, generator)
    return images * 2 - 1, labels


def moving_digits(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Digits of 12x12 pixels that move by 4 pixels: [count, 8, 1, 16, 16], labels [count].

    Each clip moves right, left, down or up at a steady speed, through the middle of the frame or up
    to a pixel beside it.
    """
    clips, labels, _ = _moving(count, generator)
    return clips, labels


def captioned_clips(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """`moving_digits` as [count, 1, 8, 16, 16], with the places of their captions in VIDEO."""
    clips, labels, heading = _moving(count, generator)
    return clips.transpose(1, 2), labels * len(DIRECTIONS) + heading


def captioned_digits(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """`digits`, with the places of their captions in IMAGE: each digit has several."""
    images, labels = digits(count, generator)
    forms = len(IMAGE) // NUM_CLASSES
    return images, labels * forms + torch.randint(forms, (count,), generator=generator)


def _moving(count: int, generator: Generator) -> tuple[Tensor, Tensor, Tensor]:
    """Clips [count, 8, 1, 16, 16], labels and directions (as places in DIRECTIONS), [count]."""
    small, labels = _draw(count, MOVING_SIDE, generator)
    margin = (SIDE - MOVING_SIDE) // 2
    images = F.pad(small, [margin] * 4)  # [N, 1, 16, 16], the digit in the middle
    aside = torch.rand(count, generator=generator) * 2 - 1
    direction = torch.randint(4, (count,), generator=generator)
    heading = torch.tensor(DIRECTIONS)[direction]  # [N, 2]
    along = torch.linspace(-TRAVEL / 2, TRAVEL / 2, FRAMES)  # [F]
    place = (
        heading[:, None] * along[:, None] + heading.flip(1).abs()[:, None] * aside[:, None, None]
    )
    theta = torch.eye(2, 3).repeat(count, FRAMES, 1, 1)  # [N, F, 2, 3]
    theta[..., 2] = -place.flip(2) * 2 / SIDE  # rows are x, then y, in half sides
    shape = [count * FRAMES, 1, SIDE, SIDE]
    grid = F.affine_grid(theta.flatten(0, 1), shape, align_corners=False)
    frames = images.repeat_interleave(FRAMES, dim=0)
    clips = F.grid_sample(frames, grid, align_corners=False).unflatten(0, (count, FRAMES))
    return clips * 2 - 1, labels, direction

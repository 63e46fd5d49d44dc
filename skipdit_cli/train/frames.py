"""Images and clips become pixels of the size that a model was made for, as in official training.

Images are halved while they are twice as large, brought to the size of their shorter side and cut
to their middle (ADM's rule, which DiT has). Of a clip, so many frames are taken from a window at a
random place, evenly spaced; each is brought to the size bilinearly, before it is cut to its middle
square (c2v) or after that (t2v).

Source: DiT `train.py`; Skip-DiT class-to-video and text-to-video `datasets` (72609de).
"""

import hashlib
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn.functional import interpolate

from skipdit_cli.checkpoints import networks
from skipdit_cli.checkpoints.card import Card
from skipdit_cli.errors import UsageError
from skipdit_cli.score import real_frames, real_videos

FACTOR = 8  # pixels of an image along one place of a latent
INTERVALS = {"c2v": 3, "t2v": 4}  # from one frame of a clip to the next, in official training
MODES = {1: "L", 3: "RGB"}


@dataclass(frozen=True)
class Preparation:
    """How files become pixels.

    Attributes:
        side: height and width, in pixels.
        channels: 1 for greyscale, 3 for RGB.
        frames: of a clip; None for images.
        interval: from one of them to the next, in frames of the file.
        crops: windows that are taken of a clip.
        cut_first: whether frames are cut before they are resized.
        seed: of the places of the windows.
    """

    side: int
    channels: int
    frames: int | None = None
    interval: int = 1
    crops: int = 1
    cut_first: bool = False
    seed: int = 0

    def read(self, path: Path, index: int) -> Tensor:
        """The pixels of a file, or of a folder of frames.

        Args:
            index: of the item; windows depend on the seed, this, and their number alone.
        Returns:
            float32 in [0, 255]: an image [1, C, side, side], or crops [crops, F, C, side, side].
        Raises:
            UsageError: it cannot be read, or has fewer frames than the model.
        """
        if self.frames is None:
            return _pixels(image(self._modal(real_frames.image(path)), self.side))[None]
        length = real_videos.length(path)
        if length < self.frames:
            raise UsageError(
                f"has {length} frames, and the model takes {self.frames}", place=str(path)
            )
        wanted = [self.window(length, index, crop) for crop in range(self.crops)]
        needed, found = {place for one in wanted for place in one}, {}
        for place, frame in enumerate(real_frames.frames(path)):
            if place in needed:
                pixels = _pixels(self._modal(frame))
                found[place] = framed(pixels, self.side, cut_first=self.cut_first)
        if len(found) < len(needed):
            problem = f"{real_frames.UNREADABLE} (it gives other frames each time)"
            raise UsageError(problem, place=str(path))
        return torch.stack([torch.stack([found[place] for place in one]) for one in wanted])

    def window(self, length: int, index: int, crop: int) -> list[int]:
        """The places of the frames of a crop in a file of so many frames.

        Officially the last place at which a window fits is left out; a window that is longer than
        the file is the whole file.

        >>> Preparation(8, 1, frames=4, interval=3).window(length=5, index=0, crop=0)
        [0, 1, 2, 4]
        """
        assert self.frames is not None
        size = self.frames * self.interval
        first = _draw(f"{self.seed}/{index}/{crop}") % (max(0, length - size - 1) + 1)
        last = min(first + size, length) - 1
        return np.linspace(first, last, self.frames, dtype=int).tolist()

    def _modal(self, pixels: np.ndarray) -> Image.Image:
        return Image.fromarray(pixels).convert(MODES[self.channels])


def preparation(
    chosen: Card, *, interval: int | None = None, crops: int = 1, seed: int = 0
) -> Preparation:
    """What a model was made for, its size being that of its inputs.

    Args:
        interval: of clips; None is that of official training.
        crops: windows of each clip.
    Raises:
        UsageError: an image has neither, or the model is made for no square images.
    """
    network = networks.meta(chosen)
    hidden = network.inputs(1)["hidden_states"]
    vae, clips = "vae" in chosen.components, hidden.dim() == 5
    channels = 3 if vae else hidden.shape[network.CHANNEL_DIM]
    if not clips and (interval is not None or crops != 1):
        what = "--interval" if interval is not None else "--crops"
        raise UsageError(f"{chosen.name} makes images", place=what, fix="leave it out")
    if min(crops, 1 if interval is None else interval) < 1:
        raise UsageError("must be 1 or more", place="--interval, --crops")
    *_, height, width = hidden.shape
    if height != width or channels not in MODES:
        raise UsageError(
            f"{chosen.name} takes {width}x{height} with {channels} channels",
            fix="only squares of 1 or 3 channels are made of files",
        )
    return Preparation(
        side=height * FACTOR if vae else height,
        channels=channels,
        frames=hidden.shape[3 - network.CHANNEL_DIM] if clips else None,
        interval=interval or INTERVALS.get(chosen.task, 1),
        crops=crops,
        cut_first=chosen.task == "t2v",
        seed=seed,
    )


def image(opened: Image.Image, side: int) -> Image.Image:
    """An image brought to a square, by ADM's rule."""
    while min(opened.size) >= 2 * side:
        half = opened.width // 2, opened.height // 2
        opened = opened.resize(half, resample=Image.Resampling.BOX)
    scale = side / min(opened.size)
    fitted = round(opened.width * scale), round(opened.height * scale)
    opened = opened.resize(fitted, resample=Image.Resampling.BICUBIC)
    left, top = (opened.width - side) // 2, (opened.height - side) // 2
    return opened.crop((left, top, left + side, top + side))


def framed(frame: Tensor, side: int, *, cut_first: bool) -> Tensor:
    """A frame [C, H, W] brought to a square [C, side, side], bilinearly.

    Args:
        cut_first: cut the middle square, then resize it; else the other way round.
    """
    shorter = min(frame.shape[1:])
    if cut_first:
        square = _middle(frame, shorter)
        return interpolate(square[None], size=(side, side), mode="bilinear")[0]
    scale = side / shorter
    while int(shorter * scale) < side:  # as for 49, where the official code would stop
        scale = math.nextafter(scale, math.inf)
    return _middle(interpolate(frame[None], scale_factor=scale, mode="bilinear")[0], side)


def _middle(frame: Tensor, side: int) -> Tensor:
    """The middle square of a frame [C, H, W]."""
    top, left = (round((size - side) / 2) for size in frame.shape[1:])
    return frame[:, top : top + side, left : left + side]


def _pixels(opened: Image.Image) -> Tensor:
    """An image -> float32 [C, H, W] in [0, 255]."""
    pixels = torch.from_numpy(np.array(opened, dtype=np.float32))
    return pixels[None] if pixels.dim() == 2 else pixels.permute(2, 0, 1).contiguous()


def _draw(name: str) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16)

"""A grid of samples: one row per sample, one column per run, the uncached reference first.

Many runs make several bands, one below the other, each with the reference.

The same row holds the same seed and index everywhere, so what a cache changes is seen by looking
along a row. Small pictures are enlarged by a whole factor without smoothing.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from skipdit_cli.storage.disk import write_whole

if TYPE_CHECKING:
    from PIL import Image

IMAGE_SIDE, FRAME_SIDE = 128, 64  # pixels that the shorter side of an image or a frame has at least
ACROSS = 7  # columns side by side
FONT, MARGIN, GAP, FRAME_GAP = 14, 12, 10, 2  # pixels
INK, FAINT = (20, 20, 20), (105, 105, 105)


@dataclass(frozen=True)
class GridColumn:
    """The samples of one run.

    Attributes:
        title: the first line above the column, e.g. "skip-cache n=2".
        subtitle: the second one, e.g. "31.20 dB".
        samples: uint8 RGB, images [H, W, 3] or clips [T, H, W, 3], all of one shape.
    """

    title: str
    subtitle: str
    samples: Sequence[np.ndarray]


def grid(
    columns: Sequence[GridColumn],
    path: Path,
    *,
    rows: Sequence[str],
    title: str = "",
    frames: int = 4,
) -> Path:
    """Write the grid as PNG; returns the path.

    Args:
        columns: the uncached reference first; every column has one sample per row.
        rows: what to write beside each row, e.g. "3" or "class 3".
        title: a line above everything.
        frames: how many frames of a clip to show, evenly spaced from the first to the last.
    Raises:
        StoreError: the disk is full or the folder cannot be written.
    """
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=FONT)
    reference, *others = columns
    bands = [
        [reference, *others[start : start + ACROSS - 1]]
        for start in range(0, max(1, len(others)), ACROSS - 1)
    ]
    pictures = [_band(band, rows=rows, frames=frames) for band in bands]
    head = MARGIN + (FONT + 5 + GAP if title else 0)
    size = (
        max(2 * MARGIN + int(font.getlength(title)), *(each.width for each in pictures)),
        head + sum(each.height for each in pictures),
    )
    whole = Image.new("RGB", size, "white")
    ImageDraw.Draw(whole).text((MARGIN, MARGIN), title, INK, font=font)
    top = head
    for picture in pictures:
        whole.paste(picture, (0, top))
        top += picture.height
    data = io.BytesIO()
    whole.save(data, "PNG")
    write_whole(path, data.getvalue())
    return path


def _band(columns: Sequence[GridColumn], *, rows: Sequence[str], frames: int) -> "Image.Image":
    """Columns side by side, with the labels of their rows."""
    from PIL import Image, ImageDraw, ImageFont

    font = ImageFont.load_default(size=FONT)
    cells = [[cell(sample, frames=frames) for sample in column.samples] for column in columns]
    line = FONT + 5
    top = 2 * line + 4
    side = max((int(font.getlength(text)) for text in rows), default=0) + GAP
    widths = [
        max(column_cells[0].width, *(int(font.getlength(t)) + 1 for t in (c.title, c.subtitle)))
        for c, column_cells in zip(columns, cells, strict=True)
    ]
    height = cells[0][0].height + GAP
    size = (
        MARGIN + side + sum(widths) + GAP * (len(widths) - 1) + MARGIN,
        top + height * len(rows) - GAP + MARGIN,
    )
    picture = Image.new("RGB", size, "white")
    draw = ImageDraw.Draw(picture)
    for i, text in enumerate(rows):
        middle = top + i * height + (height - GAP) // 2
        draw.text((MARGIN + side - GAP, middle), text, FAINT, font=font, anchor="rm")
    x = MARGIN + side
    for column, column_cells, width in zip(columns, cells, widths, strict=True):
        draw.text((x, 0), column.title, INK, font=font)
        draw.text((x, line), column.subtitle, FAINT, font=font)
        for i, image in enumerate(column_cells[: len(rows)]):
            picture.paste(image, (x, top + i * height))
        x += width + GAP
    return picture


def cell(sample: np.ndarray, *, frames: int = 4) -> "Image.Image":
    """One sample as it stands in the grid: an image, or frames of a clip side by side."""
    from PIL import Image

    clip = sample.ndim == 4
    shown = sample[picked(len(sample), frames)] if clip else sample[None]
    factor = max(1, -(-(FRAME_SIDE if clip else IMAGE_SIDE) // min(shown.shape[1:3])))
    large = shown.repeat(factor, axis=1).repeat(factor, axis=2)
    count, height, width, _ = large.shape
    image = Image.new("RGB", (count * (width + FRAME_GAP) - FRAME_GAP, height), "white")
    for i, frame in enumerate(large):
        image.paste(Image.fromarray(frame), (i * (width + FRAME_GAP), 0))
    return image


def picked(length: int, frames: int) -> list[int]:
    """Which frames of a clip are shown.

    >>> picked(8, 4), picked(2, 4)
    ([0, 2, 5, 7], [0, 1])
    """
    count = min(length, frames)
    return [round(i * (length - 1) / max(1, count - 1)) for i in range(count)]

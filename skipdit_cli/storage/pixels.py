"""A sample as the bytes of a file: an image as PNG, a clip as codec.py writes it."""

import io

import numpy as np


def encode(array: np.ndarray) -> bytes:
    """uint8 RGB [H, W, 3] or [T, H, W, 3], lossless."""
    file = io.BytesIO()
    if array.ndim == 4:
        from skipdit_cli.storage.codec import write_clip

        write_clip(file, array)
    else:
        from PIL import Image

        Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


def decode(data: bytes, *, clip: bool) -> np.ndarray:
    """What `encode` was given."""
    if clip:
        from skipdit_cli.storage.codec import read_clip

        return read_clip(io.BytesIO(data))
    from PIL import Image

    return np.array(Image.open(io.BytesIO(data)))


def preview(frames: np.ndarray) -> bytes:
    """A clip, uint8 RGB [T, H, W, 3], as an mp4 to look at."""
    from skipdit_cli.storage.codec import write_preview

    file = io.BytesIO()
    write_preview(file, frames)
    return file.getvalue()

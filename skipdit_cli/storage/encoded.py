"""A sample as the bytes of its file; what codes it is imported when it is needed."""

import io

import numpy as np


def encode(array: np.ndarray) -> bytes:
    """Pixels, uint8 [H, W, 3] or [T, H, W, 3], as a PNG or a lossless clip."""
    file = io.BytesIO()
    if array.ndim == 4:
        from skipdit_cli.storage.codec import write_clip

        write_clip(file, array)
    else:
        from PIL import Image

        Image.fromarray(array).save(file, format="PNG")
    return file.getvalue()


def decode(data: bytes, *, clip: bool) -> np.ndarray:
    """The very pixels that `encode` was given."""
    if clip:
        from skipdit_cli.storage.codec import read_clip

        return read_clip(io.BytesIO(data))
    from PIL import Image

    return np.array(Image.open(io.BytesIO(data)))


def preview(frames: np.ndarray) -> bytes:
    """A clip as a small mp4 to look at."""
    from skipdit_cli.storage.codec import write_preview

    file = io.BytesIO()
    write_preview(file, frames)
    return file.getvalue()

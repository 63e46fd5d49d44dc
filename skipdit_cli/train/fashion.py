"""Real data that Debian packages: Fashion-MNIST, pictures of clothes of ten kinds.

Source: github.com/zalandoresearch/fashion-mnist (MIT), 60,000 grey images of 28x28 pixels to train
on and 10,000 to test on, in the IDX format of MNIST. They lie in the middle of 32x32 black pixels.
"""

import functools
import gzip
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, UsageError

PACKAGED = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package has them
SIDE = 32  # of an image, in pixels
HEADER = {"images": 16, "labels": 8}  # bytes
PIXELS = 28


def require() -> None:
    """Raise a MissingAssetError unless the images can be read."""
    images("train")


@functools.cache
def images(part: str) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 28, 28] and labels int64 [N].

    Args:
        part: "train" or "t10k", the test set.
    Raises:
        MissingAssetError: they are not here. UsageError: a file is not what it should be.
    """
    pixels = _read(part, "images").view(-1, PIXELS, PIXELS)
    return pixels, _read(part, "labels").long()


def fashion(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Random clothes of the training set: [count, 1, 32, 32] in [-1, 1], labels [count]."""
    pixels, labels = images("train")
    chosen = torch.randint(len(pixels), (count,), generator=generator)
    return prepared(pixels[chosen]), labels[chosen]


def prepared(pixels: Tensor) -> Tensor:
    """uint8 [N, 28, 28] -> float32 [N, 1, 32, 32] in [-1, 1], black around."""
    margin = (SIDE - PIXELS) // 2
    return F.pad(pixels[:, None].float() / 127.5 - 1, [margin] * 4, value=-1)


def _read(part: str, kind: str) -> Tensor:
    name = f"{part}-{kind}-idx{3 if kind == 'images' else 1}-ubyte.gz"
    folders = (shipped.home() / "fashion-mnist", PACKAGED)
    if (found := next((each / name for each in folders if (each / name).is_file()), None)) is None:
        raise MissingAssetError(
            f"training needs Fashion-MNIST, and {name} is not here",
            fix=f"run `apt install dataset-fashion-mnist`, or put its files into {folders[0]}",
        )
    try:
        content = gzip.decompress(found.read_bytes())
    except (OSError, EOFError) as error:
        raise UsageError(f"cannot be read: {error}", place=str(found), fix="get it again") from None
    values = torch.frombuffer(bytearray(content[HEADER[kind] :]), dtype=torch.uint8)
    if len(values) % (PIXELS * PIXELS if kind == "images" else 1) or not len(values):
        raise UsageError("is not whole", place=str(found), fix="get it again")
    return values

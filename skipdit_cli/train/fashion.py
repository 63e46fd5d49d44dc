"""Real data that Debian packages: Fashion-MNIST, pictures of clothes of ten kinds.

Source: github.com/zalandoresearch/fashion-mnist (MIT), 60,000 grey images of 28x28 pixels to train
on and 10,000 to test on, in the IDX format of MNIST. They lie in the middle of 32x32 black pixels.
"""

import functools
import gzip
import math
import struct
import zlib
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from skipdit_cli.embedded import shipped
from skipdit_cli.errors import MissingAssetError, UsageError

PACKAGED = Path("/usr/share/datasets/fashion-mnist")  # where Debian's package has them
SIDE = 32  # of an image, in pixels
PIXELS = 28  # of the data's own
CLASSES = 10


def require() -> None:
    """Raise a MissingAssetError unless the images are here, a UsageError unless they are whole."""
    images("train")


@functools.cache
def images(part: str) -> tuple[Tensor, Tensor]:
    """Images uint8 [N, 28, 28] and labels int64 [N].

    Args:
        part: "train" or "t10k", the test set.
    Raises:
        MissingAssetError: they are not here. UsageError: a file is not what it should be.
    """
    pixels, where = _read(f"{part}-images-idx3-ubyte.gz", dimensions=3)
    if pixels.shape[1:] != (PIXELS, PIXELS):
        raise _bad(where, f"its images are not {PIXELS}x{PIXELS}")
    labels, where = _read(f"{part}-labels-idx1-ubyte.gz", dimensions=1)
    if len(labels) != len(pixels) or not len(labels) or labels.max() >= CLASSES:
        raise _bad(where, "is not of the images beside it")
    return pixels, labels.long()


def fashion(count: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Random clothes of the training set: [count, 1, 32, 32] in [-1, 1], labels [count]."""
    pixels, labels = images("train")
    chosen = torch.randint(len(pixels), (count,), generator=generator)
    return prepared(pixels[chosen]), labels[chosen]


def prepared(pixels: Tensor) -> Tensor:
    """uint8 [N, 28, 28] -> float32 [N, 1, 32, 32] in [-1, 1], black around."""
    margin = (SIDE - PIXELS) // 2
    return F.pad(pixels[:, None].float() / 127.5 - 1, [margin] * 4, value=-1)


def _read(name: str, *, dimensions: int) -> tuple[Tensor, Path]:
    """The bytes of a file in IDX format, in their shape, and where it is."""
    folders = (shipped.home() / "fashion-mnist", PACKAGED)
    if (found := next((each / name for each in folders if (each / name).is_file()), None)) is None:
        raise MissingAssetError(
            f"training needs Fashion-MNIST, and {name} is not here",
            fix=f"run `apt install dataset-fashion-mnist`, or put its files into {folders[0]}",
        )
    try:
        content = gzip.decompress(found.read_bytes())
    except (OSError, EOFError, zlib.error) as error:
        raise _bad(found, f"cannot be read: {error}") from None
    start = 4 * (1 + dimensions)  # bytes: what it is, and its sizes
    kind, *shape = struct.unpack(f">{1 + dimensions}I", content[:start].ljust(start, b"\0"))
    if kind != 0x800 + dimensions or math.prod(shape) != len(content) - start:
        raise _bad(found, "is not whole")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8)[start:].view(shape), found


def _bad(where: Path, problem: str) -> UsageError:
    return UsageError(problem, place=str(where), fix="get Fashion-MNIST again")

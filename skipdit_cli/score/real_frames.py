"""Files that others made become pixels: videos and images, turned upright, eight bits, RGB.

Nothing of a file is trusted: it is a file, no larger than makes sense; only plain containers of
videos are opened, none that name other files; and every error of a decoder is one line with the
name of the file.
"""

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import numpy as np

from skipdit_cli.errors import UsageError
from skipdit_cli.storage import given

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from PIL.Image import Image

IMAGES = (".jpg", ".jpeg", ".png", ".webp")
UNREADABLE = "cannot be read as a video"
FIX = "fetch it again, or take it out of the folder"
MOST_PIXELS = 2**26  # of a frame: 8192x8192, where 8K video has 7680x4320
_CONTAINERS = {
    "format_whitelist": "mov,mp4,avi,matroska,webm,mpeg,mpegts,flv,asf",
    "protocol_whitelist": "file",
}
_NUMBER = re.compile(r"(\d+)")


def frames(video: Path) -> Iterator[np.ndarray]:
    """The frames of a video file or a folder, uint8 [H,W,3].

    Raises:
        UsageError: one cannot be read.
    """
    if video.is_dir():
        yield from (image(file) for file in images(video))
        return
    if video.suffix.lower() == ".gif":
        yield from _gif(video)
        return
    for frame in _video(video):
        with given.decoding(str(video), UNREADABLE, fix=FIX):
            pixels = _upright(frame.to_ndarray(format="rgb24"), frame)
        yield pixels


def decoded(video: Path) -> Iterable[object]:
    """What a video has one of per frame, without their pixels: for counting.

    Raises:
        UsageError: it cannot be read.
    """
    return images(video) if video.is_dir() else _video(video)


def announced(video: Path) -> int:
    """How many frames the header of a file tells of; 0 where it tells nothing."""
    if video.is_dir():
        return 0
    with _opened(video) as container:
        return container.streams.video[0].frames


def coding(video: Path) -> tuple[str, str]:
    """Codec and pixel format of a video file: ("h264", "yuv420p").

    Raises:
        UsageError: it cannot be read.
    """
    with _opened(video) as container:
        context = container.streams.video[0].codec_context
        return context.name, context.pix_fmt or ""


def images(folder: Path) -> list[Path]:
    """The frames of a folder in the order of their numbers: frame2 comes before frame10.

    Raises:
        UsageError: some have a number and others none, or two have the same name.
    """
    files = [
        each
        for each in folder.iterdir()
        if each.suffix.lower() in IMAGES and not each.name.startswith(".") and not each.is_dir()
    ]
    numbered = [each for each in files if _NUMBER.search(each.stem)]
    if numbered and (others := sorted(set(files) - set(numbered))):
        raise UsageError(
            f"has no number, and {numbered[0].name} beside it has one",
            place=str(others[0]),
            fix="take it out of the folder of frames",
        )
    files.sort(key=lambda file: (natural(file.stem), file.name))
    for one, two in pairwise(files):
        if one.stem == two.stem:
            raise UsageError(f"is beside {two.name}", place=str(one), fix="leave one of them")
    return files


def image(path: Path) -> np.ndarray:
    """An image, uint8 [H,W,3], turned as its camera says.

    Raises:
        UsageError: it cannot be read, is too large, or its pixels are not plain colours.
    """
    from PIL import Image

    given.check(path, fix=FIX)
    with (
        given.decoding(str(path), "cannot be read as an image", fix=FIX),
        Image.open(path, formats=("JPEG", "PNG", "WEBP")) as opened,
    ):
        _check_size(*opened.size)
        if opened.format != "MPO" and getattr(opened, "is_animated", False):
            raise ValueError("it is an animation")  # an MPO has the same picture again
        opened.load()
        return _rgb(opened)


def _gif(path: Path) -> Iterator[np.ndarray]:
    """The frames of an animation, each whole."""
    from PIL import Image, ImageSequence

    given.check(path, fix=FIX)
    with (
        given.decoding(str(path), UNREADABLE, fix=FIX),
        Image.open(path, formats=("GIF",)) as opened,
    ):
        _check_size(*opened.size)
        for frame in ImageSequence.Iterator(opened):
            yield _rgb(frame)


def _rgb(image: "Image") -> np.ndarray:
    from PIL import Image, ImageOps

    image = ImageOps.exif_transpose(image)
    if image.mode.startswith(("I", "F")):
        deep = np.asarray(image)
        if deep.min() < 0 or deep.max() > 2**16 - 1:
            raise ValueError("its levels are not those of 16 bits")
        grey = np.rint(deep / 257).astype(np.uint8)  # 0xffff is 257 times 0xff
        image = Image.fromarray(grey)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        if np.asarray(image)[..., 3].min() < 255:
            raise ValueError("it is transparent in places, and what lies behind it is not known")
    return np.array(image.convert("RGB"))


@contextmanager
def _opened(video: Path) -> "Iterator[InputContainer]":
    import av

    given.check(video, fix=FIX)
    with (
        given.decoding(str(video), UNREADABLE, fix=FIX),
        av.open(str(video), options=dict(_CONTAINERS)) as container,
    ):
        yield container


def _video(video: Path) -> "Iterator[VideoFrame]":
    with _opened(video) as container:
        stream = container.streams.video[0]
        _check_size(stream.width, stream.height)
        stream.codec_context.options = {"max_pixels": str(MOST_PIXELS)}  # sizes may change
        yield from container.decode(stream)


def _upright(pixels: np.ndarray, frame: "VideoFrame") -> np.ndarray:
    """A frame [H,W,3] turned and mirrored as its file says, as players show it.

    The matrix of the file takes (x, y) to (a x + c y, b x + d y), y downwards, by quarter turns.
    """
    from av.sidedata.sidedata import Type

    matrix = cast("Any", frame.side_data).get(Type.DISPLAYMATRIX)  # typed for names alone
    if matrix is None:
        return pixels
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    if abs(b) > abs(a):
        pixels, a, d = pixels.swapaxes(0, 1), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _check_size(width: int, height: int) -> None:
    if width * height > MOST_PIXELS:
        raise ValueError(f"it is {width}x{height}, at most {MOST_PIXELS} pixels are read")


def natural(name: str) -> list[tuple[int, str]]:
    """What sorts names by the numbers in them."""
    parts = _NUMBER.split(name)
    return [(int(part), "") if i % 2 else (0, part) for i, part in enumerate(parts)]
